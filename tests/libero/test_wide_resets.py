"""Wide resets: what is kept of a task's layout, what is refused, how far draws go, and where they are stored."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.curation.card import reset_facts
from rlgen.data.episode import load_episode, save_episode
from rlgen.demos.imports.rlds import episode_origin
from rlgen.demos.trials import Job, run_trial
from rlgen.libero.envs.environment import SETTLE_ACTION, Environment
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.envs.wide_resets import WideDraws, wide_states, with_resets, with_split
from rlgen.libero.physics import kernel
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import load_scene_bundle
from rlgen.libero.scenes.wide import FIXTURE, JOINTS, SHIFT, SPREAD, ObjectLayout

# Bowls that a prompt tells apart, groceries on the floor, a drawer, a bowl on a fixture, into a drawer of a kitchen.
PLACEHOLDERS = ("libero_spatial/0", "libero_object/6", "libero_goal/0", "libero_10/4")
REAL = ("libero_object/6", "libero_goal/0")
DRAWN = np.arange(3)


@pytest.fixture(
    scope="module", params=[*(f"placeholder {task}" for task in PLACEHOLDERS), *(f"real {t}" for t in REAL)]
)
def drawn(request, cache):
    """A scene, the root of its assets, and some wide states of it."""
    kind, task = request.param.split()
    assets = request.getfixturevalue(f"{kind}_assets")
    scene = load_scene(task, assets, cache)
    return scene, assets.path, WideDraws(scene).draw_some(DRAWN)


def radius(assets: Path, name: str) -> float:
    """Returns the radius from which the benchmark's samplers keep other objects of an object away."""
    kind = re.sub(r"_\d+$", "", name)
    [file] = assets.glob(f"*/{kind}/{kind}.xml") or assets.glob(f"*/{kind}.xml")
    [line] = [line for line in re.findall(r"<site[^>]*>", file.read_text()) if "horizontal_radius" in line]
    return float(np.linalg.norm([float(word) for word in re.search(r'pos="([^"]*)"', line)[1].split()[:2]]))


def test_wide_states_keep_what_the_benchmarks_placement_keeps(drawn):
    scene, assets, states = drawn
    layout = ObjectLayout(scene)
    for state in states:
        places = layout.places(state)
        for one in layout.movers:
            for other in set(range(len(places))) - {one}:
                if layout.carriers[other] in (-1, other):
                    apart = np.linalg.norm(places[one, :2] - places[other, :2])
                    assert apart > sum(radius(assets, scene.object_names[index]) for index in (one, other))


def test_in_a_wide_state_all_is_at_rest_where_it_was_drawn_and_nothing_is_done_yet(drawn):
    scene, _, states = drawn
    layout, width = ObjectLayout(scene), len(states)
    env = VectorEnv([scene] * 2 * width, threads=2, physics="exact")
    settled = env.reset(np.concatenate([states, scene.training_states[DRAWN]])).physics
    result = env.step(np.tile(SETTLE_ACTION, (2 * width, 20, 1)))
    assert not result.terminated.any()
    before, after = ([layout.places(state) for state in at] for at in (settled, result.observation.physics))
    assert np.linalg.norm(np.subtract(before, after), axis=2)[:width].max() < 0.01
    wide, standard = np.array(after)[:width], np.array(after)[width:]
    # On the same surface: as high as in the standard state, and where it was drawn.
    np.testing.assert_allclose(wide[:, layout.movers, 2], standard[:, layout.movers, 2], atol=0.01)
    assert np.abs(wide - [layout.places(state) for state in states])[:, :, :2].max() < 0.05
    env.close()


def test_in_a_wide_state_the_robot_touches_nothing(drawn):
    scene, _, states = drawn
    data, robot = mujoco.MjData(scene.model), scene.model.body_rootid[scene.robot.hand_body]
    for state in states:
        data.qpos[:] = state[1 : 1 + scene.model.nq]
        mujoco.mj_fwdPosition(scene.model, data)
        roots = scene.model.body_rootid[scene.model.geom_bodyid[data.contact.geom]].reshape(-1, 2)
        assert not ((roots == robot).any(axis=1) & (roots != robot).any(axis=1)).any()
        low, high = scene.model.jnt_range[scene.robot.arm_joint].T
        assert ((low <= data.qpos[scene.robot.arm_qpos]) & (data.qpos[scene.robot.arm_qpos] <= high)).all()


