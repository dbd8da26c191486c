"""Scenes of several kinds of task, made of the built-in stand-ins."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rlgen.demos.scripted.geometry import Sight
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene


@pytest.fixture(scope="session")
def scene_of(cache: Path) -> Callable[[str], Scene]:
    """A task's scene by its name."""
    assets, kept = find_assets(placeholders=True, cache=cache), {}

    def load(task: str) -> Scene:
        if task not in kept:
            kept[task] = load_scene(task, assets, cache)
        return kept[task]

    return load


@pytest.fixture(scope="session")
def settled() -> Callable[[Scene], np.ndarray]:
    """Time, qpos, qvel of a task's first stored state, come to rest."""

    def settle(scene: Scene) -> np.ndarray:
        pool = VectorEnv([scene], physics="exact", threads=1)
        pool.reset(scene.stored_states[:1])
        still = np.tile([0, 0, 0, 0, 0, 0, -1.0], (1, 20, 1))
        physics = pool.step(still).observation.physics[0].copy()
        pool.close()
        return physics

    return settle


@pytest.fixture
def look(scene_of, settled) -> Callable[[str], Sight]:
    """A task's first stored state at rest, looked at."""

    def see(task: str) -> Sight:
        sight = Sight(scene_of(task))
        sight.update(settled(sight.scene))
        return sight

    return see
