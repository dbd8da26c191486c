"""The stand-ins beside the benchmark's own assets: what is built, how it lies, what can be done with it."""

import errno
import os
import re
from itertools import combinations
from pathlib import Path

import mujoco
import numpy as np
import pytest
from shared import shared_dir

from rlgen.libero.initial_states import read_initial_states
from rlgen.libero.standins import content_key, standin_files, standin_objects, tree, write_standins
from rlgen.libero.tasks import all_tasks, find_task, package_folder

TASKS = [task for task in all_tasks() if task.suite == "libero_object"]
ROWS = {row.name: row for row in tree.OBJECTS}
ARM = slice(0, 9)  # the robot's joints come first in qpos and in qvel


@pytest.fixture(scope="module")
def standins(tmp_path_factory):
    path = tmp_path_factory.mktemp("assets") / "standins"
    write_standins(path)
    return path


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Builds the benchmark's environment of a task from an asset tree, each only once."""
    folder = tmp_path_factory.mktemp("config")
    keys = ("benchmark_root", "bddl_files", "init_states", "datasets", "assets")
    (folder / "config.yaml").write_text("".join(f"{key}: {package_folder()}\n" for key in keys))
    built = {}

    def build(task, assets: Path):
        import libero.libero
        from libero.libero.envs.env_wrapper import ControlEnv

        if (task, assets) not in built:
            libero.libero._assets_path_cache = str(assets)
            env = ControlEnv(bddl_file_name=str(task.bddl_file), has_offscreen_renderer=False, use_camera_obs=False)
            env.reset()
            built[task, assets] = env
        return built[task, assets]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIBERO_CONFIG_PATH", str(folder))
        yield build


def joint_names(model):
    return [model.joint(index).name for index in range(model.njnt)]


def test_every_object_of_the_suite_is_covered():
    named = set()
    for task in TASKS:
        block = re.search(r"\(:objects(.*?)\)", task.bddl_file.read_text(), re.DOTALL)
        named |= set(re.findall(r"-\s+(\w+)", block[1]))
    assert len(TASKS) == 10 and len(named) == 11
    assert named <= standin_objects()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task_builds_and_its_stored_states_fit(benchmark, standins, task):
    env = benchmark(task, standins)
    model = env.sim.model._model
    states = read_initial_states(task.initial_states_file)
    assert states.shape[1] == 1 + model.nq + model.nv
    data = settle(model, states[0], steps=150)
    assert np.isfinite(data.qpos).all() and not data.warning[mujoco.mjtWarning.mjWARN_BADQACC].number
    env.sim.set_state_from_flattened(states[0])
    env.sim.forward()
    assert not env.check_success()


@pytest.mark.parametrize("name", ["butter", "alphabet_soup"])
def test_the_scene_has_the_benchmarks_names_in_its_order(benchmark, standins, name):
    task = find_task(f"libero_object/pick_up_the_{name}_and_place_it_in_the_basket")
    ours = benchmark(task, standins).sim.model._model
    real = benchmark(task, shared_dir() / "libero/assets").sim.model._model
    assert (ours.nq, ours.nv, ours.nu) == (real.nq, real.nv, real.nu)
    assert joint_names(ours) == joint_names(real)
    for many in ("body", "site", "camera", "light"):
        count = {"body": "nbody", "site": "nsite", "camera": "ncam", "light": "nlight"}[many]
        names = [[getattr(m, many)(i).name for i in range(getattr(m, count))] for m in (ours, real)]
        assert names[0] == names[1], many
    np.testing.assert_allclose(ours.cam_pos, real.cam_pos, atol=1e-6)
    np.testing.assert_allclose(ours.cam_quat, real.cam_quat, atol=1e-5)
    np.testing.assert_allclose(ours.site_pos, real.site_pos, atol=1e-6)
    np.testing.assert_allclose(ours.site_size, real.site_size, atol=1e-6)
    np.testing.assert_allclose(np.abs(ours.site_quat), np.abs(real.site_quat), atol=1e-5)
    assert ours.ngeom < real.ngeom and ours.nmesh < real.nmesh


def outline(model) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of the collision boxes in the object's frame, metres."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for index in np.flatnonzero(model.geom_group == 0):
        assert model.geom_type[index] == mujoco.mjtGeom.mjGEOM_BOX
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, model.geom_quat[index])
        reach = np.abs(rotation.reshape(3, 3)) @ model.geom_size[index]
        low = np.minimum(low, model.geom_pos[index] - reach)
        high = np.maximum(high, model.geom_pos[index] + reach)
    return low, high


def compiled(file: Path) -> mujoco.MjModel:
    """One object by itself, with mass from the collision geometry alone, as robosuite sets it."""
    spec = mujoco.MjSpec.from_file(str(file))
    spec.compiler.inertiagrouprange = (0, 0)
    return spec.compile()


