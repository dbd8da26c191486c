"""Placeholder assets compared with the benchmark's own: scenes, resting poses, and what objects can be used for."""

import re
from itertools import combinations
from pathlib import Path

import mujoco
import numpy as np
import pytest
from libero_worlds import ARM, place, rest, solve, succeeds, unmet_conditions
from sampling import less, sampled
from shared import shared_dir

from rlgen.libero.placeholders import tree
from rlgen.libero.placeholders.tree import write_placeholders
from rlgen.libero.scenes import build_reset_states
from rlgen.libero.scenes.build import official_environment, prepare
from rlgen.libero.scenes.build_reset_states import sample_reset_states
from rlgen.libero.tasks.initial_states import read_initial_states
from rlgen.libero.tasks.suites import all_tasks, find_task

ROWS = {row.name: row for row in tree.OBJECTS}
FIXED = {"wine_rack", "desk_caddy", "wooden_two_layer_shelf"}  # the benchmark fixes them to the table

# Which stored state: in some others things overlap at the start and throw each other about, the real ones, too.
STATE = 24

# One task of every kind of room and, between them, all objects and fixtures; those of `FEWER` alone have them as well.
SAMPLE = (
    "libero_spatial/4",
    "libero_object/1",
    "libero_object/4",
    "libero_goal/0",
    "KITCHEN_SCENE4_put_the_wine_bottle_on_the_wine_rack",
    "KITCHEN_SCENE5_put_the_black_bowl_on_the_plate",
    "KITCHEN_SCENE6_close_the_microwave",
    "KITCHEN_SCENE7_open_the_microwave",
    "KITCHEN_SCENE8_turn_off_the_stove",
    "KITCHEN_SCENE9_put_the_frying_pan_on_the_cabinet_shelf",
    "LIVING_ROOM_SCENE1_pick_up_the_ketchup_and_put_it_in_the_basket",
    "LIVING_ROOM_SCENE4_pick_up_the_salad_dressing_and_put_it_in_the_tray",
    "LIVING_ROOM_SCENE6_put_the_white_mug_on_the_plate",
    "STUDY_SCENE2_pick_up_the_book_and_place_it_in_the_back_compartment_of_the_caddy",
    "STUDY_SCENE3_pick_up_the_white_mug_and_place_it_to_the_right_of_the_caddy",
    "STUDY_SCENE4_pick_up_the_book_in_the_middle_and_place_it_on_the_cabinet_shelf",
)
FEWER = (
    "libero_spatial/4",
    "libero_object/1",
    "libero_object/4",
    "KITCHEN_SCENE4_put_the_wine_bottle_on_the_wine_rack",
    "KITCHEN_SCENE6_close_the_microwave",
    "KITCHEN_SCENE8_turn_off_the_stove",
    "KITCHEN_SCENE9_put_the_frying_pan_on_the_cabinet_shelf",
    "LIVING_ROOM_SCENE4_pick_up_the_salad_dressing_and_put_it_in_the_tray",
    "STUDY_SCENE3_pick_up_the_white_mug_and_place_it_to_the_right_of_the_caddy",
    "STUDY_SCENE4_pick_up_the_book_in_the_middle_and_place_it_on_the_cabinet_shelf",
)
SCENES = less(SAMPLE, [name for name in SAMPLE if name not in FEWER])


@pytest.fixture(scope="module")
def placeholders(tmp_path_factory):
    path = tmp_path_factory.mktemp("assets") / "placeholders"
    write_placeholders(path)
    return path


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Builds the benchmark's environment of a task from an asset tree, each only once."""
    folder, built = tmp_path_factory.mktemp("config"), {}

    def build(task, assets: Path, keep: bool = True):
        if (task, assets) not in built:
            prepare(str(assets), folder)
            env = official_environment(task)
            if not keep:
                return env
            built[task, assets] = env
        return built[task, assets]

    with pytest.MonkeyPatch.context() as patch:
        # What `prepare` and robosuite set must not reach the processes of later tests.
        for name in ("LIBERO_CONFIG_PATH", "MUJOCO_GL"):
            patch.setenv(name, "")
        yield build


