"""Many environments on threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.types import Observation, RobotState
from rlgen.libero.envs.benchmark_observations import BenchmarkObserver
from rlgen.libero.envs.environment import Environment, Physics, Snapshot, model_for
from rlgen.libero.envs.observations import Observer, observation_size
from rlgen.libero.physics import kernel
from rlgen.libero.scenes.scene import Scene


@dataclass(frozen=True)
class ChunkResult:
    """What a chunk did in N environments.

    Attributes:
      observation: after the chunk, and after the reset where an episode ended.
      final_observation: after the chunk, before any reset.
      reward: 1 where the goal was reached within the chunk.
      terminated: the goal was reached.
      truncated: the horizon was reached without the goal, or the environment failed.
      failed: the environment raised or its physics became infinite; what it did in this chunk is void.
      control_steps: control steps used, 0 for environments that were not active.
      states: time, qpos, qvel after each control step; rows beyond `control_steps` are zero.
    """

    observation: Observation
    final_observation: Observation
    reward: Float[np.ndarray, " N"]
    terminated: Bool[np.ndarray, " N"]
    truncated: Bool[np.ndarray, " N"]
    failed: Bool[np.ndarray, " N"]
    control_steps: Int[np.ndarray, " N"]
    states: Float[np.ndarray, "N H D"]


class VectorEnv:
    """N environments, of one task or of several. Results do not depend on the number of threads.

    Rows of observations and states are as long as the longest task needs, filled up with zeros.

    Attributes:
      scenes: the scene of each environment; equal ones share their model.
      failures: a line for every failure since the pool was made.
    """

    def __init__(
        self, scenes: Sequence[Scene], *, threads: int = 2, physics: Physics = "fast", horizon: int | None = None
    ):
        """Makes one environment an entry of `scenes`.

        Args:
          scenes: `[scene] * N` for one task.
          threads: of the machine's cores; more than there are cores hurts.
          physics: `fast` lets resting objects sleep, `exact` simulates everything.
          horizon: control steps of an episode; each task's own by default.
        """
        if not scenes or threads < 1:
            raise ValueError(f"a pool needs at least one scene and thread, got {len(scenes)} and {threads}")
        kernel.link_mujoco()
        self.scenes, self.failures = tuple(scenes), []
        models = {id(scene): model_for(scene, physics) for scene in self.scenes}
        self._environments = [Environment(scene, models[id(scene)]) for scene in self.scenes]
        self._horizons = np.array([scene.task.horizon if horizon is None else horizon for scene in self.scenes])
        self._width = max(len(environment.physics) for environment in self._environments)
        self._observers = {id(scene): Observer(scene) for scene in self.scenes}
        self._named = {id(scene): BenchmarkObserver(scene) for scene in self.scenes}
        self._threads = ThreadPoolExecutor(min(threads, self.num_envs))

    @property
    def num_envs(self) -> int:
        """N."""
        return len(self.scenes)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown()

    def reset(self, initial_states: Float[np.ndarray, "N D"]) -> Observation:
        """Starts an episode in every environment, settled as the benchmark does (10 control steps).

        Raises:
          ValueError: wrong shape.
          DivergedError: an initial state cannot be simulated.
        """
        self._check_states(initial_states)
        list(self._threads.map(self._reset_one, range(self.num_envs), initial_states))
        return self._observe()

    def reset_rows(self, rows: Int[np.ndarray, " M"], initial_states: Float[np.ndarray, "M D"]) -> Observation:
        """Starts an episode in some environments; the observation is of all."""
        list(self._threads.map(self._reset_one, rows, initial_states))
        return self._observe()

    def step(
        self,
        chunks: Float[np.ndarray, "N H 7"],
        *,
        reset_states: Float[np.ndarray, "N D"] | None = None,
        active: Bool[np.ndarray, " N"] | None = None,
    ) -> ChunkResult:
        """Runs one action chunk in every environment, until its goal or horizon.

        Args:
          chunks: actions in [-1, 1]; what lies outside is clipped by the controller.
          reset_states: initial states for the environments whose episode ends in this chunk; without
            them such environments stay where they ended and must be reset or left inactive.
          active: environments to step; all by default.

        Raises:
          ValueError: wrong shape, or numbers that are not finite.
        """
        chunks = self._checked_actions(chunks)
        active = np.ones(self.num_envs, bool) if active is None else active
        states = np.zeros((self.num_envs, chunks.shape[1], self._width))
        outcome = list(self._threads.map(self._step_one, range(self.num_envs), chunks, states, active))
        steps, terminated, failed = (np.array(column) for column in zip(*outcome, strict=True))
        truncated = active & ~terminated & (self._steps() >= self._horizons)
        final = observation = self._observe()
        ended = np.flatnonzero(terminated | truncated)
        if reset_states is not None and len(ended):
            self._check_states(reset_states)
            observation = self.reset_rows(ended, reset_states[ended])
        reward = terminated.astype(np.float64)
        return ChunkResult(observation, final, reward, terminated, truncated, failed, steps, states)

    def benchmark_observations(self) -> list[dict[str, Float[np.ndarray, " D"]]]:
        """What the benchmark's environment would say after the last step, under its own names."""
        return [self._named[id(e.scene)](e.sample()) for e in self._environments]

    def snapshot(self) -> list[Snapshot]:
        """Every environment between two steps. From here this pool and a restored one do the same."""
        return [environment.snapshot() for environment in self._environments]

    def restore(self, snapshots: Sequence[Snapshot]) -> Observation:
        """Goes back to what a pool of the same scenes and mode has saved."""
        for environment, snapshot in zip(self._environments, snapshots, strict=True):
            environment.restore(snapshot)
        return self._observe()

    def _steps(self) -> Int[np.ndarray, " N"]:
        return np.array([environment.steps for environment in self._environments])

    def _observe(self) -> Observation:
        physics = np.zeros((self.num_envs, self._width))
        for row, environment in zip(physics, self._environments, strict=True):
            row[: len(environment.physics)] = environment.physics
        if len(self._observers) == 1:
            return self._observers[id(self.scenes[0])](physics, self._steps())
        numbers = max(observation_size(scene) for scene in self.scenes)
        rows = [
            self._observers[id(scene)](row[None, : len(environment.physics)])
            for scene, row, environment in zip(self.scenes, physics, self._environments, strict=True)
        ]
        vector = np.zeros((self.num_envs, numbers))
        for row, seen in zip(vector, rows, strict=True):
            row[: seen.vector.shape[1]] = seen.vector[0]
        return Observation(vector, physics, RobotState.stack([seen.robot for seen in rows]), self._steps())

    def _reset_one(self, index: int, state: np.ndarray) -> None:
        environment = self._environments[index]
        environment.reset(state[: len(environment.physics)])

    def _step_one(self, index: int, chunk: np.ndarray, states: np.ndarray, active: bool) -> tuple[int, bool, bool]:
        """Steps taken, whether the goal was reached, whether the environment failed."""
        environment, horizon = self._environments[index], int(self._horizons[index])
        limit = horizon - environment.steps
        if not active or limit <= 0:
            return 0, False, False
        try:
            taken, reached = environment.step(chunk[:limit], states[:limit, : len(environment.physics)])
        except Exception as error:
            # One bad environment must not end a run of thousands; its episode ends here.
            self.failures.append(f"environment {index} ({environment.scene.task.id}): {error}")
            environment.steps = horizon
            states[:] = 0.0
            return 0, False, True
        return taken, reached, False

    def _checked_actions(self, chunks: np.ndarray) -> np.ndarray:
        chunks = np.ascontiguousarray(chunks, np.float64)
        if chunks.ndim != 3 or chunks.shape[0] != self.num_envs or chunks.shape[2] != ACTION_SIZE:
            raise ValueError(f"actions have shape {chunks.shape}, expected [{self.num_envs}, H, {ACTION_SIZE}]")
        if not np.isfinite(chunks).all():
            rows = sorted(set(np.argwhere(~np.isfinite(chunks))[:, 0].tolist()))
            raise ValueError(f"actions of environments {rows} are not finite; check the policy")
        return chunks

    def _check_states(self, states: np.ndarray) -> None:
        if states.shape != (self.num_envs, self._width):
            raise ValueError(f"initial states have shape {states.shape}, expected {(self.num_envs, self._width)}")
