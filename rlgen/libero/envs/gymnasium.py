"""Gymnasium interfaces: `LiberoEnv` is one environment, `LiberoVectorEnv` many at once on top of `VectorEnv`.

An observation is a dictionary of `robot` (end-effector position, axis-angle, finger joints: the state that VLAs read),
`vector` (proprioception and the poses of the goal's objects, for policies on physics state) and, with a renderer, one
image for each camera in the benchmark's raw orientation.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, vector
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from jaxtyping import Int

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.types import FixturePoses, Observation
from rlgen.libero.envs.environment import Physics
from rlgen.libero.envs.observations import observation_size
from rlgen.libero.envs.vector_env import ChunkResult, VectorEnv
from rlgen.libero.envs.wide_resets import with_split
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.rendering.renderer import RendererName
from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.scenes.fixtures import Fixtures
from rlgen.libero.scenes.scene import Scene


class LiberoVectorEnv(vector.VectorEnv):
    """N environments of one task; an episode that ends is followed by a new one in the same step.

    A step runs a chunk of H actions, `[N, H, 7]`, or one action, `[N, 7]`, where `chunk` is None. The reward is 1 when
    the goal is reached. `info` has `control_steps` (taken in this step) and `failed` (the physics diverged), and at the
    end of an episode `final_obs` and `final_info`.

        env = LiberoVectorEnv(scene, 4, chunk=8, renderer="fast")
        observation, info = env.reset(seed=0)
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        scene: Scene,
        num_envs: int,
        *,
        split: str = "train",
        chunk: int | None = None,
        renderer: RendererName | None = None,
        image_size: int = 128,
        threads: int = 2,
        physics: Physics = "fast",
        horizon: int | None = None,
        fixtures: Fixtures = "fixed",
    ):
        """Makes the environments.

        Args:
          scene: the task's scene.
          num_envs: N.
          split: initial states, `train` (training reset states), `wide` (the same with wide resets) or `heldout` (the
            benchmark's stored states).
          chunk: H, actions of a step; None for a single one without the axis H.
          renderer: renderer of images, `fast` or `benchmark`; None for observations without images.
          image_size: width and height, pixels.
          threads: threads that step environments and render.
          physics: `fast` or `exact`.
          horizon: control steps of an episode; the task's own by default.
          fixtures: `redraw` places cabinets, stoves and racks anew at every reset, as the benchmark does; `fixed`
            leaves them where they stand in the scene.
        """
        self.num_envs, self._chunk = num_envs, chunk
        self._scene, self._fixtures = scene, fixtures
        self._states = with_split(scene, split).initial_states(split)
        self._renderers = RenderPool(scene, renderer, image_size=image_size, workers=threads) if renderer else None
        self._env = VectorEnv([scene] * num_envs, threads=threads, physics=physics, horizon=horizon)
        self._generators = [seeding.np_random(None)[0] for _ in range(num_envs)]
        self.single_observation_space = observation_space(scene, image_size if renderer else None)
        shape = (ACTION_SIZE,) if chunk is None else (chunk, ACTION_SIZE)
        self.single_action_space = spaces.Box(-1.0, 1.0, shape, np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts N episodes.

        Args:
          seed: of the choice of initial states; an int stands for `seed`, `seed + 1`, and so on.
          options: `{"initial": [..N..]}` gives the indices of the initial states instead.
        """
        seeds = [None] * self.num_envs if seed is None else seed
        seeds = [seeds + row for row in range(self.num_envs)] if isinstance(seeds, int) else seeds
        for row, row_seed in enumerate(seeds):
            if row_seed is not None:
                self._generators[row] = seeding.np_random(row_seed)[0]
        given = (options or {}).get("initial")
        chosen = [self._sample_initial(row) for row in range(self.num_envs)] if given is None else list(given)
        observation = self._env.reset(self._states[chosen], [self._draw_fixtures(row) for row in range(self.num_envs)])
        return self._batch(self._single_observations(observation)), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Runs actions, `[N, H, 7]` or `[N, 7]` in [-1, 1], and starts a new episode where one has ended."""
        chunks = np.asarray(actions, np.float64)
        result = self._env.step(chunks[:, None] if self._chunk is None else chunks)
        ended = np.flatnonzero(result.terminated | result.truncated)
        infos: dict[str, Any] = {}
        observations = self._single_observations(result.final_observation)
        for row in range(self.num_envs):
            info = _info(result, row)
            if row in ended:
                infos = self._add_info(infos, {"final_obs": observations[row], "final_info": info}, row)
                info = {}
            infos = self._add_info(infos, info, row)
        if len(ended):
            initial_states = self._states[[self._sample_initial(row) for row in ended]]
            fixtures = [self._draw_fixtures(row) for row in ended]
            started = self._single_observations(self._env.reset_rows(ended, initial_states, fixtures), ended)
            for row, observation in zip(ended, started, strict=True):
                observations[row] = observation
        return self._batch(observations), result.reward, result.terminated, result.truncated, infos

    def close_extras(self, **_: Any) -> None:
        """Ends the threads."""
        self._env.close()
        if self._renderers is not None:
            self._renderers.close()

    def _sample_initial(self, row: int) -> int:
        return int(self._generators[row].integers(len(self._states)))

    def _draw_fixtures(self, row: int) -> FixturePoses | None:
        # A fixed draw takes no number of the generator.
        seed = int(self._generators[row].integers(1 << 32)) if self._fixtures == "redraw" else 0
        return self._scene.draw_fixtures(self._fixtures, seed)

    def _single_observations(
        self, observation: Observation, rows: Int[np.ndarray, " M"] | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Returns the observation of each environment, or of some."""
        rows = np.arange(self.num_envs) if rows is None else rows
        single = [
            {
                "robot": observation.robot.vla_state[row].astype(np.float32),
                "vector": observation.vector[row].astype(np.float32),
            }
            for row in rows
        ]
        if self._renderers is not None:
            fixtures = observation.fixtures_of(rows)
            images_of_rows = self._renderers.render(observation.physics[rows], fixtures=fixtures)
            for parts, images in zip(single, images_of_rows, strict=True):
                parts.update(zip(CAMERAS, images, strict=True))
        return single

    def _batch(self, observations: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        space = self.single_observation_space
        return concatenate(space, observations, create_empty_array(space, self.num_envs))


class LiberoEnv(gymnasium.Env):
    """One environment; takes the arguments of `LiberoVectorEnv` but for `num_envs`, and must be reset by the caller."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, scene: Scene, **options: Any):
        self._vector = LiberoVectorEnv(scene, 1, threads=1, **options)
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode; `options` may be `{"initial": index}`."""
        super().reset(seed=seed)
        env = self._vector
        if seed is not None:
            env._generators[0] = self.np_random
        given = (options or {}).get("initial")
        chosen = env._sample_initial(0) if given is None else given
        return env._single_observations(env._env.reset(env._states[[chosen]], [env._draw_fixtures(0)]))[0], {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Runs one action, `[7]`, or a chunk, `[H, 7]`."""
        env = self._vector
        chunk = np.asarray(action, np.float64)[None]
        result = env._env.step(chunk[:, None] if env._chunk is None else chunk)
        observation = env._single_observations(result.final_observation)[0]
        ends = bool(result.terminated[0]), bool(result.truncated[0])
        return observation, float(result.reward[0]), *ends, _info(result, 0)

    def close(self) -> None:
        """Ends the threads."""
        self._vector.close()


def observation_space(scene: Scene, image_size: int | None = None) -> spaces.Dict:
    """Returns the space of one environment's observations, with images of `image_size` pixels unless that is None."""
    parts: dict[str, spaces.Space] = {
        "robot": spaces.Box(-np.inf, np.inf, (8,), np.float32),
        "vector": spaces.Box(-np.inf, np.inf, (observation_size(scene),), np.float32),
    }
    if image_size is not None:
        parts |= {name: spaces.Box(0, 255, (image_size, image_size, 3), np.uint8) for name in CAMERAS}
    return spaces.Dict(parts)


def _info(result: ChunkResult, row: int) -> dict[str, Any]:
    return {"control_steps": int(result.control_steps[row]), "failed": bool(result.failed[row])}