def names(model, kind, count):
    return [getattr(model, kind)(index).name for index in range(getattr(model, count))]


def simulated(model):
    """Geoms that can touch something."""
    return int(((model.geom_contype | model.geom_conaffinity) > 0).sum())


def occurring(tasks) -> set[str]:
    """Returns the classes of objects, fixtures and rooms in tasks."""
    blocks = re.compile(r"\(:(?:objects|fixtures)(.*?)\)", re.DOTALL)
    found = (blocks.findall(task.bddl_file.read_text()) for task in tasks)
    return {name for task in found for block in task for name in re.findall(r"-\s+(\w+)", block)}


def test_every_object_and_fixture_of_the_benchmark_is_covered():
    named = occurring(all_tasks())
    assert named == occurring(map(find_task, FEWER))
    rooms = {name for name in named if name == "floor" or name.endswith("table")}
    assert len(rooms) == 5
    assert named - rooms == {row.name for row in (*tree.OBJECTS, *tree.FIXTURES)}


@pytest.mark.parametrize("task", sampled())
def test_a_task_builds_comes_to_rest_and_can_be_solved(benchmark, placeholders, task):
    """The goal's state, set by hand, is one that the benchmark accepts and that physics leaves alone."""
    env = benchmark(task, placeholders, keep=False)
    model = env.sim.model._model
    states = read_initial_states(task.initial_states_file)
    assert states.shape[1] == 1 + model.nq + model.nv
    data = rest(model, place(model, states[STATE]), 750)
    assert not unmet_conditions(env, states[STATE], data)
    assert not succeeds(env, data)
    assert solve(env, data)
    check_reset_states(env, states)
    # What is not the robot is boxes and cylinders.
    meshes = names(model, "mesh", "nmesh")
    assert all(name.startswith(("robot0_", "gripper0_", "mount0_")) for name in meshes)


