import numpy as np
import pytest

from rlgen.libero.envs.environment import SETTLE_ACTION, Environment, model_for
from rlgen.libero.physics import kernel
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.goals import contacts_hold


@pytest.fixture(scope="module")
def bowl_scene(real_assets, cache):
    """`On(bowl, plate)`, a goal that asks for a contact."""
    return load_scene("libero_goal/put_the_bowl_on_the_plate", real_assets, cache)


def bowl_on_plate(scene):
    """Returns a stored state with the bowl a little above the plate."""
    state, model = scene.stored_states[0].copy(), scene.model
    [bowl], [plate] = scene.goal.bodies, scene.goal.targets
    there, here = (1 + model.jnt_qposadr[model.body_jntadr[body]] for body in (plate, bowl))
    state[here : here + 3] = state[there : there + 3] + np.array([0.0, 0.0, 0.05])
    return state


@pytest.mark.parametrize("physics", ["exact", "fast"])
def test_sleeping_objects_still_satisfy_the_goal(bowl_scene, physics):
    kernel.link_mujoco()
    environment = Environment(bowl_scene, model_for(bowl_scene, physics))
    environment.reset(bowl_on_plate(bowl_scene))
    still = np.tile(SETTLE_ACTION, (60, 1))
    rows = np.zeros((60, len(environment.state)))
    kernel.run_chunk(environment._arrays, environment._constants, environment._controller, still, False, 0.0, rows)
    if physics == "fast":
        assert not contacts_hold(bowl_scene.goal, environment._data), "the bowl should be asleep"
    assert environment.step(still[:3], rows) == (1, True)


def test_a_gripper_command_of_zero_leaves_the_fingers_as_they_are(bowl_scene):
    """`rlgen.core.actions.binarize_gripper` relies on it."""
    kernel.link_mujoco()
    environment = Environment(bowl_scene, model_for(bowl_scene, "exact"))
    environment.reset(bowl_scene.stored_states[0])
    rows, closing = np.zeros((3, len(environment.state))), np.tile([0, 0, 0, 0, 0, 0, 1.0], (3, 1))
    for command, moves in ((0.0, False), (1e-30, True), (0.0, False), (-1e-30, True), (0.0, False)):
        before = environment._controller.gripper.copy()
        environment.step(closing * command, rows)
        assert np.any(environment._controller.gripper != before) == moves


def test_an_object_above_the_plate_is_not_on_it(bowl_scene):
    """Near enough by position, but without contact."""
    kernel.link_mujoco()
    environment = Environment(bowl_scene, model_for(bowl_scene, "exact"))
    state = bowl_on_plate(bowl_scene)
    nq = bowl_scene.model.nq
    environment._data.qpos[:] = state[1 : 1 + nq]
    environment.state[:] = state
    rows = np.zeros((1, len(state)))
    # In the air it falls a few centimetres within the step.
    assert environment.step(SETTLE_ACTION[None], rows) == (1, False)
    assert kernel.goal_reached(environment._arrays, environment._constants.goal)
