"""One environment: physics, controller and clock. All that changes from step to step is in here."""

import copy
from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.libero.envs.benchmark_observations import Sample
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import contacts_hold
from rlgen.libero.scenes.scene import Scene

Physics = Literal["exact", "fast"]
# What every public evaluation does before the first action.
SETTLE_STEPS = 10
SETTLE_ACTION = np.array([0, 0, 0, 0, 0, 0, -1.0])
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_DIVERGED = tuple(int(getattr(mujoco.mjtWarning, f"mjWARN_BADQ{kind}")) for kind in ("POS", "VEL", "ACC"))


class DivergedError(Exception):
    """The physics became infinite."""


@dataclass(frozen=True)
class Snapshot:
    """An environment at rest between two steps, enough to go on from.

    Attributes:
      integration: MuJoCo's integration state.
      physics: time, qpos, qvel as they were observed last.
      controller: the controller's and the sensors' numbers.
      steps: control steps since the episode began.
    """

    integration: Float[np.ndarray, " I"]
    physics: Float[np.ndarray, " D"]
    controller: tuple[np.ndarray, ...]
    steps: int


def model_for(scene: Scene, physics: Physics) -> mujoco.MjModel:
    """The scene's physics in a mode; environments of one scene and mode share it.

    `fast` lets resting objects sleep (MuJoCo's sleeping islands); `exact` simulates everything.

    Raises:
      ValueError: an unknown mode.
      UserError: this MuJoCo is too old for `fast`.
    """
    if physics not in ("exact", "fast"):
        raise ValueError(f"unknown physics {physics!r}, expected 'exact' or 'fast'")
    if physics == "exact":
        return scene.model
    sleep = getattr(mujoco.mjtEnableBit, "mjENBL_SLEEP", None)
    if sleep is None:
        raise UserError(f"physics 'fast' needs MuJoCo 3.4 or newer, this is {mujoco.__version__}; use 'exact'")
    own = copy.copy(scene.model)
    own.opt.enableflags |= int(sleep)
    return own


class Environment:
    """One environment of a task; not for two threads at a time."""

    def __init__(self, scene: Scene, model: mujoco.MjModel):
        self.scene = scene
        self.steps = 0
        self.physics = np.zeros(1 + scene.model.nq + scene.model.nv)
        self._model = model
        self._data = mujoco.MjData(model)
        self._arrays = kernel_arrays.make_data_arrays(model, self._data)
        self._constants = kernel_arrays.make_constants(scene)
        self._controller = kernel_arrays.make_controller_state(scene)

    def reset(self, state: Float[np.ndarray, " D"]) -> None:
        """Starts an episode from an initial state, settled as the benchmark does.

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
        controller.sensed_pose[:], controller.sensed_qpos[:], controller.sensed_qvel[:] = (
            data.qpos,
            data.qpos,
            data.qvel,
        )
        rows = np.zeros((SETTLE_STEPS, len(state)))
        actions = np.tile(SETTLE_ACTION, (SETTLE_STEPS, 1))
        kernel.run_chunk(self._arrays, self._constants, controller, actions, False, float(state[0]), rows)
        self._check()
        self.physics[:] = rows[-1]
        self.steps = 0

    def step(self, chunk: Float[np.ndarray, "H 7"], states: Float[np.ndarray, "H D"]) -> tuple[int, bool]:
        """Runs a chunk until the goal, asking for its contacts wherever all else of it holds.

        Args:
          chunk: actions.
          states: filled with time, qpos, qvel after each control step.

        Returns:
          Control steps taken, and whether the goal was reached.

        Raises:
          DivergedError: the physics became infinite; only a reset helps.
        """
        taken, reached = 0, False
        while taken < len(chunk) and not reached:
            now = float(states[taken - 1, 0]) if taken else float(self.physics[0])
            left = chunk[taken:], True, now, states[taken:]
            steps, likely = kernel.run_chunk(self._arrays, self._constants, self._controller, *left)
            taken += steps
            reached = likely and self._touching()
        self._check()
        if taken:
            self.steps += taken
            self.physics[:] = states[taken - 1]
        return taken, reached

    def sample(self) -> Sample:
        """What the benchmark's sensors saw last."""
        controller = self._controller
        return Sample(controller.sensed_pose.copy(), controller.sensed_qpos.copy(), controller.sensed_qvel.copy())

    def snapshot(self) -> Snapshot:
        """A snapshot. The environment goes on from it as a restored one will, with everything awake."""
        integration = np.empty(mujoco.mj_stateSize(self._model, _STATE))
        mujoco.mj_getState(self._model, self._data, integration, _STATE)
        controller = tuple(array.copy() for array in self._controller)
        snapshot = Snapshot(integration, self.physics.copy(), controller, self.steps)
        self.restore(snapshot)
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Goes back to a snapshot of the same scene and mode."""
        mujoco.mj_resetData(self._model, self._data)
        mujoco.mj_setState(self._model, self._data, snapshot.integration, _STATE)
        for array, kept in zip(self._controller, snapshot.controller, strict=True):
            array[:] = kept
        self.physics[:] = snapshot.physics
        self.steps = snapshot.steps

    def _touching(self) -> bool:
        """Whether the goal's contacts are there; what sleeps has none, so that such scenes are looked at awake."""
        if not self.scene.goal.needs_contact:
            return True
        data = self._data
        if self._model is not self.scene.model:
            data = mujoco.MjData(self.scene.model)
            data.qpos[:] = self._data.qpos
            mujoco.mj_fwdPosition(self.scene.model, data)
        return contacts_hold(self.scene.goal, data)

    def _check(self) -> None:
        """MuJoCo notices numbers that are not finite, warns, and starts over from the model's own pose."""
        if any(self._data.warning[kind].number for kind in _DIVERGED):
            raise DivergedError("the physics became infinite")
