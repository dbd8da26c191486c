"""Replay of recorded actions, and how far a recording's fixtures stand from the scene's."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float

from rlgen.libero.envs.environment import Environment, model_for
from rlgen.libero.physics import kernel
from rlgen.libero.scenes.scene import Scene

Item = TypeVar("Item")
Result = TypeVar("Result")


def replay(
    scene: Scene, initial_state: Float[np.ndarray, " D"], actions: Float[np.ndarray, "T 7"]
) -> tuple[Float[np.ndarray, "T+1 D"], Float[np.ndarray, " T"]]:
    """Runs all actions from an initial state, settled as in every public evaluation, in `exact` physics.

    It does not stop at the goal: people hold still for a moment after they have reached it, and the same part must be
    cut off as elsewhere.

    Args:
      scene: the task's scene.
      initial_state: time, qpos, qvel before settling.
      actions: in [-1, 1].

    Returns:
      States before each action and after the last, and rewards, 1 where the goal held after the action.

    Raises:
      DivergedError: the physics became infinite.
    """
    kernel.link_mujoco()
    environment = Environment(scene, model_for(scene, "exact"))
    environment.reset(initial_state)
    states, rewards = np.zeros((len(actions) + 1, len(initial_state))), np.zeros(len(actions))
    states[0] = environment.state
    done = 0
    while done < len(actions):
        taken, reached = environment.step(np.ascontiguousarray(actions[done:], np.float64), states[1 + done :])
        done += taken
        rewards[done - 1] = reached
    return states, rewards


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Maps a function over items on threads, with bounded memory: at most two items a thread are in flight.

    Args:
      function: called with each item, on a thread.
      items: may be many, or endless; taken as results are.
      threads: number of threads.

    Returns:
      The results, in the order of the items.
    """
    with ThreadPoolExecutor(threads) as pool:
        pending: deque = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def fixture_offset(scene: Scene, model_file: str) -> float | None:
    """Returns the largest distance, metres, between a fixture in an episode's own MJCF and in the scene.

    The benchmark samples the positions of cabinets, stoves and racks anew at every reset, and stores them only in this
    MJCF, which files of human demonstrations have for every episode.

    Args:
      scene: the scene to compare with.
      model_file: the MJCF as text.

    Returns:
      The distance; None where the MJCF cannot be read or has no fixture of the scene.
    """
    try:
        root = ElementTree.fromstring(model_file)
        positions = {body.get("name"): _position(body) for body in root.iterfind("./worldbody/body")}
    except (ElementTree.ParseError, ValueError):
        return None
    model = scene.model
    robot = model.body_rootid[scene.robot.hand_body]
    fixed = (model.body_weldid == 0) & (model.body_parentid == 0)
    offsets = [
        float(np.linalg.norm(positions[model.body(index).name] - model.body_pos[index]))
        for index in np.flatnonzero(fixed)
        if index not in (0, robot) and model.body(index).name in positions
    ]
    return max(offsets, default=None)


def _position(body: ElementTree.Element) -> np.ndarray:
    position = np.array([float(number) for number in body.get("pos", "0 0 0").split()])
    if position.shape != (3,):
        raise ValueError(f"pos {body.get('pos')!r}")
    return position
