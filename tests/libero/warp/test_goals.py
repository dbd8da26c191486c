"""Goals in JAX against those of the compiled control step, contacts included."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from warp_worlds import FEW, CpuGoal, few, scripted_success, states_about_the_goal

from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.goals import CONTAIN, JOINT, STACKED, UNDER
from rlgen.libero.warp.goals import atoms_hold, atoms_touching, goal_reached, outcome
from rlgen.libero.warp.kinematics import Poses, forward_kinematics
from rlgen.libero.warp.observation import make_constants

# States about the goal of each task, places in the list of contacts of a world, and how often objects are dropped.
ABOUT, ROOM = 40, 600
FEWEST_DROPS, MOST_DROPS = 8, 80
KINDS = {CONTAIN: "in a region", UNDER: "on a region", STACKED: "on an object", JOINT: "a joint"}
STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


@jax.jit
def reached_in_poses(constants, poses, qpos, pairs):
    """Returns for each atom whether it holds, and whether the goal does, of all worlds."""
    count = len(pairs)
    worlds = jnp.where(pairs[..., 0] < 0, -1, jnp.arange(count)[:, None]).ravel()
    touching = atoms_touching(constants.goal, pairs.reshape(-1, 2), worlds, count)
    holds = jax.vmap(atoms_hold, (None, 0, 0))(constants.goal, poses, qpos) & (touching | ~constants.goal.touch)
    return holds, jax.vmap(goal_reached, (None, 0, 0, 0))(constants.goal, poses, qpos, touching)


@jax.jit
def reached(constants, qpos, pairs):
    """Returns the same of joint positions alone."""
    return reached_in_poses(constants, jax.vmap(forward_kinematics, (None, 0))(constants.tree, qpos), qpos, pairs)


def contact_pairs(data):
    """Returns the geoms of a world's contacts, padded with -1."""
    assert data.ncon <= ROOM
    pairs = np.full((ROOM, 2), -1, np.int32)
    pairs[: data.ncon] = np.asarray(data.contact.geom).reshape(-1, 2)
    return pairs


def check_goals(scene, qpos):
    """Compares each atom and the whole goal in some states; returns whether the atoms hold, `[states, G]`."""
    kernel.link_mujoco()
    data = mujoco.MjData(scene.model)
    goal, expected, pairs = CpuGoal(scene, data), [], []
    for position in qpos:
        data.qpos[:] = position
        mujoco.mj_fwdPosition(scene.model, data)
        expected.append(goal())
        pairs.append(contact_pairs(data))
    holds, whole = reached(make_constants(scene), np.stack(qpos), np.stack(pairs))
    np.testing.assert_array_equal(holds, expected)
    np.testing.assert_array_equal(whole, np.all(expected, axis=1))
    return np.array(expected)


@pytest.mark.parametrize("task", few(3))
def test_goals_hold_where_they_do_on_the_cpu(task, real_assets, cache, record_property):
    """In all stored states, and in states on both sides of every atom's conditions."""
    scene = load_scene(task, real_assets, cache)
    stored = scene.stored_states[:, 1 : 1 + scene.model.nq]
    held = check_goals(scene, [*stored, *states_about_the_goal(scene, ABOUT, task.index)])
    assert not held[: len(stored)].all(axis=1).any()
    record_property("initial states", len(stored))
    record_property(
        f"of {ABOUT} states about the goal, with an atom that holds", int(held[len(stored) :].any(axis=1).sum())
    )


def test_the_states_lie_on_both_sides_of_every_kind_of_goal(real_assets, cache):
    """Otherwise the comparison above would say nothing."""
    kernel.link_mujoco()
    outcomes = {kind: [] for kind in (CONTAIN, UNDER, STACKED, JOINT)}
    for name in FEW:
        scene = load_scene(name, real_assets, cache)
        data = mujoco.MjData(scene.model)
        goal = CpuGoal(scene, data)
        for data.qpos[:] in states_about_the_goal(scene, ABOUT, scene.task.index):
            mujoco.mj_fwdPosition(scene.model, data)
            for kind, holds in zip(scene.goal.kinds.tolist(), goal(), strict=True):
                outcomes[kind].append(holds)
    for kind, held in outcomes.items():
        assert 0.02 < np.mean(held) < 0.98, (kind, np.mean(held))


def test_a_contact_that_is_missing_or_in_another_world_does_not_count(real_assets, cache):
    scene = load_scene("libero_spatial/0", real_assets, cache)
    goal = make_constants(scene).goal
    [contact] = scene.goal.contacts
    one, other = int(np.flatnonzero(contact.first)[0]), int(np.flatnonzero(contact.second)[0])
    floor = int(np.flatnonzero(~contact.first & ~contact.second)[0])
    pairs = np.array([[one, other], [other, one], [one, floor], [one, other], [one, other], [one, one]])
    worlds = np.array([1, 3, 0, 5, -1, 2])
    found = jax.jit(atoms_touching, static_argnums=3)(goal, pairs, worlds, 5)
    assert np.asarray(found)[:, 0].tolist() == [False, True, False, True, False]


