"""The benchmark's 130 tasks: suites, names, prompts, files; read from the installed package without importing it."""

import ast
import difflib
import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from rlgen.core.errors import UserError

# Control steps after settling, as in every public evaluation.
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
      name: the benchmark's file name without its suffix.
      index: index in the suite, in the benchmark's order.
    """

    suite: str
    name: str
    index: int

    @property
    def id(self) -> str:
        """Returns `<suite>/<name>`."""
        return f"{self.suite}/{self.name}"

    @property
    def prompt(self) -> str:
        """Returns the instruction from the file name, which is the one that datasets and evaluations use."""
        return re.sub(r"^[A-Z][A-Z_]*SCENE\d+_", "", self.name).replace("_", " ")

    @property
    def horizon(self) -> int:
        """Returns the control steps allowed after settling."""
        return HORIZONS[self.suite]

    @property
    def bddl_file(self) -> Path:
        """Returns the path of the task file."""
        return package_folder() / "bddl_files" / self.suite / f"{self.name}.bddl"

    @property
    def initial_states_file(self) -> Path:
        """Returns the path of the stored initial states."""
        return package_folder() / "init_files" / self.suite / f"{self.name}.pruned_init"


@cache
def package_folder() -> Path:
    """Finds the folder `libero/libero` of the installed benchmark without importing it.

    An import would ask a question on standard input where no configuration exists.
    """
    spec = importlib.util.find_spec("libero")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package libero is not installed; `uv sync` or `pip install --no-deps hf-libero`")
    return Path(next(iter(spec.submodule_search_locations))) / "libero"


@cache
def all_tasks() -> tuple[Task, ...]:
    """Returns all tasks, in the benchmark's order."""
    source = (package_folder() / "benchmark" / "libero_suite_task_map.py").read_text()
    assignments = (node for node in ast.parse(source).body if isinstance(node, ast.Assign))
    task_map = next(ast.literal_eval(node.value) for node in assignments if node.targets[0].id == "libero_task_map")
    return tuple(Task(suite, name, index) for suite in HORIZONS for index, name in enumerate(task_map[suite]))


def find_task(text: str) -> Task:
    """Finds a task by `<suite>/<name>`, `<suite>/<index>`, name, instruction, or a unique part of a name.

    Raises:
      UserError: no task or several match; the message has similar names.
    """
    query = text.strip().lower()
    tasks = all_tasks()
    keys = {task: (task.id, f"{task.suite}/{task.index}", task.name, task.prompt) for task in tasks}
    exact = [task for task in tasks if query in (key.lower() for key in keys[task])]
    if len(exact) == 1:
        return exact[0]
    part = query.replace(" ", "_")
    partial = exact or [task for task in tasks if part in task.id.lower()]
    if len(partial) == 1:
        return partial[0]
    if partial:
        shown = ", ".join(task.id for task in partial[:4])
        raise UserError(f"task {text!r} is not unique, {len(partial)} match: {shown}; give <suite>/<name>")
    shown = ", ".join(task.id for task in _nearest(part, tasks))
    raise UserError(f"unknown task {text!r}; the nearest are: {shown}; `rlgen scenes list` lists all")


def find_tasks(*texts: str) -> list[Task]:
    """Finds the tasks of suites by their names, all tasks by `all`, and others as `find_task` does; each task once.

    Raises:
      UserError: as `find_task`.
    """
    found: list[Task] = []
    for text in texts:
        query = text.strip().lower()
        found += [task for task in all_tasks() if query in ("all", task.suite)] or [find_task(text)]
    return list(dict.fromkeys(found))


def find_demo_task(recorded: str, path: PurePosixPath | Path) -> Task | None:
    """Returns the task of a file of demonstrations, or None.

    Human demonstrations record paths of the machine that they were made on, some with the name of another suite. The
    task is looked up by the recorded id, then by the suite and name of the file, then by either name alone.

    Args:
      recorded: `<suite>/<name>` as the file has it, perhaps empty.
      path: of the file; its folder is named by the suite, perhaps with an ending such as `_no_noops`.
    """
    own = path.stem.removesuffix("_demo")
    by_id = {task.id: task for task in all_tasks()}
    suites = [suite for suite in HORIZONS if re.fullmatch(rf"{suite}(_\D.*)?", path.parent.name)]
    for task_id in (recorded, *(f"{suite}/{own}" for suite in suites)):
        if task_id in by_id:
            return by_id[task_id]
    for name in (recorded.rpartition("/")[2], own):
        named = [task for task in all_tasks() if task.name == name]
        if len(named) == 1:
            return named[0]
    return None


def _nearest(name: str, tasks: tuple[Task, ...], count: int = 3) -> list[Task]:
    """Returns the tasks whose names, or their beginnings, are most similar to a name, in its suite if it has one."""
    suite, _, name = name.rpartition("/")

    def similarity(task: Task) -> float:
        candidate = task.name.lower()
        parts = (candidate, candidate[: len(name) + 1])
        return max(difflib.SequenceMatcher(None, name, part).ratio() for part in parts)

    return sorted([task for task in tasks if task.suite == suite] or tasks, key=similarity, reverse=True)[:count]
