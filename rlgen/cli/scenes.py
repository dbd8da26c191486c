"""`rlgen scenes`: the benchmark's tasks and their initial states."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlgen.cli.common import AssetGroup, AssetOptions, TaskWords, check_report, cores, log, parse
from rlgen.core.process import cache_folder


@dataclass(frozen=True)
class ListArguments:
    """Options of `rlgen scenes list`."""

    json: bool = False
    """Print JSON."""


def list_tasks(argv: Sequence[str]) -> None:
    """Lists the benchmark's tasks with prompt, goal, number of objects and horizon."""
    as_json = parse(ListArguments, argv, "rlgen scenes list", list_tasks.__doc__ or "").json
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
        sizes = f"{len(problem.objects)} objects, {task.horizon} steps"
        print(f"{task.suite}/{task.index}\t{task.prompt}\t{goal}\t{sizes}")


@dataclass(frozen=True)
class CheckArguments:
    """Options of `rlgen scenes check`."""

    tasks: TaskWords = ()
    """Suites, suite and index, names, or instructions; all by default."""
    json: Path | None = None
    """File for the list."""
    objects: AssetGroup = field(default_factory=AssetOptions)


def check(argv: Sequence[str]) -> None:
    """Settles every stored initial state and lists those that are not what their task file says."""
    arguments = parse(CheckArguments, argv, "rlgen scenes check", check.__doc__ or "")
    check_report(arguments.json, "mujoco", "states", "broken")
    import mujoco

    from rlgen.core.files import write_json
    from rlgen.libero.envs.reset_check import check_reset_states
    from rlgen.libero.scenes.bundles import build_scene_bundles
    from rlgen.libero.scenes.scene import load_scene_bundle
    from rlgen.libero.tasks.suites import find_tasks

    tasks = find_tasks(*(arguments.tasks or ("all",)))
    assets, found = arguments.objects.find(), {}
    for task, folder in zip(tasks, build_scene_bundles(tasks, assets, cache_folder(), workers=cores()), strict=True):
        failed = check_reset_states(load_scene_bundle(folder), threads=cores())
        for state, atoms in failed.items():
            print(f"{task.suite}/{task.index}\tstate {state}\t{'; '.join(atoms)}")
        found |= {f"{task.suite}/{task.index}": failed} if failed else {}
    states = sum(map(len, found.values()))
    log(f"{states} states of {len(found)} of {len(tasks)} tasks; MuJoCo {mujoco.__version__}")
    if arguments.json is not None:
        head = {"mujoco": mujoco.__version__, "assets": assets.label, "tasks": len(tasks), "states": states}
        write_json(arguments.json, {**head, "broken": found})
