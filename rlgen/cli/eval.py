"""`rlgen evaluate TASK --policy MODEL` or `--server HOST:PORT`: success of a policy, without a run."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from rlgen.cli.vla import add_model_options, policy_from
from rlgen.core.errors import UserError
from rlgen.core.process import cache_folder, prepare_process


def _parser() -> argparse.ArgumentParser:
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
    parser.add_argument("--image-size", type=int, default=256, help="pixels a side as drawn (256)")
    parser.add_argument("--renderer", choices=["fast", "benchmark"], default="fast", help="of the images (fast)")
    parser.add_argument("--physics", choices=["exact", "fast"], default="exact", help="(exact)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--width", type=int, default=25, help="environments at once (25)")
    parser.add_argument("--connections", type=int, default=8, help="to a server (8)")
    parser.add_argument("--videos", type=int, default=3, help="failures of each task to keep as GIFs (3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="all cores by default")
    parser.add_argument("--assets", type=Path, help="folder of LIBERO's object assets")
    parser.add_argument("--placeholders", action="store_true", help="use the built-in stand-ins")
    add_model_options(parser)
    return parser


def run_evaluate(words: Sequence[str]) -> None:
    """Evaluates a policy on tasks by the public protocol."""
    arguments = _parser().parse_args(words)
    if (arguments.policy is None) == (arguments.server is None):
        raise UserError("pass either --policy MODEL or --server HOST:PORT")
    for name in ("width", "connections", "threads"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}, expected 1 or more")
    prepare_process()
    from rlgen.evaluation.backends import InProcessBackend, ServerBackend
    from rlgen.evaluation.evaluate import evaluate
    from rlgen.evaluation.protocol import Protocol
    from rlgen.libero.scenes.assets import find_assets
    from rlgen.libero.scenes.bundles import load_scene
    from rlgen.libero.tasks.suites import find_tasks

    fields = ("trials", "replan", "image_size", "renderer", "physics", "seed")
    protocol = Protocol(**{name: getattr(arguments, name) for name in fields})
    tasks = list(dict.fromkeys(task for name in arguments.tasks for task in find_tasks(name)))
    cache = cache_folder()
    assets = find_assets(arguments.assets, placeholders=arguments.placeholders, cache=cache, log=_tell)
    if arguments.server is not None:
        asked = ServerBackend(arguments.server, arguments.connections)
    else:
        asked = InProcessBackend(policy_from(arguments, powers=False), str(arguments.policy))
    told = evaluate(
        asked,
        tasks,
        lru_cache(lambda task: load_scene(task, assets, cache)),
        protocol,
        arguments.out,
        width=arguments.width,
        threads=arguments.threads,
        videos=arguments.videos,
        log=_tell,
    )
    asked.close()
    print(json.dumps(told["all"]))
    print(f"{arguments.out / 'report.md'}: the report")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
