"""Scenes of several kinds of task, made of placeholder assets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rlgen.demos.scripted.geometry import SceneState
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene


@pytest.fixture(scope="session")
def scene_of(cache: Path) -> Callable[[str], Scene]:
    """Returns a task's scene by its name."""
    assets, kept = find_assets(placeholders=True, cache=cache), {}

    def load(task: str) -> Scene:
        if task not in kept:
            kept[task] = load_scene(task, assets, cache)
        return kept[task]

    return load


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
