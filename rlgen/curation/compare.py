"""Comparison of the quality of several sources of episodes: datasets, HDF5 files, folders of them, and runs.

`read_source` reads the actions and paths of a source; `write_quality` writes a page with tables and figures.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.core.files import write_json
from rlgen.core.foreign.json_parts import JsonPart
from rlgen.core.ownership import OutputKind, check_names, has_keys, only_writer
from rlgen.core.stats import SuccessRate
from rlgen.core.types import FixturePoses
from rlgen.curation.render import SceneOf
from rlgen.curation.sources import find_episode_files
from rlgen.data.card import CARD_JSON, read_card
from rlgen.data.dataset import dataset_folders, open_dataset
from rlgen.data.formats.hdf5.reader import iterate_demos, read_robot_states
from rlgen.data.index import read_fixtures, read_initial_states
from rlgen.data.metrics.quality import DatasetQuality, Trace, dataset_traces, traces_quality
from rlgen.data.shards import ADVICE, read_manifest
from rlgen.demos.imports.sources import HDF5_SUFFIXES
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import map_ahead, replay
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
from rlgen.report.style import Plot, appearances, save, save_table
from rlgen.training.run import is_run

AXES = ("x", "y", "z", "rx", "ry", "rz", "gripper")
MAX_PATHS = 40  # in the figure, for each source
PAGE, FIGURES_JSON, EPISODES = "quality.html", "quality.json", "episodes.csv"
FIGURES = ("figure6", "figure7", "totals", "paths")
# Task, state before settling, and where the fixtures stood.
Start = tuple[Task, Float[np.ndarray, " D"], FixturePoses | None]
# The trace of an episode, its suite, and its initial state where that is known.
Part = tuple[Trace, str, Start | None]


def is_comparison(value: Any) -> bool:
    """Returns whether the value of a `quality.json` is of a comparison of this program."""
    return isinstance(value, dict) and len(value) > 0 and all(has_keys(v, "path", "replay") for v in value.values())


COMPARISON = OutputKind(
    "a comparison",
    "--out",
    FIGURES_JSON,
    is_comparison,
    (PAGE, EPISODES, *(f"{name}.{ending}" for name in FIGURES for ending in ("png", "csv"))),
)


@dataclass(frozen=True)
class EpisodeSource:
    """The episodes of one source, with what the comparison needs of them.

    Attributes:
      name: shown for it.
      path: of the source.
      traces: actions and path of each episode; their tasks are prompts.
      suites: of each episode.
      replay: success rate under replay; None if it is not known.
    """

    name: str
    path: Path
    traces: list[Trace]
    suites: list[str]
    replay: SuccessRate | None = None

    def quality(self, suite: str | None = None) -> DatasetQuality:
        """Computes the quality of all episodes, or of those of a suite."""
        return traces_quality([t for t, s in zip(self.traces, self.suites, strict=True) if suite in (None, s)])

    def of_task(self, prompt: str) -> "EpisodeSource":
        """Returns the source with only the episodes of one prompt."""
        kept = [index for index, trace in enumerate(self.traces) if trace.task == prompt]
        traces, suites = ([values[index] for index in kept] for values in (self.traces, self.suites))
        return replace(self, traces=traces, suites=suites)


def read_source(
    path: Path, scene_of: SceneOf, *, replay_episodes: bool = False, threads: int = 1, split: str | None = None
) -> EpisodeSource:
    """Reads the episodes of a dataset, an HDF5 file, a folder of either, or a run.

    Args:
      path: of the source.
      scene_of: loads the scene of a task; only called for runs and replays.
      replay_episodes: replay every episode in `exact` physics; by default the success rate is that on a dataset's card.
      threads: number of threads that replay.
      split: of datasets, as of `open_dataset`.

    Raises:
      UserError: there are no episodes, or they are damaged.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected datasets, HDF5 files or a run")
    if is_run(path):
        parts = _run_parts(path, scene_of)
    elif datasets := dataset_folders(path):
        parts = [part for folder in datasets for part in _dataset_parts(folder, replay_episodes, split)]
    else:
        parts = list(_hdf5_parts(path, replay_episodes))
    if not parts:
        raise UserError(f"{path}: no episodes in it; expected datasets, HDF5 files or a run")
    traces, suites, starts = zip(*parts, strict=True)
    rate = _replay_rate(traces, starts, scene_of, threads) if replay_episodes else rate_on_cards(path)
    return EpisodeSource(_name(path), path, list(traces), list(suites), rate)


