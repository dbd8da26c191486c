"""Worlds on an accelerator as pure functions on arrays, and chunks of actions in them.

What steps a `DeviceWorld` can be compiled whole, as PPO's iterations are (`rlgen.rl.device`). One is
`libero.warp.world.WarpWorld`. Its state is a pytree of arrays of all N worlds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class ControlStep(Protocol):
    """The outcome of a control step in N worlds; `libero.warp.world.StepResult` is one."""

    @property
    def reward(self) -> Float[Array, " N"]:
        """The reward."""
        ...

    @property
    def terminated(self) -> Bool[Array, " N"]:
        """The episode ended, by the goal or for good."""
        ...

    @property
    def truncated(self) -> Bool[Array, " N"]:
        """The episode was cut off; failed worlds are."""
        ...

    @property
    def failed(self) -> Bool[Array, " N"]:
        """The world could not be simulated, and stayed as it was before the step; its episode is void."""
        ...


@runtime_checkable
class DeviceWorld(Protocol):
    """N worlds whose methods are pure functions; hashable, to be a static argument of a compiled function.

    What is observed is a pytree with a `vector`, as `core.types.Observation` has one, and whatever else an observer
    reads.
    """

    @property
    def worlds(self) -> int:
        """N."""
        ...

    @property
    def training_states(self) -> Float[Array, "R D"]:
        """The reset states of training, on the device."""
        ...

    def reset(self, states: Float[Array, "N D"], /) -> tuple[Any, Any]:
        """Starts an episode in every world; returns the state and what is observed."""
        ...

    def reset_rows(self, state: Any, rows: Bool[Array, " N"], states: Float[Array, "N D"], /) -> tuple[Any, Any]:
        """Starts an episode in some worlds; returns as `reset` does.

        Args:
          state: of all worlds.
          rows: True for these worlds.
          states: read for these worlds.
        """
        ...

    def step(self, state: Any, actions: Float[Array, "N A"], active: Bool[Array, " N"], /) -> tuple[Any, ControlStep]:
        """Takes a control step.

        Args:
          state: of all worlds.
          actions: of all worlds.
          active: worlds that take it; the others stay as they are, have no reward and end nothing.
        """
        ...

    def observe(self, state: Any, /) -> Any:
        """Returns what is observed in every world."""
        ...


class ChunkEnds(NamedTuple):
    """The outcome of a chunk of actions in N worlds.

    Attributes:
      reward: sum over the chunk.
      terminated: the episode ended in the chunk.
      truncated: the episode was cut off in the chunk; failed ones are.
      failed: the world could not be simulated, and its episode is void.
      control_steps: that were taken; 0 where it failed.
    """

    reward: Float[Array, " N"]
    terminated: Bool[Array, " N"]
    truncated: Bool[Array, " N"]
    failed: Bool[Array, " N"]
    control_steps: Int[Array, " N"]


def step_chunk(
    world: DeviceWorld,
    state: Any,
    chunks: Float[Array, "N H A"],
    active: Bool[Array, " N"] | None = None,
    record: Callable[[Any], Float[Array, "N D"]] | None = None,
) -> tuple[Any, ChunkEnds, Float[Array, "H N D"] | None]:
    """Takes the actions of a chunk in every world, until its episode ends; a pure function.

    Args:
      world: whose functions are called.
      state: of all worlds.
      chunks: actions of H control steps.
      active: worlds that take part; all by default.
      record: what to return of the state after each control step.

    Returns:
      The state, the outcome, and what was recorded; zeros where no step was taken.
    """
    running = jnp.ones(chunks.shape[0], bool) if active is None else active
    none = jnp.zeros_like(running)
    start = ChunkEnds(jnp.zeros(running.shape), none, none, none, jnp.zeros(running.shape, jnp.int32))

    def control_step(carry: tuple, actions: Float[Array, "N A"]) -> tuple:
        state, running, ends = carry
        state, step = world.step(state, actions, running)
        ends = ChunkEnds(
            ends.reward + step.reward,
            ends.terminated | step.terminated,
            ends.truncated | step.truncated,
            ends.failed | step.failed,
            ends.control_steps + running,
        )
        row = None if record is None else jnp.where(running[:, None], record(state), 0.0)
        return (state, running & ~step.terminated & ~step.truncated, ends), row

    (state, _, ends), rows = jax.lax.scan(control_step, (state, running, start), jnp.swapaxes(chunks, 0, 1))
    return state, ends._replace(control_steps=jnp.where(ends.failed, 0, ends.control_steps)), rows
