"""Recorded episodes become episodes of ours: no-ops dropped, the rest replayed, successes kept."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import Episode
from rlgen.data.metrics.smoothness import noop_mask
from rlgen.libero.envs.environment import DivergedError
from rlgen.libero.envs.replay import map_ahead, replay
from rlgen.libero.scenes.scene import Scene


@dataclass(frozen=True)
class Replayed:
    """One episode after its replay.

    Attributes:
      name: its name in the source.
      episode: as it went here, or None if the goal did not hold after its last action.
      noops: actions dropped before.
      reason: why there is no episode; empty if there is one.
    """

    name: str
    episode: Episode | None
    noops: int
    reason: str = ""


def replay_episodes(
    scene: Scene, episodes: Iterable[tuple[str, Episode]], *, drop_noops: bool = True, threads: int = 2
) -> Iterator[Replayed]:
    """Replays named episodes of a scene, in order.

    An episode begins at its `initial_state`, settled for ten control steps, without the actions that the community
    drops as no-ops (or with them), and counts as a success if the goal holds after the last action that is left.

    Raises:
      UserError: an episode's states are not of this scene; the message begins with its name.
    """
    return map_ahead(lambda item: _replay(scene, *item, drop_noops), episodes, threads)


def check_states(scene: Scene, size: int, where: str) -> None:
    """Raises `UserError`, beginning with `where`, unless states of `size` numbers are this scene's."""
    import mujoco

    model = scene.model
    wanted = 1 + model.nq + model.nv
    if not size:
        raise UserError(f"{where}: no physics states, its dataset has none; replays and cloning need them")
    if size != wanted:
        raise UserError(
            f"{where}: states of {size} numbers, {scene.task.id} has {wanted} (time, nq {model.nq}, nv {model.nv}) "
            f"with these assets and MuJoCo {mujoco.__version__}; use the assets it was recorded with (--assets)"
        )


def _replay(scene: Scene, name: str, episode: Episode, drop_noops: bool) -> Replayed:
    check_states(scene, len(episode.initial_state), name)
    drop = noop_mask(episode.actions) & drop_noops
    actions, noops = episode.actions[~drop], int(drop.sum())
    if not len(actions):
        return Replayed(name, None, noops, "every action is a no-op")
    try:
        states, rewards = replay(scene, episode.initial_state, actions)
    except DivergedError as error:
        return Replayed(name, None, noops, str(error))
    if not rewards[-1]:
        when = np.flatnonzero(rewards)
        reason = f"the goal held after step {when[-1]} but not at the end" if len(when) else "the goal is not reached"
        return Replayed(name, None, noops, reason)
    task = scene.task
    return Replayed(
        name,
        replace(
            episode,
            task=task.id,
            prompt=task.prompt,
            states=states,
            actions=actions,
            rewards=rewards.astype(np.float32),
            success=True,
        ),
        noops,
    )