def with_unique_names(sources: Sequence[EpisodeSource]) -> list[EpisodeSource]:
    """Returns the sources, with their position added to names that occur twice."""
    names = [source.name for source in sources]
    return [
        source if names.count(source.name) == 1 else replace(source, name=f"{source.name} ({index + 1})")
        for index, source in enumerate(sources)
    ]


def write_quality(sources: Sequence[EpisodeSource], out: Path, *, task: str | None = None, axis: str = "y") -> Path:
    """Writes a page with its figures and tables into `out`, and returns the path of the page.

    Args:
      sources: at least one, with different names.
      out: folder; made if absent.
      task: prompt whose actions and paths are shown; by default the one that most sources have, then the one with most
        episodes.
      axis: number of the action that is shown over time, one of `AXES`.

    Raises:
      UserError: no source has episodes of `task`, an unknown axis, or files of somebody else's in `out`.
    """
    if axis not in AXES:
        raise UserError(f"axis {axis!r}: expected one of {', '.join(AXES)}")
    prompt = task or _common_task(sources)
    of_task = [source.of_task(prompt) for source in sources]
    of_task = [source for source in of_task if source.traces]
    if not of_task:
        raise UserError(f"no source has episodes of {prompt!r}; `rlgen scenes list` lists the instructions")
    check_names(out, COMPARISON)
    quality = {source.name: source.quality() for source in sources}
    rows = [SourceRow(s.name, str(s.path), quality[s.name], s.replay) for s in sources]
    with only_writer(out):
        write_json(
            out / FIGURES_JSON,
            {
                row.name: {**row.quality.to_json(), "path": row.path, "replay": row.replay and row.replay.to_json()}
                for row in rows
            },
        )
        figures = _write_figures(sources, quality, of_task, prompt, axis, out)
        tasks = {source.name: [trace.task for trace in source.traces] for source in sources}
        save_table(episode_table({name: (tasks[name], quality[name]) for name in quality}), out / EPISODES)
        render_quality(rows, figures, out / PAGE)
    return out / PAGE


def _run_parts(path: Path, scene_of: SceneOf) -> list[Part]:
    [file] = find_episode_files(path)
    observer = Observer(scene_of(file.task))
    return [
        (
            Trace(episode.actions, observer(episode.states).robot.position, episode.prompt),
            file.task.suite,
            (file.task, episode.initial_state, episode.fixtures),
        )
        for _, episode in file.read()
    ]


def _dataset_parts(folder: Path, with_starts: bool, split: str | None) -> list[Part]:
    episodes = open_dataset(folder, split)
    traces = dataset_traces(episodes)
    manifest = read_manifest(folder)
    suite = (manifest[0].name if manifest else folder.parent.name).removesuffix("_no_noops")
    states = read_initial_states(folder, len(traces)) if with_starts else [None] * len(traces)
    tasks = ("/".join(episode.file_path.split("/")[:2]) for episode in episodes)
    fixtures = read_fixtures(folder, len(traces))
    starts = [
        None if state is None else (find_task(task), state, poses)
        for task, state, poses in zip(tasks, states, fixtures, strict=True)
    ]
    return [(trace, suite, start) for trace, start in zip(traces, starts, strict=True)]


def _hdf5_parts(path: Path, with_starts: bool) -> Iterator[Part]:
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix in HDF5_SUFFIXES)
    for file in files:
        for (_, episode), robot in zip(iterate_demos(file), read_robot_states(file), strict=True):
            known = with_starts and episode.has_physics
            start = (find_task(episode.task), episode.initial_state, episode.fixtures) if known else None
            yield Trace(episode.actions, robot.position, episode.prompt), episode.task.split("/")[0], start


