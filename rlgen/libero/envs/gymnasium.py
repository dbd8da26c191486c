"""The world as Gymnasium knows worlds: one environment, and many at once over a pool.

Observations are `robot` (end-effector position, axis-angle and finger joints, the state that VLAs read),
`vector` (proprioception and the poses of the goal's things, for policies on physics state) and, where a view is
wanted, a picture a camera in the benchmark's raw orientation.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, vector
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.types import Observation
from rlgen.libero.envs.environment import Physics
from rlgen.libero.envs.observations import observation_size
from rlgen.libero.envs.vector_env import ChunkResult, VectorEnv
from rlgen.libero.rendering.renderer import RendererName, make_renderer
from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.scenes.scene import Scene


class LiberoVectorEnv(vector.VectorEnv):
    """N environments of one task; an episode that ends is followed by a new one in the same step.

    A step runs a chunk of H actions, `[N, H, 7]`, or one, `[N, 7]`, where `chunk` is None. The reward is 1 when the
    goal is reached. `info` says `steps` (control steps used), `failed` (the physics diverged), and at the end of an
    episode `final_obs` and `final_info`.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        scene: Scene,
        count: int,
        *,
        split: str = "train",
        chunk: int | None = None,
        view: RendererName | None = None,
        size: int = 128,
        threads: int = 2,
        physics: Physics = "fast",
        horizon: int | None = None,
    ):
        """Makes the environments.

        Args:
          scene: the task.
          count: N.
          split: initial states, `train` (sampled placements) or `heldout` (the benchmark's stored ones).
          chunk: H, actions a step.
          view: draws pictures; None leaves them out.
          size: of a picture, pixels.
          threads: that step environments.
          physics: `fast` or `exact` physics.
          horizon: control steps of an episode; the task's own by default.
        """
        self.num_envs, self._scene, self._chunk = count, scene, chunk
        self._states = scene.initial_states(split)
        self._view = make_renderer(view, scene.visual_model, image_size=size) if view else None
        self._pool = VectorEnv([scene] * count, threads=threads, physics=physics, horizon=horizon)
        self._random = [seeding.np_random(None)[0] for _ in range(count)]
        self.single_observation_space = observation_space(scene, size if view else None)
        shape = (ACTION_SIZE,) if chunk is None else (chunk, ACTION_SIZE)
        self.single_action_space = spaces.Box(-1.0, 1.0, shape, np.float32)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts N episodes.

        Args:
          seed: of the choice of initial states; an int stands for `seed`, `seed + 1`, and so on.
          options: `{"initial": [..N..]}` names the initial states instead.
        """
        seeds = [None] * self.num_envs if seed is None else seed
        seeds = [seeds + row for row in range(self.num_envs)] if isinstance(seeds, int) else seeds
        for row, single in enumerate(seeds):
            if single is not None:
                self._random[row] = seeding.np_random(single)[0]
        named = (options or {}).get("initial")
        chosen = [self._draw(row) for row in range(self.num_envs)] if named is None else list(named)
        return self._batch(self._rows(self._pool.reset(self._states[chosen]))), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Runs `actions` and begins anew where an episode ended."""
        chunks = np.asarray(actions, np.float64)
        result = self._pool.step(chunks[:, None] if self._chunk is None else chunks)
        ended = np.flatnonzero(result.terminated | result.truncated)
        infos: dict[str, Any] = {}
        rows = self._rows(result.final_observation)
        for row in range(self.num_envs):
            info = _info(result, row)
            if row in ended:
                infos = self._add_info(infos, {"final_obs": rows[row], "final_info": info}, row)
                info = {}
            infos = self._add_info(infos, info, row)
        if len(ended):
            fresh = self._pool.reset_rows(ended, self._states[[self._draw(row) for row in ended]])
            for row, seen in zip(ended, self._rows(fresh, ended), strict=True):
                rows[row] = seen
        return self._batch(rows), result.reward, result.terminated, result.truncated, infos

    def close_extras(self, **_: Any) -> None:
        """Ends the threads."""
        self._pool.close()

    def _draw(self, row: int) -> int:
        return int(self._random[row].integers(len(self._states)))

    def _rows(self, seen: Observation, which: np.ndarray | None = None) -> list[dict[str, np.ndarray]]:
        """One observation an environment, of all or of some."""
        rows = range(self.num_envs) if which is None else which
        return [self._row(seen, int(row)) for row in rows]

    def _row(self, seen: Observation, row: int) -> dict[str, np.ndarray]:
        out = {
            "robot": seen.robot.vla_state[row].astype(np.float32),
            "vector": seen.vector[row].astype(np.float32),
        }
        if self._view is not None:
            images = self._view.render(seen.physics[row, 1 : 1 + self._scene.model.nq])
            out |= dict(zip(CAMERAS, images, strict=True))
        return out

    def _batch(self, rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        space = self.single_observation_space
        return concatenate(space, rows, create_empty_array(space, self.num_envs))


class LiberoEnv(gymnasium.Env):
    """One environment; takes what `LiberoVectorEnv` takes, but for the count, and says the same."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, scene: Scene, **options: Any):
        self._vector = LiberoVectorEnv(scene, 1, threads=1, **options)
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode; `options` may hold `{"initial": index}`."""
        super().reset(seed=seed)
        vector = self._vector
        if seed is not None:
            vector._random[0] = self.np_random
        named = (options or {}).get("initial")
        chosen = vector._draw(0) if named is None else named
        return vector._row(vector._pool.reset(vector._states[[chosen]]), 0), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Runs one action or chunk."""
        vector = self._vector
        chunk = np.asarray(action, np.float64)[None]
        result = vector._pool.step(chunk[:, None] if vector._chunk is None else chunk)
        seen = vector._row(result.final_observation, 0)
        ends = bool(result.terminated[0]), bool(result.truncated[0])
        return seen, float(result.reward[0]), *ends, _info(result, 0)

    def close(self) -> None:
        """Ends the threads."""
        self._vector.close()


def observation_space(scene: Scene, size: int | None = None) -> spaces.Dict:
    """What one environment shows; pictures of `size` pixels unless that is None."""
    parts: dict[str, spaces.Space] = {
        "robot": spaces.Box(-np.inf, np.inf, (8,), np.float32),
        "vector": spaces.Box(-np.inf, np.inf, (observation_size(scene),), np.float32),
    }
    if size is not None:
        parts |= {name: spaces.Box(0, 255, (size, size, 3), np.uint8) for name in CAMERAS}
    return spaces.Dict(parts)


def _info(result: ChunkResult, row: int) -> dict[str, Any]:
    return {"steps": int(result.control_steps[row]), "failed": bool(result.failed[row])}
