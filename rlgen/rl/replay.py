"""Replays: actions of a recorded episode in our own world, so that every action has the state before it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from rlgen.libero import kernel
from rlgen.libero.environment import Environment, model_for
from rlgen.libero.scene import Scene

Item = TypeVar("Item")
Result = TypeVar("Result")


def replay(
    scene: Scene, initial_state: Float[np.ndarray, " D"], actions: Float[np.ndarray, "T 7"]
) -> tuple[Float[np.ndarray, "T+1 D"], Float[np.ndarray, " T"]]:
    """Runs all actions from an initial state, settled as every public evaluation does, in `exact` physics.

    It does not stop at the goal: people hold still for a moment when they have reached it, and what is dropped
    must be the same as elsewhere.

    Returns:
      States before each action and after the last; rewards, 1 where the goal held after the action.

    Raises:
      Diverged: the physics became infinite.
    """
    kernel.link_mujoco()
    environment = Environment(scene, model_for(scene, "exact"))
    environment.reset(initial_state)
    states, rewards = np.zeros((len(actions) + 1, len(initial_state))), np.zeros(len(actions))
    states[0] = environment.physics
    done = 0
    while done < len(actions):
        taken, reached = environment.step(np.ascontiguousarray(actions[done:], np.float64), states[1 + done :])
        done += taken
        rewards[done - 1] = reached
    return states, rewards


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Results in order, with no more than two items a thread under way, however many there are."""
    with ThreadPoolExecutor(threads) as pool:
        pending: deque = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
