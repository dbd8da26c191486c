"""`rlgen bench WHAT`: seconds and rates on this machine, as JSON."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlgen.bench import dataset, env, samplers, updates
from rlgen.cli.vla import run_bench_serve, run_bench_vla
from rlgen.core.errors import UserError
from rlgen.core.process import cache_folder, prepare_process


def run_bench(words: Sequence[str]) -> None:
    """Runs the benchmark that is named first.

    Raises:
      UserError: there is none of that name.
    """
    if not words or words[0].startswith("-"):
        print(__doc__, "\n".join(f"  rlgen bench {name} --help" for name in BENCHES), sep="\n\n")
    elif words[0] not in BENCHES:
        raise UserError(f"unknown benchmark {words[0]!r}, expected one of {', '.join(BENCHES)}")
    else:
        BENCHES[words[0]](words[1:])


def _environment(words: Sequence[str]) -> None:
    parser = _parser("env", "Control steps and pictures a second, beside the benchmark's own environment.")
    parser.add_argument("--assets", type=Path, help="folder of LIBERO's object assets")
    parser.add_argument("--placeholders", action="store_true", help="use the built-in stand-ins")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="all cores by default")
    arguments = parser.parse_args(words)
    from rlgen.libero.scenes.assets import find_assets

    assets = find_assets(arguments.assets, placeholders=arguments.placeholders, cache=cache_folder())
    _report(arguments, env.run(assets, cache_folder(), threads=arguments.threads, tell=_tell))


def _sampler(words: Sequence[str]) -> None:
    arguments = _repeated("sampler", "Seconds of every sampler, by steps, batch and chunk.", words)

    _report(arguments, samplers.run(repetitions=arguments.repetitions, quick=arguments.quick, tell=_tell))


def _update(words: Sequence[str]) -> None:
    arguments = _repeated("update", "Seconds of PPO's update, and the memory that it takes.", words)

    _report(arguments, updates.run(repetitions=arguments.repetitions, quick=arguments.quick, tell=_tell))


def _repeated(name: str, description: str, words: Sequence[str]) -> argparse.Namespace:
    parser = _parser(name, description)
    parser.add_argument("--repetitions", type=int, default=10, help="timed runs of each case (10)")
    parser.add_argument("--quick", action="store_true", help="the smallest cases, to try")
    arguments = parser.parse_args(words)
    prepare_process()
    return arguments


def _dataset(words: Sequence[str]) -> None:
    parser = _parser("dataset", "Writing and loading datasets, tensorflow_datasets beside ours.")
    parser.add_argument("--quick", action="store_true", help="tiny: that it runs, not what it takes")
    arguments = parser.parse_args(words)

    tiny = {"episodes": 4, "steps": 20, "size": 64, "resized": 32, "batches": 2, "batch": 8, "repetitions": 1}
    _report(arguments, dataset.run(dataset.SETUP | (tiny if arguments.quick else {}), _tell))


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"rlgen bench {name}", description=description)
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser


def _report(arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    from rlgen.core.files import write_json

    if arguments.json is not None:
        write_json(arguments.json, report)
    print(json.dumps(report, indent=1))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


BENCHES = {
    "env": _environment,
    "sampler": _sampler,
    "update": _update,
    "dataset": _dataset,
    "vla": run_bench_vla,
    "serve": run_bench_serve,
}
