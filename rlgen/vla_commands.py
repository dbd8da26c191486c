"""Commands about flow VLAs that need no run: fine-tuning, serving, evaluation, benchmark, merging."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from rlgen.errors import UserError
from rlgen.process import prepare_process


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


VLA_COMMANDS = {"vla-merge": run_merge}
