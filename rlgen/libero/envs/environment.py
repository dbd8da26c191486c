"""A single environment: physics, controller and clock, with all state that changes from step to step."""

import copy
from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.core.types import FixturePoses
from rlgen.libero.envs.benchmark_observations import SensorReading
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import contacts_hold
from rlgen.libero.scenes.scene import Scene

Physics = Literal["exact", "fast"]
# Every public evaluation takes these steps before the first action.
SETTLE_STEPS = 10
SETTLE_ACTION = np.array([0, 0, 0, 0, 0, 0, -1.0])
_INTEGRATION_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_DIVERGED = tuple(int(getattr(mujoco.mjtWarning, f"mjWARN_BADQ{kind}")) for kind in ("POS", "VEL", "ACC"))


class DivergedError(Exception):
    """Physics that became infinite."""


@dataclass(frozen=True)
class Snapshot:
    """An environment between two control steps, enough to resume from.

    Attributes:
      integration: MuJoCo's integration state.
      state: time, qpos, qvel as last observed.
      controller: arrays of `kernel_arrays.ControllerState`.
      control_steps: control steps since the episode began.
      fixtures: where the fixtures stand; None for the scene's own draw.
    """

    integration: Float[np.ndarray, " I"]
    state: Float[np.ndarray, " D"]
    controller: tuple[np.ndarray, ...]
    control_steps: int
    fixtures: FixturePoses | None = None


def model_for(scene: Scene, physics: Physics) -> mujoco.MjModel:
    """Returns the scene's model for one kind of physics; environments of one scene and kind share it.

    Args:
      scene: the task's scene.
      physics: `exact` simulates everything, as the benchmark's environment does; `fast` lets resting objects sleep
        (MuJoCo's sleeping islands), and its path is not quite the same: after 40 control steps the robot's joints were
        off by 7e-3 rad in one of 18 tasks.

    Raises:
      ValueError: for unknown physics.
      UserError: where this MuJoCo is too old for `fast`.
    """
    if physics not in ("exact", "fast"):
        raise ValueError(f"unknown physics {physics!r}, expected 'exact' or 'fast'")
    if physics == "exact":
        return scene.model
    sleep = getattr(mujoco.mjtEnableBit, "mjENBL_SLEEP", None)
    if sleep is None:
        raise UserError(f"physics 'fast' needs MuJoCo 3.4 or newer, this is {mujoco.__version__}; use 'exact'")
    model = copy.copy(scene.model)
    model.opt.enableflags |= int(sleep)
    return model


class Environment:
    """One environment of a task, for one thread at a time; `VectorEnv` runs many.

    Attributes:
      scene: the task's scene.
      control_steps: control steps since the episode began.
      state: time, qpos, qvel as last observed, `[D]`.
    """

    def __init__(self, scene: Scene, model: mujoco.MjModel):
        """Makes an environment, which must be reset before its first step.

        Args:
          scene: the task's scene.
          model: from `model_for`.
        """
        self.scene = scene
        self.control_steps = 0
        self.state = np.zeros(1 + scene.model.nq + scene.model.nv)
        self._model = model
        self._data = mujoco.MjData(model)
        self._arrays = kernel_arrays.make_data_arrays(model, self._data)
        self._constants = kernel_arrays.make_constants(scene)
        self._controller = kernel_arrays.make_controller_state(scene)

    def reset(self, state: Float[np.ndarray, " D"]) -> None:
        """Starts an episode from an initial state (time, qpos, qvel), settled for 10 steps as the benchmark does.

        Raises:
          DivergedError: the state cannot be simulated.
        """
        data, controller, nq = self._data, self._controller, self.scene.model.nq
        mujoco.mj_resetData(self._model, data)
        data.qpos[:], data.qvel[:] = state[1 : 1 + nq], state[1 + nq :]
        # As `set_init_state` does; it also gives the constraint solver its first guess.
        mujoco.mj_forward(self._model, data)
        controller.goal_rotation[:] = self.scene.control.initial_orientation
        controller.gripper[:] = 0.0
        controller.sensed_pose[:], controller.sensed_qpos[:] = data.qpos, data.qpos
        controller.sensed_qvel[:] = data.qvel
        rows = np.zeros((SETTLE_STEPS, len(state)))
        actions = np.tile(SETTLE_ACTION, (SETTLE_STEPS, 1))
        kernel.run_chunk(self._arrays, self._constants, controller, actions, False, float(state[0]), rows)
        self._check_diverged()
        self.state[:] = rows[-1]
        self.control_steps = 0

    def step(self, chunk: Float[np.ndarray, "H 7"], states: Float[np.ndarray, "H D"]) -> tuple[int, bool]:
        """Runs a chunk until the goal is reached; contacts are checked where the rest of the goal holds.

        Args:
          chunk: actions in [-1, 1].
          states: output: time, qpos, qvel after each control step.

        Returns:
          Control steps taken, and whether the goal was reached.

        Raises:
          DivergedError: the physics became infinite; the environment must be reset.
        """
        taken, reached = 0, False
        while taken < len(chunk) and not reached:
            time = float(states[taken - 1, 0]) if taken else float(self.state[0])
            rest = chunk[taken:], True, time, states[taken:]
            steps, poses_hold = kernel.run_chunk(self._arrays, self._constants, self._controller, *rest)
            taken += steps
            reached = poses_hold and self._contacts_hold()
        self._check_diverged()
        if taken:
            self.control_steps += taken
            self.state[:] = states[taken - 1]
        return taken, reached

    def sensors(self) -> SensorReading:
        """Returns the last sample of the benchmark's sensors."""
        controller = self._controller
        return SensorReading(
            controller.sensed_pose.copy(), controller.sensed_qpos.copy(), controller.sensed_qvel.copy()
        )

    def constraint_counts(self) -> tuple[int, int]:
        """Returns the numbers of contacts and of constraint rows in the last physics pass."""
        return int(self._data.ncon), int(self._data.nefc)

    def snapshot(self) -> Snapshot:
        """Returns a snapshot.

        The environment continues from it as a restored one does, with all objects awake.
        """
        integration = np.empty(mujoco.mj_stateSize(self._model, _INTEGRATION_STATE))
        mujoco.mj_getState(self._model, self._data, integration, _INTEGRATION_STATE)
        controller = tuple(array.copy() for array in self._controller)
        snapshot = Snapshot(integration, self.state.copy(), controller, self.control_steps, self.scene.fixtures)
        self.restore(snapshot)
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Restores a snapshot of the same scene, with its fixtures where they stand here, and of the same physics."""
        mujoco.mj_resetData(self._model, self._data)
        mujoco.mj_setState(self._model, self._data, snapshot.integration, _INTEGRATION_STATE)
        for array, stored in zip(self._controller, snapshot.controller, strict=True):
            array[:] = stored
        self.state[:] = snapshot.state
        self.control_steps = snapshot.control_steps

    def _contacts_hold(self) -> bool:
        """Returns whether the contacts that the goal asks for exist."""
        if not self.scene.goal.needs_contact:
            return True
        data = self._data
        if self._model is not self.scene.model:
            # Sleeping objects have no contacts, so these are computed with all objects awake.
            data = mujoco.MjData(self.scene.model)
            data.qpos[:] = self._data.qpos
            mujoco.mj_fwdPosition(self.scene.model, data)
        return contacts_hold(self.scene.goal, data)

    def _check_diverged(self) -> None:
        """Raises `DivergedError` where MuJoCo met infinite numbers; it then warns and resets to the model's pose."""
        if any(self._data.warning[kind].number for kind in _DIVERGED):
            raise DivergedError("the physics became infinite")
