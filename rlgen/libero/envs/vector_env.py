"""The vector environment: many environments that are stepped together, on threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.types import FixturePoses, Observation, RobotState
from rlgen.libero.envs.benchmark_observations import BenchmarkObserver
from rlgen.libero.envs.environment import Environment, Physics, Snapshot, model_for
from rlgen.libero.envs.observations import Observer, observation_size
from rlgen.libero.physics import kernel
from rlgen.libero.scenes.scene import Scene


@dataclass(frozen=True)
class ChunkResult:
    """The outcome of an action chunk in N environments.

    Attributes:
      observation: after the chunk, and after the reset where an episode ended.
      final_observation: after the chunk, before any reset.
      reward: 1 where the goal was reached within the chunk.
      terminated: the goal was reached.
      truncated: the horizon was reached without the goal, or the environment failed.
      failed: the environment raised an error or its physics became infinite; its part of this chunk is void.
      control_steps: control steps taken, 0 for environments that were not active.
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


def checked_chunks(chunks: Float[np.ndarray, "N H 7"], num_envs: int) -> Float[np.ndarray, "N H 7"]:
    """Returns action chunks in double precision.

    Raises:
      ValueError: they are not finite, or not of `num_envs` environments.
    """
    chunks = np.ascontiguousarray(chunks, np.float64)
    if chunks.ndim != 3 or chunks.shape[0] != num_envs or chunks.shape[2] != ACTION_SIZE:
        raise ValueError(f"actions have shape {chunks.shape}, expected [{num_envs}, H, {ACTION_SIZE}]")
    if not np.isfinite(chunks).all():
        rows = sorted(set(np.argwhere(~np.isfinite(chunks))[:, 0].tolist()))
        raise ValueError(f"actions of environments {rows} are not finite; check the policy")
    return chunks


def check_states(states: Float[np.ndarray, "M D"], rows: int, size: int) -> None:
    """Checks the shape of initial states.

    Args:
      states: time, qpos, qvel of each.
      rows: M.
      size: D.

    Raises:
      ValueError: another shape.
    """
    if states.shape != (rows, size):
        raise ValueError(f"initial states have shape {states.shape}, expected {(rows, size)}")


class _SharedParts(NamedTuple):
    """Parts that environments with the same scene and the same fixtures share."""

    scene: Scene
    model: mujoco.MjModel
    observer: Observer
    benchmark_observer: BenchmarkObserver


def _make_parts(scene: Scene, physics: Physics) -> _SharedParts:
    return _SharedParts(scene, model_for(scene, physics), Observer(scene), BenchmarkObserver(scene))


def _with_own_observers(parts: _SharedParts) -> _SharedParts:
    return parts._replace(observer=Observer(parts.scene), benchmark_observer=BenchmarkObserver(parts.scene))