@pytest.mark.parametrize("name", sorted(ROWS))
def test_each_object_has_the_benchmarks_outline_mass_and_sites(standins, name):
    file = ROWS[name].file
    ours, real = (compiled(path / file) for path in (standins, shared_dir() / "libero/assets"))
    np.testing.assert_allclose(outline(ours), outline(real), atol=0.0025)
    body = ours.body("object").id
    assert ours.body_mass[body] == pytest.approx(real.body_mass[body], rel=0.02)
    np.testing.assert_allclose(ours.body_ipos[body], real.body_ipos[body], atol=0.004)
    moments = [np.sort(model.body_inertia[body]) for model in (ours, real)]
    np.testing.assert_allclose(moments[0], moments[1], rtol=0.35)
    sites = [{model.site(i).name: model.site_pos[i] for i in range(model.nsite)} for model in (ours, real)]
    assert sites[0].keys() == sites[1].keys()
    for site, place in sites[1].items():
        np.testing.assert_allclose(sites[0][site], place, atol=1e-6)
    solid = [np.flatnonzero(model.geom_group == 0)[0] for model in (ours, real)]
    for constant in ("geom_friction", "geom_solref", "geom_solimp", "geom_condim"):
        values = [getattr(model, constant)[index] for model, index in zip((ours, real), solid, strict=True)]
        np.testing.assert_array_equal(*values)
    seen = ours.geom_group == 1
    assert seen.any() and not ours.geom_contype[seen].any() and not ours.geom_conaffinity[seen].any()


def settle(model, state, steps=500) -> mujoco.MjData:
    """Lets the objects fall into place while the robot is held where the state has it."""
    data = mujoco.MjData(model)
    data.time, data.qpos, data.qvel = state[0], state[1 : 1 + model.nq], state[1 + model.nq :]
    held = data.qpos[ARM].copy()
    for _ in range(steps):
        data.qpos[ARM], data.qvel[ARM] = held, 0.0
        mujoco.mj_step(model, data)
    return data


@pytest.mark.parametrize("name", ["butter", "alphabet_soup"])
@pytest.mark.parametrize("index", [0, 17, 38])
def test_objects_come_to_rest_where_the_real_ones_do(benchmark, standins, name, index):
    task = find_task(f"libero_object/pick_up_the_{name}_and_place_it_in_the_basket")
    state = read_initial_states(task.initial_states_file)[index]
    models = [benchmark(task, path).sim.model._model for path in (standins, shared_dir() / "libero/assets")]
    ours, real = (settle(model, state) for model in models)
    assert np.abs(ours.qvel[ARM.stop :]).max() < 1e-3
    for start in range(ARM.stop, models[0].nq, 7):
        assert np.linalg.norm(ours.qpos[start : start + 3] - real.qpos[start : start + 3]) < 0.005
        turn = np.zeros(3)
        mujoco.mju_subQuat(turn, ours.qpos[start + 3 : start + 7], real.qpos[start + 3 : start + 7])
        assert np.degrees(np.linalg.norm(turn)) < 3.0


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


def test_the_butter_can_be_gripped_and_put_into_the_basket(benchmark, standins):
    task = find_task("libero_object/pick_up_the_butter_and_place_it_in_the_basket")
    state = read_initial_states(task.initial_states_file)[5]
    assert carry(benchmark(task, standins), state, "butter")


def test_colours_tell_objects_apart():
    colours = {row.name: np.array(row.look[0].colour) for row in tree.OBJECTS}
    for one, other in combinations(colours, 2):
        assert np.linalg.norm(colours[one] - colours[other]) > 0.15, (one, other)


def test_a_disk_that_fills_leaves_what_was_there(tmp_path, monkeypatch):
    write_standins(tmp_path / "tree")
    (tmp_path / "tree/STAND-INS.txt").write_text("of an earlier version")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    written = []

    def fills_up(handle):
        written.append(handle)
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fills_up)
    with pytest.raises(OSError, match="full"):
        write_standins(tmp_path / "tree")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_a_damaged_tree_is_written_anew(tmp_path):
    write_standins(tmp_path / "tree")
    (tmp_path / "tree/stable_hope_objects/milk/milk.xml").write_text("")
    write_standins(tmp_path / "tree")
    files = {name: (tmp_path / "tree" / name).read_bytes() for name in standin_files()}
    assert files == standin_files()
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="mine"):
        write_standins(tmp_path / "mine")
    assert (tmp_path / "mine/thesis.tex").read_text() == "years of work"


def test_a_rename_that_fails_puts_the_old_tree_back(tmp_path, monkeypatch):
    write_standins(tmp_path / "tree")
    (tmp_path / "tree/stable_hope_objects/milk/milk.xml").write_text("of an earlier version")
    rename = os.rename

    def fails_for_the_new_one(source, target):
        if Path(source).name == "tree" and Path(source).parent != tmp_path:
            raise OSError(errno.EIO, "broken disk")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails_for_the_new_one)
    with pytest.raises(OSError, match="broken disk"):
        write_standins(tmp_path / "tree")
    assert (tmp_path / "tree/stable_hope_objects/milk/milk.xml").read_text() == "of an earlier version"
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_another_process_may_write_the_same_tree_meanwhile(tmp_path, monkeypatch):
    """The other one ends between our look and our rename."""
    write = tree._write_durably

    def and_so_does_another(path, data):
        monkeypatch.setattr(tree, "_write_durably", write)
        write_standins(tmp_path / "tree")
        write(path, data)

    monkeypatch.setattr(tree, "_write_durably", and_so_does_another)
    write_standins(tmp_path / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
    assert (tmp_path / "tree/STAND-INS.txt").read_bytes() == standin_files()["STAND-INS.txt"]


def test_the_key_goes_by_contents(monkeypatch):
    key = content_key()
    assert content_key() == key
    monkeypatch.setattr(tree, "OBJECTS", tree.OBJECTS[1:])
    assert content_key() != key
