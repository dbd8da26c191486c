"""The quality of several sources of episodes beside each other: `rlgen data quality A B C`."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.core.files import write_json
from rlgen.core.stats import SuccessRate
from rlgen.curation.sources import find_episode_files
from rlgen.data.card import CARD_JSON, read_card
from rlgen.data.dataset import dataset_folders, open_dataset
from rlgen.data.formats.hdf5.reader import iterate_demos, read_robot_states
from rlgen.data.index import read_initial_states
from rlgen.data.metrics.quality import DatasetQuality, Trace, dataset_traces, traces_quality
from rlgen.data.shards import read_manifest
from rlgen.demos.imports.sources import HDF5_ENDINGS
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import map_ahead, replay
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task, find_task
from rlgen.report.pages import FigureFile, SourceRow, render_quality
from rlgen.report.quality_plots import (
    ActionProfile,
    SourceQuality,
    action_profiles,
    end_effector_paths,
    episode_table,
    quality_bars,
    quality_by_group,
)
from rlgen.report.style import appearances, save, save_table
from rlgen.training.run import is_run

SceneOf = Callable[[Task], Scene]
Start = tuple[Task, Float[np.ndarray, " D"]]


@dataclass(frozen=True)
class Measured:
    """Episodes of one source with what is measured on them.

    Attributes:
      name: shown for it.
      path: where it lies.
      traces: of its episodes; their tasks are prompts.
      groups: suite of each episode, as far as that is known.
      replay: success under replay; None if that is not known.
    """

    name: str
    path: Path
    traces: list[Trace]
    groups: list[str]
    replay: SuccessRate | None = None

    def quality(self, group: str | None = None) -> DatasetQuality:
        """Figures of all its episodes, or of those of a group."""
        chosen = [t for t, g in zip(self.traces, self.groups, strict=True) if group in (None, g)]
        return traces_quality(chosen)


def measure(path: Path, scene_of: SceneOf, *, again: bool = False, threads: int = 1) -> Measured:
    """Reads the episodes of a dataset, an HDF5 file, a folder of either, or a run.

    Args:
      path: of the source.
      scene_of: loads a task; needed for runs and replays alone.
      again: replay every episode in `exact` physics; otherwise success is what a dataset's card says.
      threads: that replay.

    Raises:
      UserError: there is nothing to measure, or it is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected datasets, HDF5 files or a run")
    if is_run(path):
        parts = _of_run(path, scene_of)
    elif datasets := dataset_folders(path):
        parts = [part for folder in datasets for part in _of_dataset(folder, scene_of if again else None)]
    else:
        parts = list(_of_hdf5(path, scene_of if again else None))
    if not parts:
        raise UserError(f"{path}: no episodes in it; expected datasets, HDF5 files or a run")
    traces, suites, starts = zip(*parts, strict=True)
    rate = _replayed(traces, starts, scene_of, threads) if again else _told(path)
    return Measured(_name(path), path, list(traces), list(suites), rate)


Part = tuple[Trace, str, Start | None]


def _of_run(path: Path, scene_of: SceneOf) -> list[Part]:
    [file] = find_episode_files(path)
    scene = scene_of(file.task)
    observer = Observer(scene)
    return [
        (
            Trace(episode.actions, observer(episode.states).robot.position, episode.prompt),
            file.task.suite,
            (file.task, episode.initial_state),
        )
        for _, episode in file.read()
    ]


def _of_dataset(folder: Path, scene_of: SceneOf | None) -> list[Part]:
    episodes = open_dataset(folder)
    traces = dataset_traces(episodes)
    manifest = read_manifest(folder)
    suite = (manifest[0]["name"] if manifest else folder.parent.name).removesuffix("_no_noops")
    begun = read_initial_states(folder, len(traces)) if scene_of else [None] * len(traces)
    tasks = ("/".join(episode.file_path.split("/")[:2]) for episode in episodes)
    starts = [None if state is None else (find_task(task), state) for task, state in zip(tasks, begun, strict=True)]
    return [(trace, suite, start) for trace, start in zip(traces, starts, strict=True)]


def _of_hdf5(path: Path, scene_of: SceneOf | None) -> Iterator[Part]:
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix in HDF5_ENDINGS)
    for file in files:
        for (_, episode), robot in zip(iterate_demos(file), read_robot_states(file), strict=True):
            suite, known = episode.task.split("/")[0], scene_of is not None and episode.has_physics
            start = (find_task(episode.task), episode.initial_state) if known else None
            yield Trace(episode.actions, robot.position, episode.prompt), suite, start


def _replayed(
    traces: Sequence[Trace], starts: Sequence[Start | None], scene_of: SceneOf, threads: int
) -> SuccessRate | None:
    known = [(trace, start) for trace, start in zip(traces, starts, strict=True) if start is not None]

    def succeeds(pair: tuple[Trace, Start]) -> bool:
        trace, (task, state) = pair
        return bool(replay(scene_of(task), state, trace.actions)[1].any())

    results = list(map_ahead(succeeds, known, threads))
    return SuccessRate(sum(results), len(results)) if results else None


