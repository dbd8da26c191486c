"""The world on an accelerator with the interface of the vector environment: `WarpVectorEnv`."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rlgen.core.errors import UserError
from rlgen.core.types import FixturePoses, Observation
from rlgen.libero.envs.device_world import step_chunk
from rlgen.libero.envs.vector_env import ChunkResult, check_states, checked_chunks
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.warp.models import Room, reset_states, settle
from rlgen.libero.warp.observation import Seen, to_observation
from rlgen.libero.warp.world import DROPPED, WarpWorld, WorldState


class WarpVectorEnv:
    """N worlds of one task on an accelerator, stepped by action chunks as `VectorEnv` steps environments.

    It differs from `VectorEnv` in this: numbers are of single precision; all environments have one task and its
    fixtures where the scene has them; a failed world may also have overflowed a buffer; and there are no snapshots, nor
    the benchmark's own observations. Arrays go to the device and back once for each chunk.

    Attributes:
      scenes: the scene, N times.
      failures: a line for every failed environment since this object was made.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        *,
        horizon: int | None = None,
        room: Room | None = None,
        sleep: bool = False,
        awake: int | None = None,
    ):
        """Makes one world for each entry of `scenes`; they must be reset before the first step.

        Args:
          scenes: `[scene] * N`.
          horizon: control steps of an episode; the task's own by default.
          room: the size of a world's buffers, counted by default.
          sleep: let resting objects sleep.
          awake: degrees of freedom that may be awake in a world at once.

        Raises:
          UserError: scenes of several tasks, or MuJoCo Warp is not installed.
        """
        if any(scene is not scenes[0] for scene in scenes):
            raise UserError("scenes of several tasks, expected one N times; use VectorEnv for several")
        scene = scenes[0]
        self.scenes, self.failures = tuple(scenes), []
        self._world = WarpWorld(scene, len(scenes), horizon=horizon, room=room, sleep=sleep, awake=awake)
        self._settled = _settled_rows(scene)
        self._state_size = 1 + scene.model.nq + scene.model.nv
        self._state: WorldState | None = None
        self._reset, self._reset_rows = jax.jit(self._world.reset), jax.jit(self._world.reset_rows)
        self._run = jax.jit(partial(run_chunk, self._world))

    @property
    def num_envs(self) -> int:
        """Returns N."""
        return len(self.scenes)

    def close(self) -> None:
        """Lets go of the worlds."""
        self._state = None

    def reset(
        self, initial_states: Float[np.ndarray, "N D"], fixtures: Sequence[FixturePoses | None] | None = None
    ) -> Observation:
        """Starts an episode in every world, settled as the benchmark does; arguments as of `VectorEnv.reset`.

        Raises:
          UserError: fixtures elsewhere than in the scene.
          ValueError: wrong shape.
        """
        check_states(initial_states, self.num_envs, self._state_size)
        _refuse(fixtures)
        self._state, seen = self._reset(self._device_states(initial_states))
        return self._observation(self._state, seen)

    def reset_rows(
        self,
        rows: Int[np.ndarray, " M"],
        initial_states: Float[np.ndarray, "M D"],
        fixtures: Sequence[FixturePoses | None] | None = None,
    ) -> Observation:
        """Starts an episode in some worlds; arguments as of `VectorEnv.reset_rows`."""
        check_states(initial_states, len(rows), self._state_size)
        _refuse(fixtures)
        states = np.zeros((self.num_envs, initial_states.shape[1]))
        states[rows] = [self._settle(state) for state in initial_states]
        mask = np.isin(np.arange(self.num_envs), rows)
        self._state, seen = self._reset_rows(self._started(), jnp.asarray(mask), jnp.asarray(states, jnp.float32))
        return self._observation(self._state, seen)

    def step(
        self,
        chunks: Float[np.ndarray, "N H 7"],
        *,
        reset_states: Float[np.ndarray, "N D"] | None = None,
        active: Bool[np.ndarray, " N"] | None = None,
    ) -> ChunkResult:
        """Runs one action chunk in every world; result as of `VectorEnv.step`.

        Args:
          chunks: actions of H control steps.
          reset_states: initial states for worlds whose episodes end; without them they stay as they are.
          active: worlds that take part; all by default.

        Raises:
          ValueError: wrong shape, or numbers that are not finite.
        """
        chunks = checked_chunks(chunks, self.num_envs)
        active = np.ones(self.num_envs, bool) if active is None else np.asarray(active, bool)
        self._state, outcome = self._run(self._started(), jnp.asarray(chunks, jnp.float32), jnp.asarray(active))
        seen, states, taken, terminated, truncated, failed = jax.tree.map(np.asarray, outcome)
        final = observation = self._observation(self._state, seen)
        self._note(failed)
        ended = np.flatnonzero(terminated | truncated)
        if reset_states is not None and len(ended):
            check_states(reset_states, self.num_envs, self._state_size)
            observation = self.reset_rows(ended, reset_states[ended])
        reward = terminated.astype(np.float64)
        rows = states.astype(np.float64)
        return ChunkResult(observation, final, reward, terminated, truncated, failed, taken.astype(np.int64), rows)

    def split(self, parts: int) -> list["WarpVectorEnv"]:
        """Returns this object: an accelerator steps all worlds at once.

        Raises:
          UserError: for more parts than one.
        """
        if parts != 1:
            raise UserError(f"{parts} parts of worlds on an accelerator, expected 1; set the groups of a rollout to 1")
        return [self]

    def _observation(self, state: WorldState, seen: Seen) -> Observation:
        return to_observation(seen, state.physics(), state.control_steps)

    def _device_states(self, initial_states: Float[np.ndarray, "M D"]) -> Float[Array, "M D"]:
        return jnp.asarray(np.stack([self._settle(state) for state in initial_states]), jnp.float32)

    def _settle(self, state: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
        """Returns an initial state after settling, from the bundle where it is one of the scene's own."""
        known = self._settled.get(np.ascontiguousarray(state, np.float64).tobytes())
        return settle(self.scenes[0], state[None])[0] if known is None else known

    def _note(self, failed: Bool[np.ndarray, " N"]) -> None:
        if not failed.any():
            return
        flags = np.asarray(self._started().overflow)
        for row in np.flatnonzero(failed):
            dropped = int(flags[row]) & DROPPED
            why = f"buffers overflowed (flags {dropped})" if dropped else "the physics became infinite"
            self.failures.append(f"environment {row} ({self.scenes[0].task.id}): {why}")

    def _started(self) -> WorldState:
        if self._state is None:
            raise ValueError("worlds were not reset; call reset first")
        return self._state


def run_chunk(
    world: WarpWorld, state: WorldState, chunks: Float[Array, "N H 7"], active: Bool[Array, " N"]
) -> tuple[WorldState, tuple[Any, ...]]:
    """Runs a chunk of actions in every world until its goal or horizon is reached; a pure function.

    Args:
      world: whose functions are called.
      state: of all worlds.
      chunks: actions of H control steps.
      active: worlds that take part; those whose episodes have ended do not.

    Returns:
      The state, and: the observation, states after each control step (zero where none was taken), control steps taken,
      terminated, truncated, failed. Of a failed world states and count are zero.
    """
    start = active & (state.control_steps < world.horizon)
    state, ends, rows = step_chunk(world, state, chunks, start, WorldState.physics)
    # A failed world has ended, as on the CPU, until it is reset.
    state = state.replace(control_steps=jnp.where(ends.failed, world.horizon, state.control_steps))
    truncated = active & ~ends.terminated & (state.control_steps >= world.horizon)
    states = jnp.where(ends.failed[:, None, None], 0.0, jnp.swapaxes(rows, 0, 1))
    return state, (world.observe(state), states, ends.control_steps, ends.terminated, truncated, ends.failed)


def _settled_rows(scene: Scene) -> dict[bytes, Float[np.ndarray, " D"]]:
    """Returns the settled state of each of the scene's initial states, by the bytes of the latter."""
    settled = reset_states(scene)
    pairs = ((scene.training_states, settled.train), (scene.stored_states, settled.heldout))
    return {
        np.ascontiguousarray(state, np.float64).tobytes(): after
        for states, found in pairs
        for state, after in zip(states, found, strict=True)
    }


def _refuse(fixtures: Sequence[FixturePoses | None] | None) -> None:
    if fixtures is not None and any(poses is not None for poses in fixtures):
        raise UserError(
            "fixtures drawn anew, expected fixed ones on an accelerator; use VectorEnv, or leave them fixed"
        )
