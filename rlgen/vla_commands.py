"""Commands about flow VLAs that need no run: fine-tuning, serving, evaluation, benchmark, merging."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from rlgen.errors import UserError
from rlgen.process import cache_folder, prepare_process

if TYPE_CHECKING:
    from rlgen.vla.policy import Policy


def run_fine_tune(words: Sequence[str]) -> None:
    """`rlgen vla-train --data DIR`: fine-tunes a model on exported datasets."""
    from rlgen.vla.fine_tune_config import FineTune
    from rlgen.vla.train_config import recipe

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--model", default=FineTune.model)
    chosen = first.parse_known_args(words)[0].model
    default = dataclasses.replace(FineTune(model=chosen), train=recipe(chosen))
    try:
        config = tyro.cli(FineTune, args=list(words), default=default, prog="rlgen vla-train")
    except ValueError as error:
        raise UserError(str(error)) from error
    prepare_process()
    from rlgen.vla.fine_tune import fine_tune

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
    from rlgen.vla.lora import merge_lora
    from rlgen.vla.model_folder import read_description, write_model
    from rlgen.vla.presets import without_lora
    from rlgen.vla.weights import load_params

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

    from rlgen.vla.server import PolicyServer, warm_up

    policy = _policy(arguments, powers=True)
    _tell("compiling")
    warm_up(policy)
    metadata = {"robot": "libero", "action_horizon": policy.config.horizon, "policy": str(arguments.policy)}
    server = PolicyServer(policy, metadata, seed=arguments.seed)
    where = arguments.host

    def ready(port: int) -> None:
        _tell(f"serving {arguments.policy} on {where}:{port}")

    asyncio.run(server.run(arguments.host, arguments.port, ready))


def run_evaluate(words: Sequence[str]) -> None:
    """`rlgen evaluate TASK --policy MODEL` or `--server HOST:PORT`: success by the public protocol."""
    parser = argparse.ArgumentParser(
        prog="rlgen evaluate", description="Success of a policy on tasks by the public protocol; the same command "
        "goes on where it was interrupted."
    )  # fmt: skip
    parser.add_argument("tasks", nargs="+", help="suite and number, name, instruction, a whole suite, or all")
    parser.add_argument("--policy", type=Path, help="model folder, or an openpi checkpoint with --preset")
    parser.add_argument("--server", help="host:port of a policy server, ours or openpi's, instead")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluation"), help="folder (runs/evaluation)")
    parser.add_argument("--trials", type=int, default=50, help="episodes of each task (50)")
    parser.add_argument("--replan", type=int, default=5, help="actions before the policy is asked again (5)")
    parser.add_argument("--picture-size", type=int, default=256, help="pixels a side as drawn (256)")
    parser.add_argument("--view", choices=["fast", "benchmark"], default="fast", help="how pictures are drawn (fast)")
    parser.add_argument("--physics", choices=["exact", "fast"], default="exact", help="(exact)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--width", type=int, default=25, help="environments at once (25)")
    parser.add_argument("--connections", type=int, default=8, help="to a server (8)")
    parser.add_argument("--videos", type=int, default=3, help="failures of each task to keep as GIFs (3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="all cores by default")
    parser.add_argument("--assets", type=Path, help="folder of LIBERO's object assets")
    parser.add_argument("--standins", action="store_true", help="use the built-in stand-ins")
    _add_model_options(parser)
    arguments = parser.parse_args(words)
    if (arguments.policy is None) == (arguments.server is None):
        raise UserError("pass either --policy MODEL or --server HOST:PORT")
    for name in ("width", "connections", "threads"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}, expected 1 or more")
    prepare_process()
    from functools import lru_cache

    from rlgen.evaluation.asking import InProcess, Remote
    from rlgen.evaluation.protocol import Protocol
    from rlgen.evaluation.run import evaluate
    from rlgen.libero.assets import find_assets
    from rlgen.libero.bundles import load_scene
    from rlgen.libero.tasks import find_tasks

    fields = ("trials", "replan", "picture_size", "view", "physics", "seed")
    protocol = Protocol(**{name: getattr(arguments, name) for name in fields})
    tasks = list(dict.fromkeys(task for name in arguments.tasks for task in find_tasks(name)))
    cache = cache_folder()
    assets = find_assets(arguments.assets, standins=arguments.standins, cache=cache, tell=_tell)
    if arguments.server is not None:
        asked = Remote(arguments.server, arguments.connections)
    else:
        asked = InProcess(_policy(arguments, powers=False), str(arguments.policy))
    told = evaluate(
        asked,
        tasks,
        lru_cache(lambda task: load_scene(task, assets, cache)),
        protocol,
        arguments.out,
        width=arguments.width,
        threads=arguments.threads,
        videos=arguments.videos,
        tell=_tell,
    )
    asked.close()
    print(json.dumps(told["all"]))
    print(f"{arguments.out / 'report.md'}: the report")


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
    from rlgen.bench import vla
    from rlgen.vla import presets
    from rlgen.vla.open_dataset import open_frames
    from rlgen.vla.train_config import recipe

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
    _add_model_options(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", help="model of an openpi checkpoint, such as pi05_libero")
    parser.add_argument("--tokenizer", help="its SentencePiece model, paligemma_tokenizer.model")
    parser.add_argument("--norm-stats", type=Path, help="its norm_stats.json, where its assets hold none or several")
    parser.add_argument("--steps", type=int, default=10, help="Euler steps of sampling (10)")
    parser.add_argument("--batch", type=int, default=8, help="most observations a call of the model (8)")


def _policy(arguments: argparse.Namespace, *, powers: bool) -> "Policy":
    from rlgen.vla.open_policy import open_policy

    for name in ("steps", "batch"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}, expected 1 or more")
    names = ("preset", "tokenizer", "norm_stats", "steps", "batch")
    return open_policy(arguments.policy, powers=powers, **{name: getattr(arguments, name) for name in names})


def _report(value: dict[str, Any], path: Path | None) -> None:
    from rlgen.files import write_json

    if path is not None:
        write_json(path, value)
    print(json.dumps(value, indent=1))


VLA_COMMANDS = {"vla-merge": run_merge, "vla-serve": run_serve}
VLA_BENCHES = {"vla": run_bench_vla, "serve": run_bench_serve}
