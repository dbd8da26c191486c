"""A real LIBERO observation compared with ours of the same task: state layout, camera, orientation.

The observation was recorded by others, in an environment of their own, after an episode's initial state had settled.
"""

import numpy as np
import pytest
from dataset_tools import EpisodesOfScene
from goldens import Arrays

from rlgen.core.types import Episode
from rlgen.curation.render import RenderedEpisodes, RenderOptions
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.bundles import load_scene

SIZE, CELL = 224, 8
NEAREST = 0  # of the 50 stored states, the one whose settled robot state is nearest to the observation's


@pytest.fixture(scope="module")
def golden():
    return Arrays("rlds/libero_spatial_observation.npz")


@pytest.fixture(scope="module", params=["benchmark", "placeholders"])
def observed(request, golden, cache):
    """The scene, and our state and images of the nearest settled initial state as an export has them."""
    assets = request.getfixturevalue("placeholder_assets" if request.param == "placeholders" else "real_assets")
    scene = load_scene(f"libero_spatial/{str(golden['task_description']).replace(' ', '_')}", assets, cache)
    assert scene.task.prompt == str(golden["task_description"])
    [settled] = VectorEnv([scene], threads=1, physics="exact").reset(scene.stored_states[[NEAREST]]).physics
    return scene, _exported(scene, settled)


def _exported(scene, physics: np.ndarray):
    """One step from a state, rendered and paired as in an export."""
    states = np.stack([physics, physics])
    action = np.array([[0, 0, 0, 0, 0, 0, -1.0]], np.float32)
    episode = Episode(scene.task.id, scene.task.prompt, "x", 0, "heldout", 0, physics, states, action, np.ones(1), True)
    with RenderedEpisodes(EpisodesOfScene(scene, [episode]), RenderOptions("fast", SIZE, 1)) as rendered:
        return rendered[0]


def test_the_state_agrees_in_every_number(observed, golden):
    _, ours = observed
    assert ours.state.shape == (1, 8)
    assert np.abs(ours.state[0] - golden["state"]).max() < 0.02


def test_the_images_agree_in_orientation_and_camera(observed, golden):
    """By correlation of coarse gray cells; of the eight ways to rotate and mirror an image ours is the nearest."""
    _, ours = observed
    for image, name in ((ours.image[0], "full_image"), (ours.wrist_image[0], "wrist_image")):
        ways = [np.rot90(flipped, turn) for flipped in (image, image[:, ::-1]) for turn in range(4)]
        scores = [_likeness(way, golden[name]) for way in ways]
        assert scores[0] > 0.7, (name, scores)
        assert scores[0] > max(scores[1:]) + 0.15, (name, scores)


def test_the_cameras_are_not_exchanged(observed, golden):
    _, ours = observed
    for image, own, other in (
        (ours.image[0], "full_image", "wrist_image"),
        (ours.wrist_image[0], "wrist_image", "full_image"),
    ):
        assert _likeness(image, golden[own]) > _likeness(image, golden[other]) + 0.3


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    side = SIZE // CELL
    cells = (p.astype(float).mean(-1).reshape(side, CELL, side, CELL).mean((1, 3)).ravel() for p in (one, other))
    return float(np.corrcoef(*cells)[0, 1])