def check_reset_states(env, states):
    """Checks that training reset states are near the stored states, and that sampling them moves no fixture."""
    model = env.sim.model._model
    before = model.body_pos.copy(), model.body_quat.copy()
    sampled, _ = sample_reset_states(env, 30, seed=0)
    np.testing.assert_array_equal(model.body_pos, before[0])
    np.testing.assert_array_equal(model.body_quat, before[1])
    free = model.jnt_qposadr[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
    columns = 1 + free[:, None] + np.arange(3)
    np.testing.assert_allclose(np.median(sampled, 0)[columns], np.median(states, 0)[columns], atol=0.03)


def test_objects_that_would_throw_each_other_apart_are_drawn_again(benchmark, placeholders, monkeypatch):
    env = benchmark(find_task("libero_object/1"), placeholders)
    [apart], _ = sample_reset_states(env, 1, seed=0)
    first, second = (env.env.objects_dict[name] for name in ("alphabet_soup_1", "tomato_sauce_1"))
    address = env.sim.model.get_joint_qpos_addr(second.joints[-1])[0]
    onto = env.sim.data.get_joint_qpos(first.joints[-1])[:3]
    near, nearer = apart.copy(), apart.copy()
    for state, offset in ((near, 0.03), (nearer, 0.0)):
        state[1 + address : 4 + address] = onto + np.array([offset, 0.0, 0.0])

    def sampled(*draws):
        def draw(env, fixtures):
            # Twice each, with fixtures as they are drawn and as they stand.
            state = draws[min(len(seen) // 2, len(draws) - 1)]
            seen.append(state)
            env.sim.data.qpos[:] = state[1 : 1 + env.sim.model.nq]
            return state

        seen = []
        monkeypatch.setattr(build_reset_states, "_sample_one", draw)
        [found], _ = sample_reset_states(env, 1, seed=0)
        return found, len(seen) // 2

    found, draws = sampled(nearer, near, apart)
    assert draws == 3
    np.testing.assert_array_equal(found, apart)
    # Where every draw has an overlap the least is better than none.
    found, draws = sampled(nearer, near, nearer)
    assert draws == build_reset_states.MAX_DRAWS
    np.testing.assert_array_equal(found, near)


def test_what_overlaps_a_little_is_settled_to_see_how_far_it_is_thrown(benchmark, placeholders, monkeypatch):
    env = benchmark(find_task("libero_object/1"), placeholders)
    [apart], _ = sample_reset_states(env, 1, seed=0)
    first, second = (env.env.objects_dict[name] for name in ("alphabet_soup_1", "tomato_sauce_1"))
    model, address = env.sim.model, env.sim.model.get_joint_qpos_addr(second.joints[-1])[0]
    onto = env.sim.data.get_joint_qpos(first.joints[-1])[:3]

    def throw(offset):
        state = apart.copy()
        state[1 + address : 4 + address] = onto + np.array([offset, 0.0, 0.0])
        env.sim.data.qpos[:] = state[1 : 1 + model.nq]
        return build_reset_states._throw(env, state), state

    found = {offset: throw(offset)[0] for offset in np.arange(0.04, 0.09, 0.002)}
    assert min(found.values()) == 0.0 and max(found.values()) > 1000 * build_reset_states.MAX_OVERLAP
    [*_, offset] = [offset for offset, far in found.items() if 0 < far < 1]
    assert 1e-4 < found[offset] < build_reset_states.MAX_THROW
    # The robot stands still meanwhile, though nothing holds it.
    state = throw(offset)[1]
    arm = 1 + np.array(env.robots[0]._ref_joint_pos_indexes)
    np.testing.assert_array_equal(build_reset_states._settle(env, state)[arm], state[arm])
    # What is thrown too far is drawn again.
    monkeypatch.setattr(build_reset_states, "MAX_THROW", found[offset] / 2)
    draws = iter([state, state, apart, apart])

    def draw(env, fixtures):
        state = next(draws)
        env.sim.data.qpos[:] = state[1 : 1 + model.nq]
        return state

    monkeypatch.setattr(build_reset_states, "_sample_one", draw)
    np.testing.assert_array_equal(sample_reset_states(env, 1, seed=0)[0][0], apart)


@pytest.mark.parametrize("name", SCENES)
def test_the_scene_has_the_benchmarks_layout_and_is_lighter(benchmark, placeholders, name):
    task = find_task(name)
    ours = benchmark(task, placeholders).sim.model._model
    real = benchmark(task, shared_dir("libero/assets")).sim.model._model
    assert (ours.nq, ours.nv, ours.nu) == (real.nq, real.nv, real.nu)
    for kind, count in (("joint", "njnt"), ("site", "nsite"), ("camera", "ncam"), ("light", "nlight")):
        assert names(ours, kind, count) == names(real, kind, count)
    # The benchmark has one object's shapes in a body inside its body.
    bodies = [body for body in names(real, "body", "nbody") if not body.endswith("sald_dressing_body")]
    assert names(ours, "body", "nbody") == bodies
    for field in ("cam_pos", "cam_quat", "site_pos", "site_size", "jnt_pos", "jnt_axis", "jnt_range"):
        np.testing.assert_allclose(getattr(ours, field), getattr(real, field), atol=1e-5, err_msg=field)
    for field in ("jnt_type", "site_type", "dof_damping", "dof_frictionloss", "dof_armature"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(real, field), err_msg=field)
    np.testing.assert_allclose(np.abs(ours.site_quat), np.abs(real.site_quat), atol=1e-5)
    for body in bodies:
        if ours.body(body).jntnum[0]:
            assert total_mass(ours, body) == pytest.approx(total_mass(real, body), rel=0.02), body
    assert simulated(ours) < simulated(real) and ours.nmesh < real.nmesh


def total_mass(model, body) -> float:
    return float(model.body_subtreemass[model.body(body).id])


def outline(model, data) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of the collision boxes in the object's frame, metres."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for index in np.flatnonzero(model.geom_group == 0):
        assert model.geom_type[index] == mujoco.mjtGeom.mjGEOM_BOX
        reach = np.abs(data.geom_xmat[index].reshape(3, 3)) @ model.geom_size[index]
        low = np.minimum(low, data.geom_xpos[index] - reach)
        high = np.maximum(high, data.geom_xpos[index] + reach)
    origin = data.body("object").xpos
    return low - origin, high - origin


def compiled(file: Path) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """One object by itself, with mass from the collision geometry alone, as robosuite sets it."""
    spec = mujoco.MjSpec.from_file(str(file))
    spec.compiler.inertiagrouprange = (0, 0)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.mark.parametrize("name", sorted(ROWS))
def test_each_object_has_the_benchmarks_outline_mass_and_sites(placeholders, name):
    file = ROWS[name].file
    (ours, here), (real, there) = (compiled(path / file) for path in (placeholders, shared_dir("libero/assets")))
    np.testing.assert_allclose(outline(ours, here), outline(real, there), atol=0.0025)
    bodies = [model.body_mass.argmax() for model in (ours, real)]
    assert ours.body_mass[bodies[0]] == pytest.approx(real.body_mass[bodies[1]], rel=0.02)
    if name not in FIXED:
        # The benchmark's plate has one piece of its rim twice, which puts its center of mass 5 mm off its axis.
        centers = [data.subtree_com[0] - data.body("object").xpos for data in (here, there)]
        np.testing.assert_allclose(*centers, atol=0.0055 if name == "plate" else 0.004)
        moments = [np.sort(model.body_inertia[body]) for model, body in zip((ours, real), bodies, strict=True)]
        np.testing.assert_allclose(*moments, rtol=0.35)
    sites = [{model.site(i).name: model.site_pos[i] for i in range(model.nsite)} for model in (ours, real)]
    assert sites[0].keys() == sites[1].keys()
    for site, place_of_it in sites[1].items():
        np.testing.assert_allclose(sites[0][site], place_of_it, atol=1e-6)
    solid = [np.flatnonzero(model.geom_group == 0)[0] for model in (ours, real)]
    for constant in ("geom_friction", "geom_solref", "geom_solimp", "geom_condim"):
        values = [getattr(model, constant)[index] for model, index in zip((ours, real), solid, strict=True)]
        np.testing.assert_array_equal(*values)
    seen = ours.geom_group == 1
    assert seen.any() and not ours.geom_contype[seen].any() and not ours.geom_conaffinity[seen].any()
    assert simulated(ours) <= simulated(real)


@pytest.mark.parametrize("name", SCENES)
def test_objects_come_to_rest_where_the_real_ones_do(benchmark, placeholders, name):
    """Within a centimetre, an eighth of what the hand can open to, and within three degrees.

    Bowls and cans that land on their edge slide by 8 mm at most in the states looked at. The one pair left out
    is the bowl on the ramekin (libero_spatial/5): the real bowl slides off to one side by 37 mm before it stops,
    upright and still on the rim, where ours stays in the middle.
    """
    task = find_task(name)
    states = read_initial_states(task.initial_states_file)
    models = [benchmark(task, path).sim.model._model for path in (placeholders, shared_dir("libero/assets"))]
    for index in (0, 17):
        ours, real = (rest(model, place(model, states[index]), 250) for model in models)
        for joint in (models[0].joint(i) for i in range(ARM.stop, models[0].njnt)):
            address = joint.qposadr[0]
            if joint.type[0] != mujoco.mjtJoint.mjJNT_FREE:
                assert ours.qpos[address] == pytest.approx(real.qpos[address], abs=0.003), joint.name
                continue
            span = slice(address, address + 3)
            assert np.linalg.norm(ours.qpos[span] - real.qpos[span]) < 0.010, (index, joint.name)
            turn = np.zeros(3)
            mujoco.mju_subQuat(turn, ours.qpos[address + 3 : address + 7], real.qpos[address + 3 : address + 7])
            assert np.degrees(np.linalg.norm(turn)) < 3.0, (index, joint.name)


def test_a_bowl_stays_on_the_ramekin(benchmark, placeholders):
    task = find_task("libero_spatial/5")
    model = benchmark(task, placeholders).sim.model._model
    for state in read_initial_states(task.initial_states_file)[::10]:
        data = rest(model, place(model, state), 500)
        bowl, ramekin = data.body("akita_black_bowl_1_main"), data.body("glazed_rim_porcelain_ramekin_1_main")
        assert np.linalg.norm((bowl.xpos - ramekin.xpos)[:2]) < 0.01
        assert 0.03 < bowl.xpos[2] - ramekin.xpos[2] < 0.05 and bowl.xmat[8] > 0.99


# What moves, where a hand takes hold of it in the part's own frame, which way it pulls there, and from where.
HANDLES = {
    "a drawer": ("libero_goal/0", "wooden_cabinet_1_{}", "middle_level", (0.0, -0.102, 0.11), (0, -20, 0), 0.0),
    "a knob": ("KITCHEN_SCENE8_turn_off_the_stove", "flat_stove_1_{}", "button", (0.0, 0.05, 0.03), (-20, 0, 0), 0.0),
    "a door": (
        "KITCHEN_SCENE7_open_the_microwave",
        "microwave_1_{}",
        "microjoint",
        (0.2375, -0.054, 0),
        (0, -5, 0),
        0.0,
    ),
}


@pytest.mark.parametrize("kind", HANDLES)
def test_a_force_at_the_handle_moves(benchmark, placeholders, kind):
    name, prefix, joint, at, force, start = HANDLES[kind]
    task = find_task(name)
    model = benchmark(task, placeholders).sim.model._model
    data = place(model, read_initial_states(task.initial_states_file)[0])
    index = model.joint(prefix.format(joint)).id
    body, address = model.jnt_bodyid[index], model.jnt_qposadr[index]
    data.qpos[address] = start
    held = data.qpos[ARM].copy()
    for _ in range(750):
        mujoco.mj_kinematics(model, data)
        turn = data.xmat[body].reshape(3, 3)
        data.qfrc_applied[:] = 0.0
        point = data.xpos[body] + turn @ at
        mujoco.mj_applyFT(model, data, turn @ np.array(force, float), np.zeros(3), point, body, data.qfrc_applied)
        data.qpos[ARM], data.qvel[ARM] = held, 0.0
        mujoco.mj_step(model, data)
    assert abs(data.qpos[address] - start) > 0.1


def carry(env, state, name) -> bool:
    """Grips an object from above, lets it go over the basket, and says whether the benchmark counts that."""
    env.reset()
    env.set_init_state(state)
    env.robots[0].controller.update(force=True)
    data = env.sim.data._data
    hand = data.site("gripper0_grip_site").xpos
    thing, basket = data.body(f"{name}_1_main").xpos, data.body("basket_1_main").xpos

    def act(move, grip):
        return env.step(np.concatenate([np.clip(move, -1, 1), np.zeros(3), [grip]]))[2]

    def reach(goal, grip, near=0.01):
        for _ in range(60):
            if act(8 * (goal - hand), grip) or np.linalg.norm(goal - hand) < near:
                return

    for _ in range(10):
        act(np.zeros(3), -1)
    spot, level, up = thing.copy(), np.array([1, 1, 0]), np.array([0, 0, 1])
    reach(spot + 0.10 * up, -1, near=0.02)
    reach(np.maximum(spot, [-1, -1, 0.012]), -1, near=0.006)
    for _ in range(8):
        act(np.zeros(3), 1)
    reach(spot + 0.25 * up, 1, near=0.04)
    reach(level * (basket + hand - thing) + 0.25 * up, 1, near=0.02)
    return any(act(np.zeros(3), -1) for _ in range(25))


def test_the_butter_can_be_gripped_and_put_into_the_basket(benchmark, placeholders):
    task = find_task("libero_object/pick_up_the_butter_and_place_it_in_the_basket")
    state = read_initial_states(task.initial_states_file)[5]
    assert carry(benchmark(task, placeholders), state, "butter")


def test_colors_tell_objects_apart():
    colors = {row.name: np.array(row.visuals[0].color) for row in tree.OBJECTS}
    for one, other in combinations(colors, 2):
        assert np.linalg.norm(colors[one] - colors[other]) > 0.15, (one, other)
