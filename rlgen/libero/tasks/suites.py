"""The benchmark's 130 tasks: suites, names, prompts, files. Reads the installed package, never imports it."""

import ast
import difflib
import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rlgen.core.errors import UserError

# Control steps after settling, as every public evaluation has them.
HORIZONS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}


@dataclass(frozen=True)
class Task:
    """One task of the benchmark.

    Attributes:
      suite: e.g. `libero_object`.
      name: the benchmark's file name without its ending.
      index: place in the suite, as the benchmark orders it.
    """

    suite: str
    name: str
    index: int

    @property
    def id(self) -> str:
        return f"{self.suite}/{self.name}"

    @property
    def prompt(self) -> str:
        """The instruction as the file name says it, which is what datasets and evaluations use."""
        return re.sub(r"^[A-Z][A-Z_]*SCENE\d+_", "", self.name).replace("_", " ")

    @property
    def horizon(self) -> int:
        """Control steps allowed after settling."""
        return HORIZONS[self.suite]

    @property
    def bddl_file(self) -> Path:
        return package_folder() / "bddl_files" / self.suite / f"{self.name}.bddl"

    @property
    def initial_states_file(self) -> Path:
        return package_folder() / "init_files" / self.suite / f"{self.name}.pruned_init"


@cache
def package_folder() -> Path:
    """The folder `libero/libero` of the installed benchmark, found without importing it.

    Importing it would ask a question on standard input where no configuration exists.
    """
    spec = importlib.util.find_spec("libero")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package libero is not installed: pip install hf-libero")
    return Path(next(iter(spec.submodule_search_locations))) / "libero"


@cache
def all_tasks() -> tuple[Task, ...]:
    """Every task, in the benchmark's order."""
    source = (package_folder() / "benchmark" / "libero_suite_task_map.py").read_text()
    assignments = (node for node in ast.parse(source).body if isinstance(node, ast.Assign))
    task_map = next(ast.literal_eval(node.value) for node in assignments if node.targets[0].id == "libero_task_map")
    return tuple(Task(suite, name, index) for suite in HORIZONS for index, name in enumerate(task_map[suite]))


def find_task(text: str) -> Task:
    """Finds a task by `<suite>/<name>`, `<suite>/<index>`, name, instruction, or a part of a name that only one has.

    Raises:
      UserError: no task or several match; the nearest names are given.
    """
    wanted = text.strip().lower()
    tasks = all_tasks()
    keys = {task: (task.id, f"{task.suite}/{task.index}", task.name, task.prompt) for task in tasks}
    exact = [task for task in tasks if wanted in (key.lower() for key in keys[task])]
    if len(exact) == 1:
        return exact[0]
    words = wanted.replace(" ", "_")
    partial = exact or [task for task in tasks if words in task.id.lower()]
    if len(partial) == 1:
        return partial[0]
    if partial:
        shown = ", ".join(task.id for task in partial[:4])
        raise UserError(f"task {text!r} is not unique, {len(partial)} match: {shown}; give <suite>/<name>")
    shown = ", ".join(task.id for task in _nearest(words, tasks))
    raise UserError(f"unknown task {text!r}; the nearest are: {shown}; `rlgen scenes list` lists all")


def find_tasks(text: str) -> list[Task]:
    """The tasks of a suite by its name, all by `all`, or one as `find_task` does.

    Raises:
      UserError: as `find_task`.
    """
    wanted = text.strip().lower()
    if wanted == "all":
        return list(all_tasks())
    return [task for task in all_tasks() if task.suite == wanted] or [find_task(text)]


def _nearest(words: str, tasks: tuple[Task, ...], count: int = 3) -> list[Task]:
    """The tasks whose names, or their beginnings, are most like `words`; of its suite if it names one."""
    suite, _, wanted = words.rpartition("/")

    def likeness(task: Task) -> float:
        name = task.name.lower()
        parts = (name, name[: len(wanted) + 1])
        return max(difflib.SequenceMatcher(None, wanted, part).ratio() for part in parts)

    return sorted([task for task in tasks if task.suite == suite] or tasks, key=likeness, reverse=True)[:count]