class VectorEnv:
    """N environments of one task or of several, stepped by action chunks on threads.

    Results do not depend on the number of threads. An episode ends when the goal is reached (`terminated`) or after
    `horizon` control steps (`truncated`). Rows of observations and states are as long as the largest scene needs;
    those of smaller scenes are padded with zeros.

    An example of use:

        env = VectorEnv([scene] * 8, threads=2)
        observation = env.reset(scene.training_states[:8])
        while True:
            chunk = policy(observation)  # [8, H, 7] in [-1, 1]
            result = env.step(chunk, reset_states=scene.training_states[8:16])
            observation = result.observation  # of the next episode, where one has ended
        env.close()

    Attributes:
      scenes: the scene of each environment; equal ones share their model.
      failures: a line for every failed environment since this object was made.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        *,
        threads: int | ThreadPoolExecutor = 2,
        physics: Physics = "fast",
        horizon: int | None = None,
    ):
        """Makes one environment for each entry of `scenes`; they must be reset before the first step.

        Args:
          scenes: `[scene] * N` for one task.
          threads: threads that step environments, more than the machine has cores is slower; or a pool of them that
            several such objects share, which is left open.
          physics: `fast` lets resting objects sleep, `exact` simulates everything.
          horizon: control steps of an episode; each task's own by default.

        Raises:
          ValueError: no scene, or fewer threads than one.
        """
        if not scenes or (isinstance(threads, int) and threads < 1):
            raise ValueError(f"expected at least one scene and one thread, got {len(scenes)} and {threads}")
        kernel.link_mujoco()
        self.scenes, self.failures = tuple(scenes), []
        self._physics: Physics = physics
        self._shared = {id(scene): _make_parts(scene, physics) for scene in self.scenes}
        self._parts = [self._shared[id(scene)] for scene in self.scenes]
        self._environments = [Environment(parts.scene, parts.model) for parts in self._parts]
        self._horizons = np.array([scene.task.horizon if horizon is None else horizon for scene in self.scenes])
        self._state_size = max(len(environment.state) for environment in self._environments)
        self._is_pool_shared = isinstance(threads, ThreadPoolExecutor)
        self._threads = (
            threads if isinstance(threads, ThreadPoolExecutor) else ThreadPoolExecutor(min(threads, self.num_envs))
        )

    @property
    def num_envs(self) -> int:
        """Returns N."""
        return len(self.scenes)

    def close(self) -> None:
        """Ends the threads, unless they are shared."""
        if not self._is_pool_shared:
            self._threads.shutdown()

    def reset(
        self, initial_states: Float[np.ndarray, "N D"], fixtures: Sequence[FixturePoses | None] | None = None
    ) -> Observation:
        """Starts an episode in every environment, settled as the benchmark does (10 control steps).

        Args:
          initial_states: time, qpos, qvel of each environment, e.g. rows of `Scene.training_states`.
          fixtures: where the fixtures of each environment stand in this episode, e.g. `Scene.draw_fixtures`; None for
            the scene's own draw.

        Raises:
          ValueError: wrong shape.
          DivergedError: an initial state cannot be simulated.
        """
        check_states(initial_states, self.num_envs, self._state_size)
        return self.reset_rows(np.arange(self.num_envs), initial_states, fixtures)

    def reset_rows(
        self,
        rows: Int[np.ndarray, " M"],
        initial_states: Float[np.ndarray, "M D"],
        fixtures: Sequence[FixturePoses | None] | None = None,
    ) -> Observation:
        """Starts an episode in some environments.

        Args:
          rows: indices of these environments.
          initial_states: time, qpos, qvel of each of them.
          fixtures: where the fixtures of each of them stand, as of `reset`.

        Returns:
          The observation of all N environments.
        """
        for row, poses in zip(rows, [None] * len(rows) if fixtures is None else fixtures, strict=True):
            self._place(int(row), poses)
        return self._restart(rows, initial_states)

    def step(
        self,
        chunks: Float[np.ndarray, "N H 7"],
        *,
        reset_states: Float[np.ndarray, "N D"] | None = None,
        active: Bool[np.ndarray, " N"] | None = None,
    ) -> ChunkResult:
        """Runs one action chunk in every environment, until its goal or horizon is reached.

        Args:
          chunks: actions in [-1, 1]; the controller clips what lies outside.
          reset_states: initial states for the environments whose episodes end in this chunk; their fixtures stay.
            Without them such environments stay where they ended, and must be reset or left inactive.
          active: environments to step; all by default.

        Raises:
          ValueError: wrong shape, or numbers that are not finite.
        """
        chunks = checked_chunks(chunks, self.num_envs)
        active = np.ones(self.num_envs, bool) if active is None else active
        states = np.zeros((self.num_envs, chunks.shape[1], self._state_size))
        outcomes = list(self._threads.map(self._step_one, range(self.num_envs), chunks, states, active))
        control_steps, terminated, failed = (np.array(column) for column in zip(*outcomes, strict=True))
        truncated = active & ~terminated & (self._episode_steps() >= self._horizons)
        final = observation = self._observe()
        ended = np.flatnonzero(terminated | truncated)
        if reset_states is not None and len(ended):
            check_states(reset_states, self.num_envs, self._state_size)
            observation = self._restart(ended, reset_states[ended])
        reward = terminated.astype(np.float64)
        return ChunkResult(observation, final, reward, terminated, truncated, failed, control_steps, states)

    def benchmark_observations(self) -> list[dict[str, Float[np.ndarray, " D"]]]:
        """Returns the observation of each environment's last step as the benchmark names and computes it."""
        return [
            parts.benchmark_observer(environment.sensors())
            for parts, environment in zip(self._parts, self._environments, strict=True)
        ]

    def split(self, parts: int) -> list["VectorEnv"]:
        """Returns vector environments over equal, contiguous parts of the environments.

        They share environments, threads and `failures` with this object, and may be stepped side by side; those that
        are given fixtures of their own share no longer. Only this object is closed.

        Raises:
          ValueError: the environments do not divide.
        """
        if parts < 1 or self.num_envs % parts:
            raise ValueError(f"{self.num_envs} environments in {parts} parts: expected a divisor")
        size, found = self.num_envs // parts, []
        for first in range(0, self.num_envs, size):
            part, rows = copy(self), slice(first, first + size)
            part.scenes, part._environments = self.scenes[rows], self._environments[rows]
            part._horizons = self._horizons[rows]
            # Observers are for one thread at a time.
            part._shared = {id(scene): _with_own_observers(self._shared[id(scene)]) for scene in part.scenes}
            part._parts = [
                part._shared[id(scene)] if used is self._shared[id(scene)] else _with_own_observers(used)
                for scene, used in zip(part.scenes, self._parts[rows], strict=True)
            ]
            found.append(part)
        return found

    def snapshot(self) -> list[Snapshot]:
        """Returns a snapshot of every environment; from here on this object and a restored one act alike."""
        return [environment.snapshot() for environment in self._environments]

    def restore(self, snapshots: Sequence[Snapshot]) -> Observation:
        """Restores snapshots that were taken from the same scenes and physics."""
        for index, snapshot in enumerate(snapshots):
            self._place(index, snapshot.fixtures)
            self._environments[index].restore(snapshot)
        return self._observe()

    def _episode_steps(self) -> Int[np.ndarray, " N"]:
        return np.array([environment.control_steps for environment in self._environments])

    def _observe(self) -> Observation:
        states = np.zeros((self.num_envs, self._state_size))
        for row, environment in zip(states, self._environments, strict=True):
            row[: len(environment.state)] = environment.state
        if all(parts is self._parts[0] for parts in self._parts):
            return self._parts[0].observer(states, self._episode_steps())
        single = [
            parts.observer(environment.state[None])
            for parts, environment in zip(self._parts, self._environments, strict=True)
        ]
        vector = np.zeros((self.num_envs, max(observation_size(scene) for scene in self.scenes)))
        for row, observation in zip(vector, single, strict=True):
            row[: observation.vector.shape[1]] = observation.vector[0]
        robot = RobotState.stack([observation.robot for observation in single])
        fixtures = [parts.scene.fixtures for parts in self._parts]
        drawn = any(poses is not None for poses in fixtures)
        return Observation(vector, states, robot, self._episode_steps(), fixtures if drawn else None)

    def _place(self, index: int, fixtures: FixturePoses | None) -> None:
        """Makes an environment with its fixtures elsewhere in place of one that is about to be reset."""
        shared = self._shared[id(self.scenes[index])]
        if fixtures is None and self._parts[index] is shared:
            return
        parts = shared if fixtures is None else _make_parts(shared.scene.placed(fixtures), self._physics)
        self._parts[index], self._environments[index] = parts, Environment(parts.scene, parts.model)

    def _restart(self, rows: Int[np.ndarray, " M"], initial_states: Float[np.ndarray, "M D"]) -> Observation:
        """Starts an episode in some environments with the fixtures where they are; returns what all observe."""
        list(self._threads.map(self._reset_one, rows, initial_states))
        return self._observe()

    def _reset_one(self, index: int, state: np.ndarray) -> None:
        environment = self._environments[index]
        environment.reset(state[: len(environment.state)])

    def _step_one(self, index: int, chunk: np.ndarray, states: np.ndarray, active: bool) -> tuple[int, bool, bool]:
        """Steps one environment; returns control steps taken, whether the goal was reached, and whether it failed."""
        environment, horizon = self._environments[index], int(self._horizons[index])
        limit = horizon - environment.control_steps
        if not active or limit <= 0:
            return 0, False, False
        try:
            taken, reached = environment.step(chunk[:limit], states[:limit, : len(environment.state)])
        except Exception as error:
            # One bad environment must not end a run of thousands; its episode ends here.
            self.failures.append(f"environment {index} ({environment.scene.task.id}): {error}")
            environment.control_steps = horizon
            states[:] = 0.0
            return 0, False, True
        return taken, reached, False
