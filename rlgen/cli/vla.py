"""Commands about flow VLAs that need no run: fine-tuning, serving, benchmarks, merging."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from rlgen.bench import vla
from rlgen.core.errors import UserError
from rlgen.core.process import prepare_process
from rlgen.vla.model import presets

if TYPE_CHECKING:
    from rlgen.vla.serving.policy import Policy


def run_fine_tune(words: Sequence[str]) -> None:
    """`rlgen vla-train --data DIR`: fine-tunes a model on exported datasets."""
    from rlgen.vla.training.config import FineTune, recipe

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--model", default=FineTune.model)
    chosen = first.parse_known_args(words)[0].model
    default = dataclasses.replace(FineTune(model=chosen), train=recipe(chosen))
    try:
        config = tyro.cli(FineTune, args=list(words), default=default, prog="rlgen vla-train")
    except ValueError as error:
        raise UserError(str(error)) from error
    prepare_process()
    from rlgen.vla.training.fine_tune import fine_tune

    fine_tune(config, tell=_tell)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run_merge(words: Sequence[str]) -> None:
    """`rlgen vla-merge MODEL OUT`: a model whose adapters are part of its weights."""
    parser = argparse.ArgumentParser(
        prog="rlgen vla-merge", description="Merges a model's adapters into its weights; openpi reads the result."
    )
    parser.add_argument("model", type=Path, help="model folder, as `rlgen vla-train --data` writes it")
    parser.add_argument("out", type=Path, help="folder for the merged model")
    arguments = parser.parse_args(words)
    prepare_process()
    from rlgen.vla.checkpoints.model_folder import read_description, write_model
    from rlgen.vla.checkpoints.weights import load_params
    from rlgen.vla.model.lora import merge_lora
    from rlgen.vla.model.presets import without_lora

    config, spec, stats = read_description(arguments.model)
    if config.language.lora is None and config.action.lora is None:
        raise UserError(f"{arguments.model} has no adapters; it can be used as it is")
    merged = merge_lora(config, load_params(config, arguments.model))
    write_model(arguments.out, without_lora(config), spec, stats, merged)
    print(f"{arguments.out}: the merged model")


def run_serve(words: Sequence[str]) -> None:
    """`rlgen vla-serve MODEL`: a policy server that openpi's clients speak to."""
    parser = argparse.ArgumentParser(
        prog="rlgen vla-serve", description="Serves a model to openpi's clients; /healthz and /metrics by HTTP."
    )
    _add_policy(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; only this machine by default")
    parser.add_argument("--port", type=int, default=8000, help="(8000)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    arguments = parser.parse_args(words)
    prepare_process()
    import asyncio

    from rlgen.vla.serving.server import PolicyServer, warm_up

    policy = policy_from(arguments, powers=True)
    _tell("compiling")
    warm_up(policy)
    metadata = {"robot": "libero", "action_horizon": policy.config.horizon, "policy": str(arguments.policy)}
    server = PolicyServer(policy, metadata, seed=arguments.seed)
    where = arguments.host

    def ready(port: int) -> None:
        _tell(f"serving {arguments.policy} on {where}:{port}")

    try:
        asyncio.run(server.run(arguments.host, arguments.port, ready))
    except OSError as error:
        raise UserError(f"{where}:{arguments.port}: {error.strerror}; choose another --host or --port") from error


def run_bench_vla(words: Sequence[str]) -> None:
    """`rlgen bench vla`: training steps of a preset on the device at hand."""
    parser = argparse.ArgumentParser(prog="rlgen bench vla", description="Training steps on the device at hand.")
    parser.add_argument("--preset", default="small", help="model (small)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--data", type=Path, help="dataset folder; synthetic JPEGs by default")
    parser.add_argument("--batch", type=int, help="frames a step; the recipe's by default")
    parser.add_argument("--accumulate", type=int, default=1, help="parts of a batch (1)")
    parser.add_argument("--trainable", choices=["all", "lora", "expert"], help="the recipe's by default")
    parser.add_argument("--moments", choices=["float32", "bfloat16"], default="float32", help="AdamW's first (float32)")
    parser.add_argument("--no-ema", action="store_true", help="keep no average")
    parser.add_argument("--no-remat", action="store_true", help="keep all activations")
    parser.add_argument("--no-augment", action="store_true", help="no picture augmentation")
    parser.add_argument("--steps", type=int, default=20, help="steps a block (20)")
    parser.add_argument("--fsdp", type=int, default=1, help="devices that share each parameter (1)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="that decode; all cores by default")
    arguments = parser.parse_args(words)
    prepare_process()
    from rlgen.vla.data.frames import open_frames
    from rlgen.vla.training.config import recipe

    name = arguments.preset
    config, train = presets.preset(name), recipe(name)
    config = dataclasses.replace(config, remat=name not in ("small", "tiny") and not arguments.no_remat)
    changes = {key: getattr(arguments, key) for key in ("batch", "trainable") if getattr(arguments, key) is not None}
    if arguments.no_ema:
        changes["ema"] = None
    if arguments.no_augment:
        changes["augment"] = False
    try:
        train = dataclasses.replace(train, accumulate=arguments.accumulate, moments=arguments.moments, **changes)
    except ValueError as error:
        raise UserError(str(error)) from error
    frames = None if arguments.data is None else open_frames(arguments.data, config.image_size, arguments.threads)
    options = {"steps": arguments.steps, "fsdp": arguments.fsdp, "threads": arguments.threads}
    _report(vla.run(name, config, train, frames=frames, tell=_tell, **options), arguments.json)


def run_bench_serve(words: Sequence[str]) -> None:
    """`rlgen bench serve`: a policy server under load."""
    parser = argparse.ArgumentParser(
        prog="rlgen bench serve", description="Clients at once, one more that sends garbage: answers and latencies."
    )
    parser.add_argument("--preset", default="tiny", help="model, with fresh parameters (tiny)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--clients", type=int, default=8, help="(8)")
    parser.add_argument("--requests", type=int, default=1000, help="(1000)")
    parser.add_argument("--batch", type=int, default=8, help="most observations a call of the model (8)")
    arguments = parser.parse_args(words)
    prepare_process()
    from rlgen.bench.serve import run_preset

    counts = {"clients": arguments.clients, "requests": arguments.requests, "batch": arguments.batch}
    _report(run_preset(arguments.preset, **counts), arguments.json)


def _add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", type=Path, help="model folder, or an openpi checkpoint with --preset")
    add_model_options(parser)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options of how a policy is opened."""
    parser.add_argument("--preset", help="model of an openpi checkpoint, such as pi05_libero")
    parser.add_argument("--tokenizer", help="its SentencePiece model, paligemma_tokenizer.model")
    parser.add_argument("--norm-stats", type=Path, help="its norm_stats.json, where its assets hold none or several")
    parser.add_argument("--steps", type=int, default=10, help="Euler steps of sampling (10)")
    parser.add_argument("--batch", type=int, default=8, help="most observations a call of the model (8)")


def policy_from(arguments: argparse.Namespace, *, powers: bool) -> "Policy":
    """The policy that a command line names."""
    from rlgen.vla.serving.policy import open_policy

    for name in ("steps", "batch"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}, expected 1 or more")
    names = ("preset", "tokenizer", "norm_stats", "steps", "batch")
    return open_policy(arguments.policy, powers=powers, **{name: getattr(arguments, name) for name in names})


def _report(value: dict[str, Any], path: Path | None) -> None:
    from rlgen.core.files import write_json

    if path is not None:
        write_json(path, value)
    print(json.dumps(value, indent=1))