def _replay_rate(
    traces: Sequence[Trace], starts: Sequence[Start | None], scene_of: SceneOf, threads: int
) -> SuccessRate | None:
    """Replays the episodes whose initial state is known; None if it is known of none."""
    known = [(trace, start) for trace, start in zip(traces, starts, strict=True) if start is not None]

    def succeeds(pair: tuple[Trace, Start]) -> bool:
        trace, (task, state, fixtures) = pair
        return bool(replay(scene_of(task).placed(fixtures), state, trace.actions)[1].any())

    results = list(map_ahead(succeeds, known, threads))
    return SuccessRate(sum(results), len(results)) if results else None


def rate_on_cards(path: Path) -> SuccessRate | None:
    """Returns the success rate under replay on the cards of datasets; None if one of them has none."""
    successes = episodes = 0
    for folder in dataset_folders(path):
        if not (folder / CARD_JSON).is_file():
            return None
        facts = read_card(folder)["replay"]
        if not isinstance(facts, dict) or facts.get("how") == "not replayed" or "succeeded" not in facts:
            return None
        part = JsonPart(facts, folder / CARD_JSON, "replay", ADVICE)
        successes += part.member("succeeded").plain_integer()
        episodes += part.member("exported").plain_integer()
    return SuccessRate(successes, episodes) if episodes else None


def _name(path: Path) -> str:
    """Returns the name of a source: that of a dataset without its version, or of a file without `_demo`."""
    path = path.absolute()
    name = path.parent.name if path.name[:1].isdigit() and path.name.count(".") == 2 else path.stem
    return name.removesuffix("_demo")


def _common_task(sources: Sequence[EpisodeSource]) -> str:
    num_sources = Counter(task for source in sources for task in {trace.task for trace in source.traces})
    num_episodes = Counter(trace.task for source in sources for trace in source.traces)
    return max(sorted(num_episodes), key=lambda task: (num_sources[task], num_episodes[task]))


def _write_figures(
    sources: Sequence[EpisodeSource],
    quality: Mapping[str, DatasetQuality],
    of_task: Sequence[EpisodeSource],
    prompt: str,
    axis: str,
    out: Path,
) -> list[FigureFile]:
    """Writes the figures of all episodes, and of those of one prompt (`of_task`)."""
    styles = appearances(quality)
    suites = dict.fromkeys(suite for source in sources for suite in source.suites)
    by_suite = {
        suite: {source.name: source.quality(suite) for source in sources if suite in source.suites} for suite in suites
    }
    bars = {name: SourceQuality.from_json(one.to_json()) for name, one in quality.items()}
    task_quality = {source.name: source.quality() for source in of_task}
    profiles = {
        name: ActionProfile.from_json(one.action_distribution.to_json(), AXES.index(axis), one.episodes)
        for name, one in task_quality.items()
    }
    paths = {source.name: [trace.position for trace in source.traces[:MAX_PATHS]] for source in of_task}
    return [
        _figure(out, "figure6", quality_by_group(by_suite, styles), "Efficiency and smoothness",
                "Mean length and mean squared jerk by suite, with bootstrap intervals (the paper's figure 6)."),
        _figure(out, "figure7", action_profiles(profiles, axis, styles), "Consistency",
                f"Mean action along {axis} and its standard deviation over episodes of “{prompt}” "
                "(the paper's figure 7)."),
        _figure(out, "totals", quality_bars(bars, styles), "All episodes",
                "Length, jerk and no-ops of all suites together."),
        _figure(out, "paths", end_effector_paths(paths, styles), "Paths", f"End-effector paths of “{prompt}”."),
    ]  # fmt: skip


def _figure(out: Path, name: str, plot: Plot, title: str, caption: str) -> FigureFile:
    return FigureFile(save(plot, out / f"{name}.png"), title, caption, "data")
