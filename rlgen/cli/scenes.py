"""Commands about the world, which need no run: `rlgen tasks`, `rlgen premises`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlgen.core.process import cache_folder

if TYPE_CHECKING:
    from rlgen.libero.scenes.assets import AssetSource


def list_tasks(words: Sequence[str]) -> None:
    """`rlgen tasks`: the benchmark's tasks with prompt, goal, number of objects and horizon."""
    parser = argparse.ArgumentParser(prog="rlgen tasks", description="The benchmark's tasks.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    as_json = parser.parse_args(words).json
    from rlgen.libero.tasks.bddl import read_problem
    from rlgen.libero.tasks.suites import all_tasks

    problems = {task: read_problem(task.bddl_file) for task in all_tasks()}
    if as_json:
        rows = [
            {
                **{"id": task.id, "suite": task.suite, "index": task.index, "prompt": task.prompt},
                **{"goal": problem.goal, "objects": len(problem.objects), "horizon": task.horizon},
            }
            for task, problem in problems.items()
        ]
        print(json.dumps(rows, indent=1))
        return
    for task, problem in problems.items():
        goal = " and ".join(f"{atom[0]}({', '.join(atom[1:])})" for atom in problem.goal)
        numbers = f"{len(problem.objects)} objects, {task.horizon} steps"
        print(f"{task.suite}/{task.index}\t{task.prompt}\t{goal}\t{numbers}")


def list_broken_reset_states(words: Sequence[str]) -> None:
    """`rlgen premises`: stored initial states that are not what their task says, in the MuJoCo in use."""
    parser = argparse.ArgumentParser(
        prog="rlgen premises",
        description="Settles every stored initial state and lists those that are not what their task file says.",
    )
    parser.add_argument("tasks", nargs="*", help="suite and number, name or instruction; all by default")
    parser.add_argument("--json", type=Path, help="file for the list")
    _add_assets(parser)
    arguments = parser.parse_args(words)
    import mujoco

    from rlgen.core.files import write_json
    from rlgen.libero.envs.reset_check import check_reset_states
    from rlgen.libero.scenes.bundles import build_scene_bundles
    from rlgen.libero.scenes.scene import load_scene_bundle
    from rlgen.libero.tasks.suites import all_tasks, find_task

    tasks = [find_task(name) for name in arguments.tasks] or all_tasks()
    assets, cores = _assets(arguments), os.cpu_count() or 1
    found = {}
    for task, folder in zip(tasks, build_scene_bundles(tasks, assets, cache_folder(), workers=cores), strict=True):
        broken = check_reset_states(load_scene_bundle(folder), threads=cores)
        for state, atoms in broken.items():
            print(f"{task.suite}/{task.index}\tstate {state}\t{'; '.join(atoms)}")
        found |= {f"{task.suite}/{task.index}": broken} if broken else {}
    states = sum(map(len, found.values()))
    print(f"{states} states of {len(found)} of {len(tasks)} tasks; MuJoCo {mujoco.__version__}", file=sys.stderr)
    if arguments.json is not None:
        head = {"mujoco": mujoco.__version__, "assets": assets.label, "tasks": len(tasks), "states": states}
        write_json(arguments.json, {**head, "broken": found})


def _add_assets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--assets", type=Path, help="folder of LIBERO's object assets")
    parser.add_argument("--placeholders", action="store_true", help="use the built-in stand-ins")


def _assets(arguments: argparse.Namespace) -> "AssetSource":
    from rlgen.libero.scenes.assets import find_assets

    return find_assets(arguments.assets, placeholders=arguments.placeholders, cache=cache_folder())


WORLD_COMMANDS = {"tasks": list_tasks, "premises": list_broken_reset_states}
