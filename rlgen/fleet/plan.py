"""The plan of a fleet, `fleet.json`: which tasks, from which source, with which settings.

Every job reads it and nothing else, so that its bytes do not depend on who started it. What is no part of it, the
engine and the number of jobs at a time, changes no byte (with `together` above 1: no number beyond rounding) and may
differ whenever the command is repeated.

    DIR/fleet.json                        the plan
    DIR/tasks/libero_spatial-05/0         the run of the first try, from the seed of the plan; 1 is the second one
    DIR/tasks/libero_spatial-05/ledger.jsonl, log.txt, clips/
    DIR/datasets/                         the datasets of all suites
    DIR/index.html                        the page
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rlgen.configs.aliases import upgrade
from rlgen.configs.differences import differences
from rlgen.configs.presets import fit_to
from rlgen.configs.schema import Config
from rlgen.configs.stored import from_json, to_json
from rlgen.core.errors import UserError, first_line
from rlgen.core.files import read_json, write_json
from rlgen.core.ownership import OutputKind, is_vacant, read_record
from rlgen.data.writer import DATASET
from rlgen.libero.tasks.suites import Task, all_tasks, find_task
from rlgen.pipeline.stages import RUN
from rlgen.training.run import FORMAT as RUN_FORMAT
from rlgen.training.run import RECORD as RUN_RECORD

RECORD = "fleet.json"
MARK = "rlgen-fleet"
FORMAT = 1
# Between the seeds of two tries of a task: fleets from seeds 0, 1 and 2 share none.
SEEDS_APART = 1000

# Who acts in the episodes of the datasets: the expert by either algorithm, its clone, or the scripted expert.
Source = Literal["diffusion", "gaussian", "clone", "scripted"]
SOURCES: tuple[Source, ...] = get_args(Source)
_STAGES = {
    "diffusion": ("demos", "bc", "ppo", "collect"),
    "gaussian": ("demos", "bc", "ppo", "collect"),
    "clone": ("demos", "bc", "collect"),
    "scripted": ("demos",),
}
_OF_A_TASK = ("ledger.jsonl", "running.json", "log.txt", "clips/*.gif", f"*/{RUN_RECORD}")
FLEET = OutputKind(
    "a fleet",
    "--out",
    RECORD,
    lambda value: isinstance(value, dict) and value.get("kind") == MARK,
    (
        "index.html",
        "launch/*",
        *(f"tasks/*/{pattern}" for pattern in _OF_A_TASK),
        *(f"tasks/*/*/{pattern}" for pattern in RUN.entries),
        "datasets/made.json",
        "datasets/*.checked.jsonl",
        "datasets/*.tfrecord-*",
        *(f"datasets/*/{pattern}" for pattern in (DATASET.record, *DATASET.entries)),
    ),
)


@dataclass(frozen=True)
class FleetPlan:
    """The settings of all jobs of a fleet.

    Attributes:
      tasks: ids, in the benchmark's order.
      source: who acts in the episodes.
      tries: runs of a task, each from another seed, after which it is given up.
      config: of every run, but for its task and its seed, and the chunks of an iteration.
      fit_chunks: whether an iteration has as many chunks as an episode of the task; else as the configuration says.
      assets: kind, path and label of the object assets.
      together: experts that a job trains in one program. Part of the plan, because the numbers of an expert in a group
        are those alone only to rounding.
    """

    tasks: tuple[str, ...]
    source: Source
    tries: int
    config: Config
    fit_chunks: bool
    assets: dict[str, Any]
    together: int = 1

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages of each run, in order."""
        return _STAGES[self.source]

    @property
    def threads(self) -> int:
        """Cores of a job: part of the plan and not of the machine."""
        return self.config.workers

    def seed(self, number: int) -> int:
        """Returns the seed of a task's try, counted from 0."""
        return self.config.seed + SEEDS_APART * number

    def run_config(self, task: Task, number: int) -> Config:
        """Returns the configuration of the run of a task's try.

        Args:
          task: of the run.
          number: of the try, from 0.
        """
        config = replace(self.config, task=task.id, seed=self.seed(number))
        return fit_to(config, task.horizon) if self.fit_chunks else config

    def to_json(self) -> dict[str, Any]:
        """Returns the record of the plan."""
        return {
            "kind": MARK,
            "format": FORMAT,
            "tasks": list(self.tasks),
            "source": self.source,
            "tries": self.tries,
            "together": self.together,
            "fit_chunks": self.fit_chunks,
            "assets": self.assets,
            "run_format": RUN_FORMAT,
            "config": to_json(self.config),
        }


