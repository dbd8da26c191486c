"""The datasets of a fleet: the episodes of all tasks that are done, a dataset for each suite, in the order of tasks.

Their bytes follow from the runs alone: not from who ran them, nor in which order they ended.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlgen.core.files import write_json
from rlgen.core.ownership import has_keys, read_record
from rlgen.curation.card import note_missing_tasks
from rlgen.curation.export import ExportOptions, export_paths
from rlgen.curation.render import RenderOptions
from rlgen.curation.validate import Validator, content_hash
from rlgen.data.shards import file_sha256
from rlgen.fleet.ledger import TaskState, read_state
from rlgen.fleet.plan import FleetPlan, run_folder, tasks_of
from rlgen.libero.scenes.assets import AssetSource, fingerprint
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.tasks.suites import Task

FOLDER = "datasets"
# What was exported last: a fleet that has not changed since is not replayed and rendered again.
MADE = "made.json"


@dataclass(frozen=True)
class Assembled:
    """The datasets of a fleet.

    Attributes:
      folders: of the datasets.
      states: of all tasks.
      anew: whether they were written now.
    """

    folders: list[Path]
    states: list[TaskState]
    anew: bool


def read_states(root: Path, plan: FleetPlan) -> list[TaskState]:
    """Returns how far each task of a fleet is, in the order of the plan."""
    now = time.time()
    return [read_state(root, plan, task, now) for task in tasks_of(plan)]


def assemble(
    root: Path,
    plan: FleetPlan,
    cache: Path,
    *,
    workers: int,
    assets: AssetSource,
    on_progress: Callable[[str, int, int], None],
) -> Assembled:
    """Exports the episodes of all tasks that are done, a dataset for each suite.

    Args:
      root: folder of the fleet.
      plan: of the fleet.
      cache: folder of scenes.
      workers: threads, which change no byte.
      assets: object assets of the fleet.
      on_progress: as of `export_paths`.

    Raises:
      UserError: as `export_paths`.
    """
    states = read_states(root, plan)
    done = [state for state in states if state.state == "done"]
    if not done:
        return Assembled([], states, anew=False)
    folders, anew = _export(root, plan, done, cache, workers=workers, assets=assets, on_progress=on_progress)
    for suite, folder in zip(dict.fromkeys(state.task.suite for state in done), folders, strict=True):
        note_missing_tasks(folder, missing_tasks(root, [state for state in states if state.task.suite == suite]))
    return Assembled(folders, states, anew=anew)


def _export(
    root: Path,
    plan: FleetPlan,
    done: Sequence[TaskState],
    cache: Path,
    *,
    workers: int,
    assets: AssetSource,
    on_progress: Callable[[str, int, int], None],
) -> tuple[list[Path], bool]:
    """Returns the folders of the datasets, one of each suite, and whether they were written now."""
    sources, out = [episodes_path(root, plan, state) for state in done], root / FOLDER
    record = {"content": _content(root, plan, sources), "tasks": [state.task.id for state in done]}
    made = read_record(out / MADE)
    if has_keys(made, "content", "datasets") and made["content"] == record["content"]:
        folders = [out / name for name in made["datasets"]]
        if all(folder.is_dir() for folder in folders):
            return folders, False
    config = plan.config.export
    options = ExportOptions(
        out=out,
        shards=config.shards,
        overwrite=True,
        rendering=RenderOptions(config.renderer, config.image_size, workers),
        validator=Validator(threads=workers),
    )
    facts = {"label": assets.label, "fingerprint": fingerprint(assets.path)}
    folders = export_paths(sources, options, lambda task: load_scene(task, assets, cache), facts, on_progress)
    write_json(out / MADE, {**record, "datasets": [str(folder.relative_to(out)) for folder in folders]})
    return folders, True


def missing_tasks(root: Path, states: Sequence[TaskState]) -> dict[str, str]:
    """Returns the tasks without episodes, each with the reason as the cards of datasets say it.

    Nothing in a reason depends on the time or on the place of the fleet, because cards are the same bytes wherever it
    was made.

    Args:
      root: folder of the fleet, which reasons do not name.
      states: of tasks.
    """
    return {state.task.id: _why_missing(root, state) for state in states if state.state != "done"}


def _why_missing(root: Path, state: TaskState) -> str:
    if state.state != "failed":
        return "not done yet"
    reason = state.reason
    for folder in (root.absolute(), root):
        reason = reason.replace(f"{folder}/", "")
    tries = len(state.reasons)
    return f"given up after {tries} tries: {reason}" if tries > 1 else f"given up after 1 try: {reason}"


def episodes_path(root: Path, plan: FleetPlan, state: TaskState) -> Path:
    """Returns what the exporter reads of a task that is done: its run, or its demonstrations.

    Args:
      root: folder of the fleet.
      plan: of the fleet.
      state: of the task.
    """
    run = run_folder(root, state.task, state.number)
    return run / "demos" / "demos.hdf5" if plan.source == "scripted" else run


def _content(root: Path, plan: FleetPlan, sources: Sequence[Path]) -> str:
    """Returns a hash of what the datasets follow from."""
    settings: dict[str, Any] = plan.to_json()["config"]["export"]
    files = [path if path.is_file() else path / "collect" / "done.json" for path in sources]
    return content_hash([str(settings), *(f"{path.relative_to(root)} {file_sha256(path)}" for path in files)])


def unfinished(states: Sequence[TaskState]) -> list[Task]:
    """Returns the tasks whose jobs have not ended."""
    return [state.task for state in states if state.state not in ("done", "failed")]