def test_draws_are_as_wide_as_the_table_says(placeholder_scene):
    indices = np.arange(16)
    states, standard = WideDraws(placeholder_scene).draw_some(indices), placeholder_scene.training_states[indices]
    layout, arm = ObjectLayout(placeholder_scene), 1 + placeholder_scene.robot.arm_qpos
    places, before = (np.stack([layout.places(state) for state in at]) for at in (states, standard))
    moved = places - before
    assert (np.abs(moved[:, :, :2]).max(axis=(0, 1)) <= np.array(SHIFT) + SPREAD).all()
    assert (moved[:, :, 2] >= 0).all()
    assert (places.std(axis=0)[:, :2] > 3 * before.std(axis=0)[:, :2]).all()
    assert (places.std(axis=0)[:, :2] > 0.02).all()
    turned = np.linalg.norm(states[:, arm] - standard[:, arm], axis=1)
    assert turned.max() <= JOINTS + 1e-12 and turned.std() > JOINTS / 8
    rest = np.ones(states.shape[1], bool)
    rest[arm] = False
    rest[[1 + address + axis for address in layout.addresses for axis in (0, 1, 2)]] = False
    np.testing.assert_array_equal(states[:, rest], standard[:, rest])


def test_a_draw_depends_on_its_index_alone(placeholder_scene):
    draws = WideDraws(placeholder_scene)
    both, one = draws.draw_some(np.array([3, 7])), draws.draw_some(np.array([7]))
    np.testing.assert_array_equal(both[1], one[0])
    assert not np.array_equal(both[0], both[1])


@pytest.fixture(scope="module")
def few_states(placeholder_scene, tmp_path_factory):
    """A copy of a scene bundle with two training reset states."""
    folder = tmp_path_factory.mktemp("bundle") / "few"
    shutil.copytree(placeholder_scene.folder, folder, ignore=shutil.ignore_patterns("settled-*", "wide-*"))
    np.save(folder / "placements.npy", placeholder_scene.training_states[:2])
    np.save(folder / "bundled_placements.npy", placeholder_scene.bundled_states[:2])
    return folder


def test_wide_states_are_kept_beside_the_standard_ones(few_states):
    files = {path: path.read_bytes() for path in few_states.iterdir() if path.is_file()}
    standard = load_scene_bundle(few_states)
    wide = with_resets(standard, "wide")
    assert {path: path.read_bytes() for path in files} == files
    np.testing.assert_array_equal(load_scene_bundle(few_states).training_states, standard.training_states)
    np.testing.assert_array_equal(wide.stored_states, standard.stored_states)
    [kept] = few_states.glob("wide-*.npy")
    np.testing.assert_array_equal(np.load(kept), wide.training_states)
    np.save(kept, wide.training_states[::-1])
    np.testing.assert_array_equal(wide_states(standard), wide.training_states[::-1])
    np.save(kept, wide.training_states)


def test_splits_say_which_resets_a_scene_has(few_states):
    standard = load_scene_bundle(few_states)
    wide = with_split(standard, "wide")
    assert (standard.training_split, wide.training_split) == ("train", "wide")
    assert with_split(standard, "heldout") is standard and with_resets(wide, "wide") is wide
    assert wide.initial_states("wide") is wide.training_states and wide.initial_states("heldout") is wide.stored_states
    for scene, split in ((standard, "wide"), (wide, "train"), (wide, "narrow")):
        with pytest.raises(UserError, match="split"):
            scene.initial_states(split)
    for scene, resets in ((standard, "narrow"), (wide, "standard")):
        with pytest.raises(UserError, match="resets"):
            with_resets(scene, resets)