def make_plan(
    tasks: Iterable[Task],
    config: Config,
    *,
    source: Source,
    tries: int,
    assets: dict[str, Any],
    fit_chunks: bool = True,
    demonstrations: int | None = None,
    clean: bool = False,
    together: int = 1,
) -> FleetPlan:
    """Returns the plan of a fleet.

    Args:
      tasks: at least one.
      config: of every run.
      source: who acts in the episodes; it decides on the algorithm, and what is collected.
      tries: runs of a task before it is given up.
      assets: kind, path and label of the object assets.
      fit_chunks: as of `FleetPlan`.
      demonstrations: number that the user asked for; the scripted expert's are as many as episodes are collected
        otherwise, if None.
      clean: whether the episodes of the source `scripted` are straight and steady instead of human-like, which is what
        an expert's episodes are compared with.
      together: experts that a job trains in one program.

    Raises:
      UserError: several cannot be with these settings.
    """
    order = {task: place for place, task in enumerate(all_tasks())}
    ids = tuple(task.id for task in sorted(set(tasks), key=order.__getitem__))
    if source in ("diffusion", "gaussian"):
        config = replace(config, policy=replace(config.policy, algorithm=source))
    if source == "scripted":
        count = config.collect.episodes if demonstrations is None else demonstrations
        config = replace(config, demos=replace(config.demos, episodes=count, clean=clean))
    if source == "clone":
        config = replace(config, collect=replace(config.collect, source="clone"))
    if together > 1:
        _check_together(together, source, config)
    return FleetPlan(ids, source, tries, config, fit_chunks, assets, together)


def _check_together(together: int, source: Source, config: Config) -> None:
    """Raises `UserError` where several experts cannot be trained in one program."""
    problem = None
    if "ppo" not in _STAGES[source]:
        problem = f"--source {source}: expected 1, as nothing but PPO is"
    elif config.ppo.world != "cpu":
        problem = f"ppo.world {config.ppo.world}: expected cpu"
    elif config.ppo.groups > 1:
        problem = f"ppo.groups {config.ppo.groups}: expected 1"
    if problem is not None:
        raise UserError(f"--together {together}, several experts trained in one program, with {problem}")


def open_plan(folder: Path) -> FleetPlan:
    """Reads the plan of a fleet.

    Raises:
      UserError: there is none, or it is damaged or of another version.
    """
    if not FLEET.owns(folder):
        raise UserError(f"{folder} holds no fleet; start one with `rlgen fleet TASKS --out {folder}`")
    try:
        record = read_json(folder / RECORD)
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']} is of another version")
        config = from_json(upgrade(record["config"], record["run_format"]))
        tasks = tuple(find_task(task).id for task in record["tasks"])
        # The first fleets had no groups.
        tries, together = record["tries"], record.get("together", 1)
        if record["source"] not in SOURCES or not tasks or not 1 <= tries <= 1000 or not 1 <= together <= 100_000:
            raise ValueError("its tasks, source, tries or together are none")
        fit_chunks, assets = bool(record["fit_chunks"]), record["assets"]
        return FleetPlan(tasks, record["source"], tries, config, fit_chunks, assets, together)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"{folder / RECORD} cannot be read: {reason}; choose another --out") from error


def store_plan(folder: Path, plan: FleetPlan) -> list[str]:
    """Stores the plan of a folder that is vacant, or goes on with the one that is there.

    A plan that is there may get more tasks and another number of tries: jobs that have ended stay as they are.

    Args:
      folder: of the fleet.
      plan: to store.

    Returns:
      What has changed in a plan that was there.

    Raises:
      UserError: the folder holds something else, or a fleet with other settings, which are named.
    """
    if not FLEET.owns(folder):
        if not is_vacant(folder):
            raise UserError(f"{folder} exists and holds no fleet; choose another --out")
        write_json(folder / RECORD, plan.to_json())
        return []
    stored = open_plan(folder).to_json()
    changed = differences(stored, plan.to_json())
    missing = [task for task in stored["tasks"] if task not in plan.tasks]
    others = [text for text in changed if text.partition(" ")[0] not in ("tasks", "tries")]
    if missing or others:
        named = others or [f"tasks without {', '.join(missing[:3])}"]
        raise UserError(
            f"{', '.join(named)}: other than what {folder} was started with; choose another --out, or begin anew "
            "with --overwrite"
        )
    if changed:
        write_json(folder / RECORD, plan.to_json())
    return [f"{len(plan.tasks)} tasks" if text.startswith("tasks ") else text for text in changed]


def task_folder(root: Path, task: Task) -> Path:
    """Returns the folder of a task in the folder of a fleet."""
    return root / "tasks" / f"{task.suite}-{task.index:02d}"


def run_folder(root: Path, task: Task, number: int) -> Path:
    """Returns the folder of the run of a task's try.

    Args:
      root: folder of the fleet.
      task: of the run.
      number: of the try, from 0.
    """
    return task_folder(root, task) / str(number)


def tasks_of(plan: FleetPlan) -> list[Task]:
    """Returns the tasks of a plan."""
    return [find_task(task) for task in plan.tasks]


def is_fleet(folder: Path) -> bool:
    """Returns whether a folder holds a fleet; a damaged record, which `open_plan` names, counts as one."""
    return FLEET.owns(folder) or ((folder / RECORD).is_file() and read_record(folder / RECORD) is None)
