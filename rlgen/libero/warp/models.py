"""The beginning of a world on an accelerator: its model, settled reset states, and how large its buffers must be.

Reset states of the benchmark fall onto the table, with several times the contacts of objects at rest. They are settled
on the CPU, once for each scene, as `Environment.reset` does, and kept in the scene bundle beside the compiled physics,
for each version of MuJoCo.
"""

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.files import atomic_path
from rlgen.libero.envs.environment import SETTLE_ACTION, SETTLE_STEPS, Environment
from rlgen.libero.physics import kernel
from rlgen.libero.scenes.scene import Scene

# Single precision cannot solve to MuJoCo's 1e-8: the solver would go on to its limit of iterations.
TOLERANCE = 1e-6
# Control steps of random actions in which contacts and constraints are counted, and from how many states.
MEASURED_STEPS, MEASURED_STATES = 12, 16
_FORMAT = 1


@dataclass(frozen=True)
class Room:
    """The size of the buffers of a world.

    Attributes:
      contacts: of a world; those of all worlds share one buffer.
      constraints: rows of a world.
    """

    contacts: int
    constraints: int

    def with_head_room(self) -> "Room":
        """Returns room for what was counted and for a grasp and a fall on top of it."""
        return Room(_round_up(1.5 * self.contacts + 32, 8), _round_up(1.5 * self.constraints + 128, 16))


def _round_up(value: float, step: int) -> int:
    return int(np.ceil(value / step)) * step


@dataclass(frozen=True)
class ResetStates:
    """The initial states of a scene, settled, and what was counted on the way.

    Attributes:
      train, heldout: time, qpos, qvel of every initial state of a split, after settling.
      counted: the largest numbers of contacts and constraint rows from settled states on.
    """

    train: Float[np.ndarray, "R D"]
    heldout: Float[np.ndarray, "S D"]
    counted: Room


def accelerator_model(scene: Scene, *, sleep: bool = False) -> mujoco.MjModel:
    """Returns the scene's physics as MuJoCo Warp is to simulate it: without visual geoms, materials and sensors.

    Args:
      scene: the task's scene.
      sleep: let resting objects sleep, as the physics `fast` does on the CPU.
    """
    model = copy.copy(scene.model)
    model.opt.tolerance = TOLERANCE
    if sleep:
        model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    return model


def settled_gripper(scene: Scene) -> Float[np.ndarray, "2"]:
    """Returns the internal gripper commands after settling, which opens the fingers."""
    moved = SETTLE_STEPS * scene.control.substeps * scene.control.gripper_speed * np.sign(SETTLE_ACTION[-1])
    return np.clip(np.array([-moved, moved]), -1.0, 1.0)


def settle(scene: Scene, states: Float[np.ndarray, "R D"]) -> Float[np.ndarray, "R D"]:
    """Returns initial states after settling, in exact physics on the CPU.

    Args:
      scene: the task's scene.
      states: time, qpos, qvel of each.

    Raises:
      DivergedError: a state cannot be simulated.
    """
    kernel.link_mujoco()

    def settle_some(part: Float[np.ndarray, "P D"]) -> list[Float[np.ndarray, " D"]]:
        environment, rows = Environment(scene, scene.model), []
        for state in part:
            environment.reset(state)
            rows.append(environment.state.copy())
        return rows

    workers = min(os.cpu_count() or 1, len(states))
    with ThreadPoolExecutor(workers) as threads:
        return np.concatenate(list(threads.map(settle_some, np.array_split(states, workers))))


def count_room(scene: Scene, states: Float[np.ndarray, "R D"], *, seed: int = 0) -> Room:
    """Counts the contacts and constraint rows that worlds have, under random actions.

    Args:
      scene: the task's scene.
      states: initial states, not settled; some of them are tried.
      seed: of the actions.
    """
    kernel.link_mujoco()
    random, room = np.random.default_rng(seed), Room(0, 0)
    environment = Environment(scene, scene.model)
    for state in states[:: max(1, len(states) // MEASURED_STATES)][:MEASURED_STATES]:
        environment.reset(state)
        for action in random.uniform(-1.0, 1.0, (MEASURED_STEPS, 1, ACTION_SIZE)):
            environment.step(action, np.empty((1, len(state))))
            contacts, constraints = environment.constraint_counts()
            room = Room(max(room.contacts, contacts), max(room.constraints, constraints))
    return room


def reset_states(scene: Scene) -> ResetStates:
    """Returns the settled initial states of a scene, from its bundle where they are kept (seconds the first time)."""
    # Named as before there was a choice where resets are standard.
    resets = "" if scene.resets == "standard" else f"{scene.resets}-"
    file = scene.folder / f"settled-{resets}{_FORMAT}-{mujoco.__version__}.npz"
    if file.exists():
        return _read(file)
    found = ResetStates(
        settle(scene, scene.training_states),
        settle(scene, scene.stored_states),
        count_room(scene, scene.training_states),
    )
    if os.access(scene.folder, os.W_OK):
        _write(file, found)
    return found


def _read(file: Path) -> ResetStates:
    with np.load(file, allow_pickle=False) as arrays:
        counted = Room(*(int(count) for count in arrays["counted"]))
        return ResetStates(arrays["train"], arrays["heldout"], counted)


def _write(file: Path, states: ResetStates) -> None:
    counted = np.array([getattr(states.counted, field.name) for field in fields(Room)])
    with atomic_path(file) as temporary, open(temporary, "wb") as out:
        np.savez_compressed(out, train=states.train, heldout=states.heldout, counted=counted)
