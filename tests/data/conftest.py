"""Episodes, robots and images made from a seed."""

from dataclasses import fields

import numpy as np
import pytest

from rlgen.core.types import Episode, RobotState
from rlgen.data.episode import DatasetEpisode, pair_episode


def make_episode(index: int = 0, steps: int = 12, **changes) -> Episode:
    random = np.random.default_rng(index)
    actions = random.uniform(-0.9, 0.9, (steps, 7))
    actions[:, 6] = np.where(np.arange(steps) < steps // 2, -1.0, 1.0)
    rewards = np.zeros(steps)
    rewards[-1] = 1
    values = {
        "task": "libero_object/pick_up_the_butter_and_place_it_in_the_basket",
        "prompt": "pick up the butter and place it in the basket",
        "source": "scripted",
        "initial_index": index,
        "split": "heldout",
        "seed": 1000 + index,
        "initial_state": random.normal(size=11),
        "states": random.normal(size=(steps + 1, 11)),
        "actions": actions,
        "rewards": rewards,
        "success": True,
    }
    return Episode(**{**values, **changes})


def make_fixtures(index: int = 0, count: int = 2) -> np.ndarray:
    random = np.random.default_rng(index)
    quaternions = random.normal(size=(count, 4))
    return np.c_[random.normal(size=(count, 3)), quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)]


def make_robot(episode: Episode) -> RobotState:
    random = np.random.default_rng(episode.initial_index)
    rows = len(episode) + 1
    sizes = {"position": 3, "axis_angle": 3, "gripper": 2, "joints": 7}
    return RobotState(**{name: random.normal(size=(rows, size)) for name, size in sizes.items()})


def make_dataset_episode(seed: int = 0, steps: int = 5, size: int = 16) -> DatasetEpisode:
    random = np.random.default_rng(seed)
    episode = make_episode(seed, steps)
    images = random.integers(0, 256, (2, steps, size, size, 3), dtype=np.uint8)
    return pair_episode(episode, make_robot(episode), *images, f"episodes/{seed:04d}.npz")


def assert_same(left, right) -> None:
    """Asserts that all fields are equal, arrays to the last bit and of the same dtype."""
    for field in fields(left):
        one, two = getattr(left, field.name), getattr(right, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == two.dtype, field.name
            np.testing.assert_array_equal(one, two, err_msg=field.name)
        else:
            assert one == two and type(one) is type(two), field.name


@pytest.fixture(scope="session")
def episode_of():
    return make_episode


@pytest.fixture(scope="session")
def fixtures_of():
    return make_fixtures


@pytest.fixture(scope="session")
def robot_of():
    return make_robot


@pytest.fixture(scope="session")
def dataset_episode_of():
    return make_dataset_episode


@pytest.fixture(scope="session")
def same():
    return assert_same
