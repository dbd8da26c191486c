"""Replays of recorded episodes: no-ops are dropped, the other actions executed, successes kept."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import Episode
from rlgen.data.metrics.smoothness import noop_mask
from rlgen.libero.envs.environment import DivergedError
from rlgen.libero.envs.replay import map_ahead, replay
from rlgen.libero.scenes.scene import Scene


@dataclass(frozen=True)
class ReplayOutcome:
    """The outcome of one episode's replay.

    Attributes:
      name: of the episode in its source.
      episode: as it was replayed, or None if the goal did not hold after its last action.
      noops: actions dropped before the replay.
      reason: for the lack of an episode; empty otherwise.
    """

    name: str
    episode: Episode | None
    noops: int
    reason: str = ""


def replay_episodes(
    scene: Scene, episodes: Iterable[tuple[str, Episode]], *, drop_noops: bool = True, threads: int = 2
) -> Iterator[ReplayOutcome]:
    """Replays named episodes, in order.

    A replay starts from the episode's `initial_state`, settled for ten control steps. It is a success if the goal
    holds after the last action.

    Args:
      scene: of all episodes.
      episodes: with their names.
      drop_noops: leave out the actions that public datasets drop as no-ops.
      threads: that replay.

    Raises:
      UserError: an episode's states are not of this scene; the message starts with its name.
    """
    return map_ahead(lambda item: _replay(scene, *item, drop_noops), episodes, threads)


def check_state_size(scene: Scene, size: int, where: str) -> None:
    """Checks that physics states have the size of a scene's.

    Args:
      scene: in which the states are to be replayed.
      size: numbers in a state, D.
      where: beginning of the error message.

    Raises:
      UserError: they have another size.
    """
    model = scene.model
    expected = 1 + model.nq + model.nv
    if not size:
        raise UserError(f"{where}: no physics states, its dataset has none; replays and cloning need them")
    if size != expected:
        raise UserError(
            f"{where}: states of {size} numbers, {scene.task.id} has {expected} (time, nq {model.nq}, nv {model.nv}) "
            f"with these assets and MuJoCo {mujoco.__version__}; use the assets it was recorded with (--assets)"
        )


def _replay(scene: Scene, name: str, episode: Episode, drop_noops: bool) -> ReplayOutcome:
    check_state_size(scene, len(episode.initial_state), name)
    dropped = noop_mask(episode.actions) & drop_noops
    actions, noops = episode.actions[~dropped], int(dropped.sum())
    if not len(actions):
        return ReplayOutcome(name, None, noops, "every action is a no-op")
    try:
        states, rewards = replay(scene.placed(episode.fixtures), episode.initial_state, actions)
    except DivergedError as error:
        return ReplayOutcome(name, None, noops, str(error))
    if not rewards[-1]:
        when = np.flatnonzero(rewards)
        reason = f"the goal held after step {when[-1]} but not at the end" if len(when) else "the goal is not reached"
        return ReplayOutcome(name, None, noops, reason)
    task = scene.task
    replayed = replace(
        episode,
        task=task.id,
        prompt=task.prompt,
        states=states,
        actions=actions,
        rewards=rewards.astype(np.float32),
        success=True,
    )
    return ReplayOutcome(name, replayed, noops)
