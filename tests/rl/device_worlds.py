"""A small world of pure functions that rollouts can be compiled with, and the same one stepped from the host."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rl.worlds import PointScene

from rlgen.core.types import ImageObservation, Observation, RobotState
from rlgen.libero.envs.vector_env import ChunkResult

HORIZON, STATES, SIDE, GOAL = 10, 16, 12, 0.75


class State(NamedTuple):
    """Position and speed limit of each point, and control steps since its episode began."""

    point: jax.Array
    steps: jax.Array


class Seen(NamedTuple):
    """The observation of each point."""

    vector: jax.Array


class Step(NamedTuple):
    """The outcome of a control step."""

    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    failed: jax.Array


class PointWorld:
    """Points on a line, moved by the action's first number: done beyond `GOAL`, not to be simulated below -0.9.

    A reset state is a position and a horizon, so that episodes end at different times. Per control step there is a
    reward for being ahead, so that returns differ. The observation is filled up with zeros to `size`.
    """

    def __init__(self, worlds: int, fails_below: float = -0.9, size: int = 3):
        self.worlds, self.fails_below, self.size = worlds, fails_below, size
        grid = np.linspace(-0.7, 0.7, STATES)
        horizons = np.where(np.arange(STATES) % 3 == 0, HORIZON // 2, 2 * HORIZON)
        self.training_states = jnp.asarray(np.stack([grid, horizons], axis=1), jnp.float32)

    def reset(self, states):
        state = State(states, jnp.zeros(self.worlds, jnp.int32))
        return state, self.observe(state)

    def reset_rows(self, state, rows, states):
        state = State(jnp.where(rows[:, None], states, state.point), jnp.where(rows, 0, state.steps))
        return state, self.observe(state)

    def step(self, state, actions, active):
        moved = state.point[:, 0] + 0.3 * actions[:, 0]
        failed = active & (moved < self.fails_below)
        goes = active & ~failed
        position = jnp.where(goes, moved, state.point[:, 0])
        steps = state.steps + goes
        terminated = goes & (position > GOAL)
        truncated = active & ~terminated & (failed | (steps >= state.point[:, 1]))
        reward = jnp.where(goes, terminated + 0.1 * position, 0.0)
        return State(state.point.at[:, 0].set(position), steps), Step(reward, terminated, truncated, failed)

    def observe(self, state):
        position, share = state.point[:, 0], state.steps / state.point[:, 1]
        vector = jnp.stack([position, share, jnp.ones_like(position)], axis=-1)
        return Seen(jnp.pad(vector, [(0, 0), (0, self.size - 3)]))


class HostEnv:
    """A `PointWorld` with the interface of a vector environment: control steps one by one, decided on the host."""

    def __init__(self, world: PointWorld):
        self.world, self.num_envs = world, world.worlds
        self.scenes = (PointScene(np.asarray(world.training_states, np.float64)),) * world.worlds
        self._step = jax.jit(world.step)

    def reset(self, states, fixtures=None):
        self._state, seen = self.world.reset(jnp.asarray(states, jnp.float32))
        return self._observation(seen)

    def step(self, chunks, *, reset_states=None):
        count = self.num_envs
        running, reward, taken = np.ones(count, bool), np.zeros(count), np.zeros(count, int)
        terminated, truncated, failed = np.zeros((3, count), bool)
        for step in range(chunks.shape[1]):
            self._state, outcome = self._step(self._state, jnp.asarray(chunks[:, step]), jnp.asarray(running))
            taken += running
            for row in np.flatnonzero(running):
                reward[row] += float(outcome.reward[row])
                terminated[row], truncated[row] = bool(outcome.terminated[row]), bool(outcome.truncated[row])
                failed[row] = bool(outcome.failed[row])
                running[row] = not (terminated[row] or truncated[row])
        taken[failed] = 0
        final = observation = self._observation(self.world.observe(self._state))
        ended = terminated | truncated
        if reset_states is not None and ended.any():
            states = jnp.asarray(reset_states, jnp.float32)
            self._state, seen = self.world.reset_rows(self._state, jnp.asarray(ended), states)
            observation = self._observation(seen)
        return ChunkResult(observation, final, reward, terminated, truncated, failed, taken, None)

    def split(self, parts: int):
        assert parts == 1
        return [self]

    def _observation(self, seen: Seen) -> Observation:
        vector = np.asarray(seen.vector)
        robot = RobotState(*(np.zeros((self.num_envs, size)) for size in (3, 3, 2, 7)))
        return Observation(vector, vector, robot, np.asarray(self._state.steps))


def draw(seen: Seen) -> ImageObservation:
    """Images of two cameras: a bar as long as the point is far, and its mirror image; for both kinds of arrays."""
    vector = jnp.asarray(seen.vector, jnp.float32)
    lit = jnp.arange(SIDE) < (vector[:, :1] + 1) * SIDE / 2
    front = jnp.broadcast_to(lit[:, None, :, None], (len(vector), SIDE, SIDE, 3))
    images = jnp.stack([front, front[:, :, ::-1]], axis=1).astype(jnp.uint8) * 200
    return ImageObservation(images, vector)