def _told(path: Path) -> SuccessRate | None:
    """What the cards of datasets say of their episodes' replays; None where one of them says nothing."""
    done = of = 0
    for folder in dataset_folders(path):
        if not (folder / CARD_JSON).is_file():
            return None
        told = read_card(folder)["replay"]
        if not isinstance(told, dict) or told.get("how") == "not replayed" or "succeeded" not in told:
            return None
        done, of = done + told["succeeded"], of + told["exported"]
    return SuccessRate(done, of) if of else None


def _name(path: Path) -> str:
    """A source's name: of a dataset `<suite>_no_noops/1.0.0` and of a file `<task>_demo` without what all have."""
    path = path.absolute()
    name = path.parent.name if path.name[:1].isdigit() and path.name.count(".") == 2 else path.stem
    return name.removesuffix("_demo")


def named_apart(sources: Sequence[Measured]) -> list[Measured]:
    """The same with names that differ: by the folder that a source lies in, then by its place."""
    names = [source.name for source in sources]
    made: list[Measured] = []
    for number, source in enumerate(sources):
        name = source.name if names.count(source.name) == 1 else f"{source.name} ({number + 1})"
        made.append(Measured(name, source.path, source.traces, source.groups, source.replay))
    return made


AXES = ("x", "y", "z", "rx", "ry", "rz", "gripper")
PATHS_SHOWN = 40
PAGE, NUMBERS = "quality.html", "quality.json"


def write_quality(sources: Sequence[Measured], out: Path, *, task: str | None = None, axis: str = "y") -> Path:
    """Writes the page with everything behind it into `out`, and returns the page.

    Args:
      sources: at least one, with different names.
      out: folder; made if absent.
      task: instruction whose actions and paths are shown; by default the one that most sources have, then the one
        with most episodes.
      axis: action shown over time.

    Raises:
      UserError: no source has episodes of `task`, or an unknown axis.
    """
    if axis not in AXES:
        raise UserError(f"axis {axis!r}: expected one of {', '.join(AXES)}")
    shown = task or _common_task(sources)
    measured = {source.name: source.quality() for source in sources}
    of_task = {source.name: _only(source, shown) for source in sources}
    of_task = {name: source for name, source in of_task.items() if source.traces}
    if not of_task:
        raise UserError(f"no source has episodes of {shown!r}; `rlgen scenes list` lists the instructions")
    task_quality = {name: source.quality() for name, source in of_task.items()}
    styles = appearances(measured)
    suites = dict.fromkeys(group for source in sources for group in source.groups)
    by_suite = {
        suite: {source.name: source.quality(suite) for source in sources if suite in source.groups} for suite in suites
    }
    bars = {name: SourceQuality.from_json(quality.to_json()) for name, quality in measured.items()}
    profiles = {
        name: ActionProfile.from_json(quality.spread.to_json(), AXES.index(axis), quality.episodes)
        for name, quality in task_quality.items()
    }
    paths = {name: [trace.position for trace in source.traces[:PATHS_SHOWN]] for name, source in of_task.items()}
    figures = [
        _figure(out, "figure6", quality_by_group(by_suite, styles), "Efficiency and smoothness",
                "Mean length and mean squared jerk by suite, with bootstrap intervals (the paper's figure 6)."),
        _figure(out, "figure7", action_profiles(profiles, axis, styles), "Consistency",
                f"Mean action along {axis} and its standard deviation over episodes of “{shown}” "
                "(the paper's figure 7)."),
        _figure(out, "totals", quality_bars(bars, styles), "All episodes",
                "Length, jerk and no-ops of all suites together."),
        _figure(out, "paths", end_effector_paths(paths, styles), "Paths", f"End-effector paths of “{shown}”."),
    ]  # fmt: skip
    tasks = {source.name: [trace.task for trace in source.traces] for source in sources}
    save_table(episode_table({name: (tasks[name], measured[name]) for name in measured}), out / "episodes.csv")
    rows = [SourceRow(s.name, str(s.path), measured[s.name], s.replay) for s in sources]
    write_json(
        out / NUMBERS,
        {
            row.name: {**row.quality.to_json(), "path": row.path, "replay": row.replay and row.replay.to_json()}
            for row in rows
        },
    )
    render_quality(rows, figures, out / PAGE)
    return out / PAGE


def _figure(out: Path, name: str, plot, title: str, caption: str) -> FigureFile:
    return FigureFile(save(plot, out / f"{name}.png"), title, caption, "data")


def _only(source: Measured, task: str) -> Measured:
    kept = [number for number, trace in enumerate(source.traces) if trace.task == task]
    traces, groups = ([values[number] for number in kept] for values in (source.traces, source.groups))
    return Measured(source.name, source.path, traces, groups, source.replay)


def _common_task(sources: Sequence[Measured]) -> str:
    having = Counter(task for source in sources for task in {trace.task for trace in source.traces})
    counts = Counter(trace.task for source in sources for trace in source.traces)
    return max(sorted(counts), key=lambda task: (having[task], counts[task]))