def test_an_episode_says_that_its_resets_were_wide(few_states, tmp_path):
    job = Job(few_states, "wide", 0, "exact", clean=True)
    assert run_trial(job, tmp_path, 1).success
    episode = load_episode(tmp_path / "00001.npz")
    assert (episode.split, episode.initial_index) == ("wide", 1)
    np.testing.assert_array_equal(episode.initial_state, wide_states(load_scene_bundle(few_states))[1])
    save_episode(tmp_path / "again.npz", episode)
    assert load_episode(tmp_path / "again.npz").split == "wide"


def test_an_exported_episode_names_its_wide_state():
    class Named:
        file_path = "libero_object/butter/ppo/wide-12-34"

    origin = episode_origin(Named())
    assert origin is not None and (origin.split, origin.index, origin.seed) == ("wide", 12, 34)


def test_cards_say_how_many_episodes_had_wide_resets():
    assert reset_facts(["train", "heldout"]) == {}
    assert reset_facts(["train", "wide", "wide"])["resets"].startswith("wide in 2 of 3 episodes")


def test_bowls_that_the_prompt_tells_apart_do_not_change_places(placeholder_assets, cache):
    scene = load_scene("libero_spatial/0", placeholder_assets, cache)
    layout = ObjectLayout(scene)
    places = layout.places(scene.training_states[0])
    assert layout.tells_apart(places)
    bowls = [index for index, name in enumerate(scene.object_names) if name.startswith("akita_black_bowl")]
    places[bowls] = places[bowls[::-1]]
    assert not layout.tells_apart(places)


def test_what_stands_on_an_object_goes_with_it_and_what_lies_in_a_fixture_stays(placeholder_assets, cache):
    on_ramekin = load_scene("libero_spatial/5", placeholder_assets, cache)
    layout, standard = ObjectLayout(on_ramekin), on_ramekin.training_states[0]
    stacked = [(one, other) for one, other in enumerate(layout.carriers) if other >= 0]
    moved = layout.draw(np.random.default_rng(1), standard, 0.5)
    assert moved is not None and stacked
    shifts = layout.places(moved) - layout.places(standard)
    for upper, lower in stacked:
        assert upper not in layout.movers and lower in layout.movers
        np.testing.assert_allclose(shifts[upper], shifts[lower], atol=1e-12)
        assert np.linalg.norm(shifts[lower]) > 0.01
    in_drawer = ObjectLayout(load_scene("libero_spatial/4", placeholder_assets, cache))
    assert in_drawer.carriers[0] == FIXTURE and 0 not in in_drawer.movers


def test_where_the_goal_is_a_place_on_the_table_only_what_goes_there_is_moved(placeholder_assets, cache):
    scene = load_scene("libero_goal/5", placeholder_assets, cache)
    assert [scene.object_names[index] for index in ObjectLayout(scene).movers] == ["plate_1"]


def test_what_is_not_moved_may_be_as_near_as_the_benchmark_has_it(placeholder_assets, cache):
    """The benchmark puts a book and a mug less than 2 cm apart in `libero_90/84`, whose goal moves neither."""
    kernel.link_mujoco()
    scene = load_scene("libero_goal/5", placeholder_assets, cache)
    draws, layout, environment = WideDraws(scene), ObjectLayout(scene), Environment(scene, scene.model)
    [state] = draws.draw_some(np.array([0]))
    plate, bowl, bottle = (
        scene.object_names.index(f"{name}_1") for name in ("plate", "akita_black_bowl", "wine_bottle")
    )

    def beside(mover: int, other: int) -> str:
        near, (address, target) = state.copy(), (1 + layout.addresses[index] for index in (mover, other))
        near[address : address + 2] = near[target : target + 2] + 0.01
        return draws.problem(environment, near, 0) or ""

    assert "too near" not in beside(bowl, bottle)
    assert "too near" in beside(plate, bottle)