def test_worlds_of_several_tasks_have_goals_of_their_own(real_assets, cache):
    """A drawer opened and a bowl on a stove, of the same scene, padded to the same arrays."""
    scenes = [load_scene(f"libero_goal/{index}", real_assets, cache) for index in (0, 4)]
    assert scenes[0].model.nbody == scenes[1].model.nbody
    tree = make_constants(scenes[0]).tree
    goals = [make_constants(scene, atoms=2, joints=2).goal for scene in scenes]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *goals)
    data, nq = mujoco.MjData(scenes[0].model), scenes[0].model.nq
    checks = [CpuGoal(scene, data) for scene in scenes]
    kernel.link_mujoco()
    starts = [next(iter(states_about_the_goal(scene, 1, 0))) for scene in scenes] + [
        scenes[0].stored_states[0, 1 : 1 + nq]
    ]
    found, expected = [], []
    run = jax.jit(jax.vmap(goal_reached))
    for start in starts:
        data.qpos[:] = start
        mujoco.mj_fwdPosition(scenes[0].model, data)
        poses = forward_kinematics(tree, jnp.asarray(start))
        two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), poses)
        pairs = contact_pairs(data)
        worlds = np.where(pairs[:, 0] < 0, -1, np.arange(2)[:, None]).ravel()
        touching = atoms_touching(stacked, np.tile(pairs, (2, 1)), worlds, 2)
        found.append(np.asarray(run(stacked, two, np.stack([start, start]), touching)).tolist())
        expected.append([all(check()) for check in checks])
    assert found == expected


@pytest.mark.parametrize("task", few(2))
def test_goals_are_reached_in_the_same_control_steps(task, real_assets, cache):
    """Objects are dropped about their targets, and checked after each control step with what physics left behind."""
    kernel.link_mujoco()
    scene = load_scene(task, real_assets, cache)
    model, data, constants = scene.model, mujoco.MjData(scene.model), make_constants(scene)
    arrays, compiled = kernel_arrays.make_data_arrays(model, data), kernel_arrays.make_constants(scene)
    goal, seen, expected = CpuGoal(scene, data), [], []
    for drops, start in enumerate(states_about_the_goal(scene, MOST_DROPS, task.index)):
        if drops >= FEWEST_DROPS and np.any(expected):
            break
        mujoco.mj_resetData(model, data)
        data.qpos[:] = start
        mujoco.mj_forward(model, data)
        controller = kernel_arrays.make_controller_state(scene)
        for _ in range(6):
            kernel.control_step(arrays, compiled, controller, STILL)
            matrices = data.site_xmat.reshape(-1, 3, 3)
            poses = Poses(*(array.copy() for array in (data.xpos, data.xquat, data.site_xpos, matrices)))
            seen.append((poses, data.qpos.copy(), contact_pairs(data)))
            expected.append(goal())
    poses, qpos, pairs = jax.tree.map(lambda *leaves: np.stack(leaves), *seen)
    holds, _ = reached_in_poses(constants, poses, qpos, pairs)
    np.testing.assert_array_equal(holds, expected)
    assert np.any(expected)


def check_success(scene):
    """Compares goals along a success; returns whether the atoms hold."""
    held = check_goals(scene, scripted_success(scene).states[:, 1 : 1 + scene.model.nq])
    # A control step ends with poses of one physics step before.
    assert held[-1].all() and not held[:-2].all(axis=1).any()
    return held


def test_a_scripted_episode_reaches_its_goal_at_its_end_and_not_before(placeholder_scene):
    check_success(placeholder_scene)


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_successes_of_every_kind_of_goal_are_seen(name, real_assets, cache, record_property):
    scene = load_scene(name, real_assets, cache)
    record_property("control steps", len(check_success(scene)))
    record_property("kinds of goal", sorted({KINDS[kind] for kind in scene.goal.kinds.tolist()}))


@pytest.mark.parametrize(
    ("reached", "failed", "steps", "expected"),
    [
        (True, False, 7, (1.0, True, False)),
        (True, False, 9, (1.0, True, False)),
        (False, False, 8, (0.0, False, False)),
        (False, False, 9, (0.0, False, True)),
        (False, True, 3, (0.0, False, True)),
        (True, True, 3, (0.0, False, True)),
    ],
)
def test_chunks_end_as_on_the_cpu(reached, failed, steps, expected):
    """A goal that is reached in the last step ends the episode; what failed is worth nothing and is over."""
    found = outcome(*map(jnp.asarray, (reached, failed, steps, 9)))
    assert tuple(np.asarray(part).item() for part in found) == expected
