"""Corrections: the scripted expert goes on where a cloned policy has led to, and its way from there is cloned as well.

A clone that has seen whole demonstrations alone does not know the way back from its own mistakes: fingers that have
closed beside the handle are in no demonstration. An expert that can be asked in any state mends that (DAgger; Ross et
al., 2011). Here it takes over once in an episode and goes on to the end.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from rlgen.core.types import Episode, Observation
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.rollouts import Actor

# The expert takes over after at most this fraction of the task's horizon, and then has a whole horizon.
LATEST = 0.8


class Takeover:
    """An actor that is relieved by the scripted expert in the middle of an episode, at a step drawn from its seed."""

    def __init__(self, first: Actor, expert: ScriptedExpert):
        """Makes the actor.

        Args:
          first: acts until the expert takes over.
          expert: acts from there on.
        """
        self._first, self._expert = first, expert
        self._steps = np.zeros(0, np.int64)
        self._chunk, self._place = np.zeros((0, 0, 7), np.float32), 0
        self._before = np.zeros(0, np.int64)

    def reset(self, seeds: Int[np.ndarray, " N"]) -> None:
        """Starts new episodes in all N rows."""
        horizon = self._expert.scene.task.horizon
        self._steps = np.array([takeover_step(int(seed), horizon) for seed in seeds])
        self._before = np.full(len(seeds), -1)
        self._chunk, self._place = self._chunk[:, :0], 0
        self._first.reset(seeds)
        self._expert.reset(seeds)

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N 1 7"]:
        """Returns the next action of every row."""
        taken = observation.step >= self._steps
        if self._place == self._chunk.shape[1]:
            self._chunk, self._place = np.array(self._first(observation)), 0
        actions = self._chunk[:, self._place, None].copy()
        self._place += 1
        # Episodes that have ended stand still.
        rows = np.flatnonzero(taken & (observation.step > self._before))
        self._before = observation.step.copy()
        if rows.size:
            actions[rows] = self._expert.act(observation, rows, observation.step[rows] - self._steps[rows])
        return actions


def takeover_step(seed: int, horizon: int) -> int:
    """Returns the number of control steps after which the expert takes over.

    Args:
      seed: of the episode.
      horizon: control steps of an episode of the task.
    """
    return int(np.random.default_rng(seed).integers(1, int(LATEST * horizon) + 1))


def takeover_horizon(horizon: int) -> int:
    """Returns the control steps of an episode in which the expert takes over."""
    return int(LATEST * horizon) + horizon


def corrections(episodes: Sequence[Episode], horizon: int) -> list[Episode]:
    """Returns what the expert did in successful episodes, each as an episode that begins where it took over.

    Args:
      episodes: of a `Takeover`.
      horizon: control steps of an episode of the task.
    """
    cuts = [(episode, takeover_step(episode.seed, horizon)) for episode in episodes if episode.success]
    return [
        replace(
            episode,
            initial_state=episode.states[step],
            states=episode.states[step:],
            actions=episode.actions[step:],
            rewards=episode.rewards[step:],
        )
        for episode, step in cuts
        if len(episode) > step
    ]