def test_what_is_wrong_with_a_state_is_found(placeholder_assets, cache):
    kernel.link_mujoco()
    scene = load_scene("libero_goal/0", placeholder_assets, cache)
    draws, layout, environment = WideDraws(scene), ObjectLayout(scene), Environment(scene, scene.model)
    [good] = draws.draw_some(np.array([0]))
    assert draws.problem(environment, good, 0) is None
    bowl, plate = (scene.object_names.index(name) for name in ("akita_black_bowl_1", "plate_1"))

    def with_bowl(x: float, y: float, z: float | None = None) -> np.ndarray:
        state = good.copy()
        address = 1 + layout.addresses[bowl]
        state[address : address + 2] = x, y
        if z is not None:
            state[address + 2] = z
        return state

    data = mujoco.MjData(scene.model)
    data.qpos[:] = good[1 : 1 + scene.model.nq]
    mujoco.mj_kinematics(scene.model, data)
    hand = data.site_xpos[scene.robot.grip_site]
    expected = {
        "too near|does not hold": with_bowl(*layout.places(good)[plate, :2] + 0.05),
        "moving|does not hold": with_bowl(*layout.places(good)[bowl, :2], 1.6),
        "falls|does not hold": with_bowl(1.5, 0.0),
        "robot0": with_bowl(hand[0], hand[1], hand[2] - 0.05),
    }
    for message, state in expected.items():
        assert re.search(message, draws.problem(environment, state, 0) or ""), message


def test_a_state_in_which_all_is_done_is_refused(placeholder_assets, cache):
    scene = load_scene("libero_goal/7", placeholder_assets, cache)
    draws, environment = WideDraws(scene), Environment(scene, scene.model)
    [state] = draws.draw_some(np.array([0]))
    state[1 + scene.goal.joints[0, 0]] = scene.goal.thresholds[0] + (0.1 if scene.goal.above[0] else -0.1)
    assert draws.problem(environment, state, 0) == "the goal is reached at the start"


def test_an_object_before_a_drawer_that_is_to_open_is_in_the_way(placeholder_assets, cache):
    scene = load_scene("libero_goal/0", placeholder_assets, cache)
    kernel.link_mujoco()
    draws, layout = WideDraws(scene), ObjectLayout(scene)
    bowl = 1 + layout.addresses[scene.object_names.index("akita_black_bowl_1")]
    environment, address = Environment(scene, scene.model), int(scene.goal.joints[0, 0])
    environment.reset(scene.training_states[0])
    state = environment.state.copy()
    data, joint = mujoco.MjData(scene.model), scene.model.jnt_qposadr.tolist().index(address)
    data.qpos[:] = state[1 : 1 + scene.model.nq]
    data.qpos[address] = scene.goal.thresholds[0]
    mujoco.mj_kinematics(scene.model, data)
    front = data.xipos[scene.model.jnt_bodyid[joint]]
    assert draws.blocked(state) is None
    state[bowl : bowl + 3] = front
    assert "akita_black_bowl_1" in (draws.blocked(state) or "")


def test_a_task_of_which_nothing_can_be_drawn_is_named(placeholder_scene, monkeypatch):
    draws = WideDraws(replace(placeholder_scene, resets="standard"))
    monkeypatch.setattr(draws, "problem", lambda *_: "the goal is reached at the start")
    monkeypatch.setattr("rlgen.libero.envs.wide_resets.DRAWS", 3)
    with pytest.raises(UserError, match="none of 3 wide draws"):
        draws.draw_some(np.array([0]))


# The benchmark drops both bowls by 14 and 16 cm; a pan's handle ends beside a bowl and before a stove.
@pytest.mark.parametrize("task", ["libero_spatial/5", "libero_90/45"])
def test_what_the_benchmark_itself_does_is_allowed(real_assets, cache, task):
    kernel.link_mujoco()
    scene = load_scene(task, real_assets, cache)
    draws, layout, environment = WideDraws(scene), ObjectLayout(scene), Environment(scene, scene.model)
    standard = scene.training_states[0]
    state, _ = draws.draw(layout, environment, 0)
    assert np.abs(layout.places(state) - layout.places(standard))[:, :2].max() > 0.02
    # And no more than that.
    high = state.copy()
    high[1 + layout.addresses[layout.movers[0]] + 2] += 0.15
    assert re.search("falls|does not hold|moving", draws.problem(environment, high, 0) or "")
