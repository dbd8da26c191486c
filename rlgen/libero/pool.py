"""Many environments of one task on threads."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int

from rlgen.libero import kernel
from rlgen.libero.observe import Observer
from rlgen.libero.predicates import contacts_hold
from rlgen.libero.scene import Scene
from rlgen.types import ACTION_SIZE, Observation

Mode = Literal["exact", "fast"]

# What every public evaluation does before the first action.
SETTLE_STEPS = 10
SETTLE_ACTION = np.array([0, 0, 0, 0, 0, 0, -1.0])


@dataclass(frozen=True)
class ChunkResult:
    """What a chunk did in N environments.

    Attributes:
      observation: after the chunk, and after the reset where an episode ended.
      final_observation: after the chunk, before any reset.
      reward: 1 where the goal was reached within the chunk.
      terminated: the goal was reached.
      truncated: the horizon was reached without the goal.
      steps: control steps used, 0 for environments that were not active.
      states: time, qpos, qvel after each control step; rows beyond `steps` are zero.
    """

    observation: Observation
    final_observation: Observation
    reward: Float[np.ndarray, " N"]
    terminated: Bool[np.ndarray, " N"]
    truncated: Bool[np.ndarray, " N"]
    steps: Int[np.ndarray, " N"]
    states: Float[np.ndarray, "N H D"]


class Pool:
    """N environments of one task. Results do not depend on the number of threads.

    `fast` lets resting objects sleep (MuJoCo's sleeping islands); `exact` simulates everything.
    """

    def __init__(self, scene: Scene, count: int, *, threads: int = 2, mode: Mode = "fast", horizon: int | None = None):
        if count < 1 or threads < 1:
            raise ValueError(f"a pool needs at least one environment and thread, got {count} and {threads}")
        kernel.link_mujoco()
        self.scene, self.count = scene, count
        self.horizon = scene.task.horizon if horizon is None else horizon
        self._model = _model_for(scene.model, mode)
        self._constants = kernel.make_constants(scene)
        self._data = [mujoco.MjData(self._model) for _ in range(count)]
        self._views = [kernel.make_views(self._model, data) for data in self._data]
        self._memory = [kernel.make_controller_state(scene) for _ in range(count)]
        self._steps = np.zeros(count, np.int64)
        self._physics = np.zeros((count, 1 + scene.model.nq + scene.model.nv))
        self._observer = Observer(scene)
        self._threads = ThreadPoolExecutor(min(threads, count))

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown()

    def reset(self, initial_states: Float[np.ndarray, "N D"]) -> Observation:
        """Starts an episode in every environment, settled as the benchmark does (10 control steps)."""
        self._check_states(initial_states)
        list(self._threads.map(self._reset_one, range(self.count), initial_states))
        return self._observe()

    def step(
        self,
        chunks: Float[np.ndarray, "N H 7"],
        *,
        replacements: Float[np.ndarray, "N D"] | None = None,
        active: Bool[np.ndarray, " N"] | None = None,
    ) -> ChunkResult:
        """Runs one action chunk in every environment, until its goal or horizon.

        Args:
          chunks: actions in [-1, 1]; what lies outside is clipped by the controller.
          replacements: initial states for the environments whose episode ends in this chunk; without
            them such environments stay where they ended and must be reset or left inactive.
          active: environments to step; all by default.

        Raises:
          ValueError: wrong shape, or numbers that are not finite.
        """
        chunks = self._checked_actions(chunks)
        active = np.ones(self.count, bool) if active is None else active
        states = np.zeros((self.count, chunks.shape[1], self._physics.shape[1]))
        outcome = list(self._threads.map(self._step_one, range(self.count), chunks, states, active))
        steps = np.array([taken for taken, _ in outcome])
        terminated = np.array([reached for _, reached in outcome])
        truncated = active & ~terminated & (self._steps >= self.horizon)
        final = observation = self._observe()
        ended = np.flatnonzero(terminated | truncated)
        if replacements is not None and len(ended):
            self._check_states(replacements)
            list(self._threads.map(self._reset_one, ended, replacements[ended]))
            observation = self._observe()
        return ChunkResult(observation, final, terminated.astype(np.float64), terminated, truncated, steps, states)

    def _observe(self) -> Observation:
        return self._observer(self._physics.copy(), self._steps.copy())

    def _reset_one(self, index: int, state: np.ndarray) -> None:
        data, memory, nq = self._data[index], self._memory[index], self.scene.model.nq
        mujoco.mj_resetData(self._model, data)
        data.qpos[:], data.qvel[:] = state[1 : 1 + nq], state[1 + nq :]
        # As `set_init_state` does; it also gives the constraint solver its first guess.
        mujoco.mj_forward(self._model, data)
        memory.goal_rotation[:] = self.scene.control.initial_orientation
        memory.gripper[:] = 0.0
        memory.seen_pose[:], memory.seen_qpos[:], memory.seen_qvel[:] = data.qpos, data.qpos, data.qvel
        rows = np.zeros((SETTLE_STEPS, len(state)))
        actions = np.tile(SETTLE_ACTION, (SETTLE_STEPS, 1))
        kernel.run_chunk(self._views[index], self._constants, memory, actions, False, float(state[0]), rows)
        self._physics[index] = rows[-1]
        self._steps[index] = 0

    def _step_one(self, index: int, chunk: np.ndarray, states: np.ndarray, active: bool) -> tuple[int, bool]:
        limit = self.horizon - int(self._steps[index])
        if not active or limit <= 0:
            return 0, False
        time = float(self._physics[index, 0])
        taken, reached = self._run(index, chunk[:limit], time, states)
        self._steps[index] += taken
        self._physics[index] = states[taken - 1]
        return taken, reached

    def _run(self, index: int, chunk: np.ndarray, time: float, states: np.ndarray) -> tuple[int, bool]:
        """Runs a chunk until the goal, asking for its contacts wherever all else of it holds."""
        taken = 0
        while taken < len(chunk):
            now = float(states[taken - 1, 0]) if taken else time
            steps, likely = kernel.run_chunk(
                self._views[index], self._constants, self._memory[index], chunk[taken:], True, now, states[taken:]
            )
            taken += steps
            if likely and self._touching(index):
                return taken, True
        return taken, False

    def _touching(self, index: int) -> bool:
        """Whether the goal's contacts are there; what sleeps has none, so that such scenes are looked at awake."""
        if not self.scene.goal.needs_contact:
            return True
        data = self._data[index]
        if self._model is not self.scene.model:
            awake = mujoco.MjData(self.scene.model)
            awake.qpos[:] = data.qpos
            mujoco.mj_fwdPosition(self.scene.model, awake)
            data = awake
        return contacts_hold(self.scene.goal, data)

    def _checked_actions(self, chunks: np.ndarray) -> np.ndarray:
        chunks = np.ascontiguousarray(chunks, np.float64)
        if chunks.ndim != 3 or chunks.shape[0] != self.count or chunks.shape[2] != ACTION_SIZE:
            raise ValueError(f"actions have shape {chunks.shape}, expected [{self.count}, H, {ACTION_SIZE}]")
        if not np.isfinite(chunks).all():
            rows = sorted(set(np.argwhere(~np.isfinite(chunks))[:, 0].tolist()))
            raise ValueError(f"actions of environments {rows} are not finite; check the policy")
        return chunks

    def _check_states(self, states: np.ndarray) -> None:
        if states.shape != self._physics.shape:
            raise ValueError(f"initial states have shape {states.shape}, expected {self._physics.shape}")


def _model_for(model: mujoco.MjModel, mode: Mode) -> mujoco.MjModel:
    if mode not in ("exact", "fast"):
        raise ValueError(f"unknown mode {mode!r}, expected 'exact' or 'fast'")
    if mode == "exact":
        return model
    own = copy.copy(model)
    own.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    return own
