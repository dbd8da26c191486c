"""A small world with the interface of a vector environment, for tests of the loop around it."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from rlgen.core.types import FixturePoses, Observation, RobotState
from rlgen.libero.envs.vector_env import ChunkResult

SIZE = 3


@dataclass
class PointScene:
    """The part of a scene that the loop reads."""

    training_states: np.ndarray

    def draw_training_fixtures(self, seed: int) -> FixturePoses | None:
        """Returns no poses: there are no fixtures."""


class PointEnv:
    """A point on a line; the action's first number moves it; beyond 1 the goal is reached.

    The observation is the position, and two numbers that never change.
    """

    def __init__(self, count: int, *, horizon: int = 8, states: int = 16):
        grid = np.linspace(-0.5, 0.5, states)
        table = np.stack([np.zeros(states), grid, np.ones(states)], axis=1)
        self.scenes = tuple(PointScene(table) for _ in range(count))
        self.num_envs, self._horizon = count, horizon
        self._state, self._steps = np.zeros((count, SIZE)), np.zeros(count, int)

    def reset(self, states: np.ndarray, fixtures: Sequence[FixturePoses | None] | None = None) -> Observation:
        self._state, self._steps = np.array(states), np.zeros(self.num_envs, int)
        return self._observe()

    def step(self, chunks: np.ndarray, *, reset_states: np.ndarray | None = None) -> ChunkResult:
        steps, reached = np.zeros(self.num_envs, int), np.zeros(self.num_envs, bool)
        for row, chunk in enumerate(chunks):
            for action in chunk[: self._horizon - self._steps[row]]:
                self._state[row, 1] += 0.2 * action[0]
                steps[row] += 1
                if self._state[row, 1] > 1:
                    reached[row] = True
                    break
        self._steps += steps
        truncated = ~reached & (self._steps >= self._horizon)
        final = observation = self._observe()
        if reset_states is not None:
            ended = reached | truncated
            self._state[ended], self._steps[ended] = reset_states[ended], 0
            observation = self._observe()
        none = np.zeros(self.num_envs, bool)
        return ChunkResult(observation, final, reached.astype(float), reached, truncated, none, steps, None)

    def split(self, parts: int) -> list["PointEnv"]:
        size = self.num_envs // parts
        made = []
        for first in range(0, self.num_envs, size):
            part = copy(self)
            part.scenes, part.num_envs = self.scenes[first : first + size], size
            made.append(part)
        return made

    def _observe(self) -> Observation:
        robot = RobotState(*(np.zeros((self.num_envs, size)) for size in (3, 3, 2, 7)))
        return Observation(self._state.copy(), self._state.copy(), robot, self._steps.copy())
