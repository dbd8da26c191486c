"""The beginning of a world on an accelerator: settled states, kept in the bundle, and the room that was counted."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.libero.envs.environment import Environment
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.warp import models
from rlgen.libero.warp.device import INSTALL, load_warp, why_absent
from rlgen.libero.warp.models import Room, accelerator_model, count_room, reset_states, settled_gripper


@pytest.fixture
def few_states(placeholder_scene, tmp_path):
    """The scene with three initial states a split, in a folder of its own."""
    scene = placeholder_scene
    return replace(
        scene, folder=tmp_path, training_states=scene.training_states[:3], stored_states=scene.stored_states[:2]
    )


def test_settled_states_are_those_of_a_reset_and_kept_in_the_bundle(few_states, monkeypatch):
    found = reset_states(few_states)
    for split, states in (("train", few_states.training_states), ("heldout", few_states.stored_states)):
        env = VectorEnv([few_states] * len(states), physics="exact")
        np.testing.assert_array_equal(getattr(found, split), env.reset(states).physics)
        env.close()
    monkeypatch.setattr(models, "settle", None)  # is not called again
    again = reset_states(few_states)
    np.testing.assert_array_equal(again.train, found.train)
    np.testing.assert_array_equal(again.heldout, found.heldout)
    assert again.counted == found.counted


def test_wide_resets_have_settled_states_of_their_own(few_states):
    standard = reset_states(few_states)
    wide = replace(few_states, training_states=few_states.training_states[::-1].copy(), resets="wide")
    np.testing.assert_array_equal(reset_states(wide).train, standard.train[::-1])
    np.testing.assert_array_equal(reset_states(few_states).train, standard.train)


def test_a_bundle_that_cannot_be_written_is_left_as_it_is(few_states, monkeypatch):
    monkeypatch.setattr(models.os, "access", lambda path, mode: False)
    reset_states(few_states)
    assert not list(few_states.folder.iterdir())


def test_the_gripper_is_as_settling_leaves_it(placeholder_scene):
    environment = Environment(placeholder_scene, placeholder_scene.model)
    environment.reset(placeholder_scene.training_states[0])
    np.testing.assert_allclose(settled_gripper(placeholder_scene), environment._controller.gripper)


def test_room_is_what_mujoco_counts_and_more(placeholder_scene):
    states = placeholder_scene.training_states[:1]
    counted = count_room(placeholder_scene, states)
    environment = Environment(placeholder_scene, placeholder_scene.model)
    environment.reset(states[0])
    contacts, constraints = environment.constraint_counts()
    assert counted.contacts >= contacts > 0 and counted.constraints >= constraints > contacts
    room = counted.with_head_room()
    assert room.contacts > counted.contacts and room.constraints > counted.constraints
    assert room.contacts % 8 == 0 == room.constraints % 16
    assert Room(0, 0).with_head_room() == Room(32, 128)


def test_the_accelerators_model_leaves_the_scenes_own_alone(placeholder_scene):
    before = placeholder_scene.model.opt.tolerance
    model = accelerator_model(placeholder_scene, sleep=True)
    assert model.opt.tolerance == models.TOLERANCE and placeholder_scene.model.opt.tolerance == before
    sleeping = int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    assert model.opt.enableflags & sleeping and not placeholder_scene.model.opt.enableflags & sleeping
    assert model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_SENSOR)


def test_without_mujoco_warp_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(mujoco, "__version__", "3.8.1")
    assert why_absent() == "MuJoCo is 3.8.1, expected 3.12 or newer"
    with pytest.raises(UserError, match=INSTALL):
        load_warp()
