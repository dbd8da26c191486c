"""Scenes of several kinds of task, made of placeholder assets."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rlgen.demos.scripted.geometry import SceneState
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.bundles import build_scene_bundles
from rlgen.libero.scenes.scene import Scene, load_scene_bundle
from rlgen.libero.tasks.suites import find_task

# Whichever is needed first, all are built: the benchmark takes longer to start than to build a scene.
TASKS = (
    *("libero_spatial/0", "libero_object/6", "libero_goal/0", "libero_goal/1", "libero_goal/3", "libero_goal/6"),
    *("libero_goal/7", "libero_10/3", "libero_10/8", "libero_90/6", "libero_90/23", "libero_90/33", "libero_90/63"),
    *("libero_90/66", "libero_90/75", "libero_spatial/9"),
)


@pytest.fixture(scope="session")
def scene_of(placeholder_assets, cache: Path) -> Callable[[str], Scene]:
    """A task's scene by its name."""
    folders = dict(
        zip(TASKS, build_scene_bundles([find_task(task) for task in TASKS], placeholder_assets, cache), strict=True)
    )
    return functools.cache(lambda task: load_scene_bundle(folders[task]))


@pytest.fixture(scope="session")
def settled() -> Callable[[Scene], np.ndarray]:
    """Returns time, qpos, qvel of a task's first stored state at rest."""

    def settle(scene: Scene) -> np.ndarray:
        env = VectorEnv([scene], physics="exact", threads=1)
        env.reset(scene.stored_states[:1])
        still = np.tile([0, 0, 0, 0, 0, 0, -1.0], (1, 20, 1))
        physics = env.step(still).observation.physics[0].copy()
        env.close()
        return physics

    return settle


@pytest.fixture
def state_of(scene_of, settled) -> Callable[[str], SceneState]:
    """Returns a task's first stored state at rest."""

    def load(task: str) -> SceneState:
        state = SceneState(scene_of(task))
        state.update(settled(state.scene))
        return state

    return load
