"""A check of datasets by replaying a sample of their episodes: do the stored actions lead to the stored states?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import FixturePoses
from rlgen.curation.render import SceneOf
from rlgen.data.card import CARD_JSON, read_card
from rlgen.data.dataset import open_dataset
from rlgen.data.episode import DatasetEpisode
from rlgen.data.index import Provenance, State, read_fixtures, read_initial_states, read_provenance
from rlgen.demos.imports.rlds import PATH_TOLERANCE
from rlgen.libero.envs.environment import DivergedError
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import map_ahead, replay
from rlgen.libero.scenes.assets import LABELS, AssetSource, fingerprint
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import find_task


@dataclass(frozen=True)
class ReplayedEpisode:
    """The result of replaying one stored episode.

    Attributes:
      index: of the episode.
      name: of the episode.
      deviation: largest difference of a state from the stored one (m, rad); infinite if the physics diverged.
      step: at which a state first differs by more than the tolerance; -1 if none does.
      success: whether the goal holds after the last action.
    """

    index: int
    name: str
    deviation: float
    step: int
    success: bool


def replay_sample(
    folder: Path,
    count: int,
    scene_of: SceneOf,
    *,
    threads: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[ReplayedEpisode]:
    """Replays some episodes of a dataset, evenly spaced, in exact physics.

    Args:
      folder: of the dataset, in any format.
      count: number of episodes at most.
      scene_of: loads the scene of a task.
      threads: number of threads that replay.
      on_progress: called with the number of replayed episodes, and of all of the sample.

    Raises:
      UserError: the initial state of no episode is known.
    """
    episodes = open_dataset(folder)
    states, fixtures = read_initial_states(folder, len(episodes)), read_fixtures(folder, len(episodes))
    known = [index for index, state in enumerate(states) if state is not None]
    if not known:
        raise UserError(f"{folder}: the initial state of no episode is known; leave --replay out")
    chosen = [known[position] for position in np.unique(np.linspace(0, len(known) - 1, count).astype(int))]
    results: list[ReplayedEpisode] = []
    on_progress(0, len(chosen))

    def replayed(pair: tuple[int, DatasetEpisode]) -> ReplayedEpisode:
        index, episode = pair
        start = states[index]
        assert start is not None
        scene = scene_of(find_task("/".join(episode.file_path.split("/")[:2])))
        return _replayed(index, episode, start, scene, fixtures[index])

    # Episodes are read by this thread, one after the other.
    for result in map_ahead(replayed, ((index, episodes[index]) for index in chosen), threads):
        results.append(result)
        on_progress(len(results), len(chosen))
    return results


def has_placeholders(folder: Path) -> bool:
    """Returns whether a dataset's episodes are of the placeholder assets; False for what has no card."""
    label = _card_assets(folder).get("label") if (folder / CARD_JSON).is_file() else None
    return label == LABELS["placeholder"]


def check_by_replay(
    folder: Path,
    count: int,
    scene_of: SceneOf,
    assets: AssetSource,
    *,
    threads: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[str, list[str]]:
    """Replays a sample and says what it showed.

    Args:
      folder: of the dataset, in any format.
      count: number of episodes at most.
      scene_of: loads the scene of a task.
      assets: object assets of these scenes.
      threads: number of threads that replay.
      on_progress: called with the number of replayed episodes, and of all of the sample.

    Returns:
      A summary for people, and one line for each problem.

    Raises:
      UserError: as `replay_sample`, or states differ and the episodes are of other object assets.
    """
    results = replay_sample(folder, count, scene_of, threads=threads, on_progress=on_progress)
    facts = read_card(folder)["replay"]
    labeled = isinstance(facts, dict) and bool(facts.get("failed but kept"))
    largest = max(result.deviation for result in results)
    summary = f"; {len(results)} episodes replayed, states within {largest:.2g} of the stored ones"
    problems = replay_problems(folder, results, failures_are_labeled=labeled)
    of_card = _card_assets(folder)
    if problems and of_card.get("fingerprint") not in (None, fingerprint(assets.path)):
        raise UserError(
            f"{folder}: its episodes are of other object assets ({of_card.get('label')}) than {assets.path} "
            f"({assets.label}), so that states differ; give theirs with --assets or --placeholders"
        )
    return summary, problems


def _card_assets(folder: Path) -> dict[str, Any]:
    """Returns label and fingerprint of the object assets on a dataset's card; of several that were merged, none."""
    assets = read_card(folder)["assets"]
    return assets if isinstance(assets, dict) else {}


def _replayed(
    index: int, episode: DatasetEpisode, start: State, scene: Scene, fixtures: FixturePoses | None
) -> ReplayedEpisode:
    try:
        states, rewards = replay(scene.placed(fixtures), start, episode.action)
    except DivergedError:
        return ReplayedEpisode(index, episode.file_path, float("inf"), 0, False)
    found = Observer(scene)(states).robot.vla_state[:-1].astype(np.float32)
    differences = np.abs(found - episode.state).max(axis=1)
    beyond = np.flatnonzero(differences > PATH_TOLERANCE)
    step = int(beyond[0]) if len(beyond) else -1
    return ReplayedEpisode(index, episode.file_path, float(differences.max()), step, bool(rewards[-1] > 0))


def replay_problems(folder: Path, results: list[ReplayedEpisode], *, failures_are_labeled: bool = False) -> list[str]:
    """Returns one line for each replayed episode that is not what the dataset says.

    Args:
      folder: of the dataset.
      results: of `replay_sample`.
      failures_are_labeled: whether its card lists episodes that do not reach the goal; then that is no problem.
    """
    origins = read_provenance(folder, len(open_dataset(folder)))
    problems = []
    for result in results:
        if result.step >= 0:
            problems.append(
                f"episode {result.name}: its replay leaves the stored path at step {result.step}, by up to "
                f"{result.deviation:.2g}{_origin(origins[result.index])}"
            )
        elif not result.success and not failures_are_labeled:
            problems.append(f"episode {result.name}: its replay does not reach the goal")
    return problems


def _origin(origin: Provenance | None) -> str:
    """Returns what may explain a deviation."""
    if origin is None:
        return ""
    if origin.physics != "exact":
        return "; its states are those of the recording, which was not replayed"
    here = mujoco.__version__
    return "" if origin.mujoco == here else f"; it was computed with MuJoCo {origin.mujoco}, here is {here}"
