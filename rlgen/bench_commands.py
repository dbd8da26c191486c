"""`rlgen bench env`, `rlgen bench sampler`, `rlgen bench update`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlgen.process import cache_folder, prepare_process


def run_bench(words: Sequence[str]) -> None:
    """`rlgen bench`: seconds and rates on this machine, as JSON."""
    parser = argparse.ArgumentParser(prog="rlgen bench", description="Benchmarks.")
    parser.add_argument("what", choices=["env", "sampler", "update"],
                        help="the environment, the samplers, or PPO's update")  # fmt: skip
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--assets", type=Path, help="env: folder of LIBERO's object assets")
    parser.add_argument("--standins", action="store_true", help="env: use the built-in stand-ins")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="env: all cores by default")
    parser.add_argument("--repetitions", type=int, default=10, help="sampler, update: timed runs of each case (10)")
    parser.add_argument("--quick", action="store_true", help="sampler, update: the smallest cases, to try")
    arguments = parser.parse_args(words)
    from rlgen.files import write_json

    report = {"env": _environment, "sampler": _sampler, "update": _update}[arguments.what](arguments)
    if arguments.json is not None:
        write_json(arguments.json, report)
    print(json.dumps(report, indent=1))


def _environment(arguments: argparse.Namespace) -> dict[str, Any]:
    from rlgen.bench import environments
    from rlgen.libero.assets import find_assets

    assets = find_assets(arguments.assets, standins=arguments.standins, cache=cache_folder())
    return environments.run(assets, cache_folder(), threads=arguments.threads, tell=_tell)


def _sampler(arguments: argparse.Namespace) -> dict[str, Any]:
    prepare_process()
    from rlgen.bench import samplers

    return samplers.run(repetitions=arguments.repetitions, quick=arguments.quick, tell=_tell)


def _update(arguments: argparse.Namespace) -> dict[str, Any]:
    prepare_process()
    from rlgen.bench import updates

    return updates.run(repetitions=arguments.repetitions, quick=arguments.quick, tell=_tell)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
