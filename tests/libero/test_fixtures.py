"""Fixtures that stand elsewhere than in the scene bundle: draws, physics, goals, observations and images."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from once import once
from parity import check_goals_and_steps, check_observations
from sampling import selected

from rlgen.core.errors import UserError
from rlgen.libero.envs.gymnasium import LiberoVectorEnv
from rlgen.libero.envs.observations import Observer, bystanders
from rlgen.libero.envs.replay import replay
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.physics import kernel
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.rendering.software import SoftwareRenderer
from rlgen.libero.scenes.bundles import build_scene_bundles, load_scene
from rlgen.libero.scenes.scene import load_scene_bundle
from rlgen.libero.tasks.bddl import read_problem
from rlgen.libero.tasks.suites import HORIZONS, all_tasks, find_task

# A drawer, the top of a cabinet, a drawer in a kitchen, a stove.
TASKS = ("libero_goal/0", "libero_goal/4", "libero_10/3", "libero_90/39")
STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


def has_fixtures(task) -> bool:
    """Returns whether a task has fixtures beside its table, which has no number."""
    return any(name[-1].isdigit() for name in read_problem(task.bddl_file).fixtures)


def tasks_with_fixtures() -> list:
    """Returns all tasks with fixtures as parameters, those outside of `TASKS` marked `slow`."""
    chosen = [find_task(name) for name in TASKS]
    return [
        pytest.param(task, id=f"{task.suite}-{task.index}", marks=() if task in chosen else pytest.mark.slow)
        for task in all_tasks()
        if has_fixtures(task)
    ]


@pytest.fixture(scope="module")
def bundles(request, real_assets, cache):
    tasks = sorted(selected(request, map(find_task, TASKS)), key=all_tasks().index)
    return dict(zip(tasks, build_scene_bundles(tasks, real_assets, cache), strict=True))


@pytest.fixture(scope="module")
def official(bundles, real_assets, together):
    """What the benchmark's environment does after a reset that drew the fixtures, by `record_redraws.py`."""
    program = Path(__file__).with_name("record_redraws.py")

    def record(out: Path) -> None:
        names = [f"{task.suite}/{task.index}" for task in bundles]
        command = [sys.executable, str(program), "--assets", str(real_assets.path), "--out", str(out), *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    return once(together, "redraws", record)


@pytest.mark.parametrize("task", tasks_with_fixtures())
def test_a_task_with_redrawn_fixtures_is_the_benchmarks(task, bundles, official):
    kernel.link_mujoco()
    bundled = load_scene_bundle(bundles[task])
    with np.load(official / f"{task.suite}-{task.index}.npz") as arrays:
        seen = dict(arrays)
    for seed, poses in enumerate(seen["draws"]):
        np.testing.assert_array_equal(bundled.draw_fixtures("redraw", seed), poses)
    scene = bundled.placed(seen["fixtures"])
    moved = np.abs(seen["fixtures"][:, :3] - bundled.model.body_pos[bundled.fixture_bodies])
    assert moved.max() > 1e-4 and moved[:, 2].max() < 1e-9
    check_goals_and_steps(scene, seen)
    check_observations(scene, seen)


@pytest.fixture(scope="module")
def scene(placeholder_assets, cache):
    """A table with a cabinet, a stove and a rack."""
    return load_scene("libero_goal/0", placeholder_assets, cache)


@pytest.fixture(scope="module")
def far(scene):
    """Poses with the cabinet half a metre to the side, turned by a quarter."""
    poses = scene.draw_fixtures("redraw", 0)
    row = [sampler.body for sampler in scene.fixture_samplers].index("wooden_cabinet_1_main")
    poses[row, 1] += 0.5
    poses[row, 3:] = np.cos(np.pi / 8), 0.0, 0.0, np.sin(np.pi / 8)
    return poses


def test_draws_follow_from_their_seed_and_fixed_fixtures_have_none(scene, placeholder_scene):
    first, again, other = (scene.draw_fixtures("redraw", seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (3, 7) and np.abs(first - other)[:, :2].max() > 1e-4
    assert scene.draw_fixtures("fixed", 1) is None
    assert placeholder_scene.draw_fixtures("redraw", 1) is None  # nothing but a basket on the floor
    with pytest.raises(UserError, match="'fixed' or 'redraw'"):
        scene.draw_fixtures("drawn", 1)


def test_placing_changes_nothing_but_the_fixtures_and_not_the_scene_itself(scene, far):
    before = scene.model.body_pos.copy()
    placed = scene.placed(far)
    np.testing.assert_array_equal(scene.model.body_pos, before)
    np.testing.assert_array_equal(placed.model.body_pos[scene.fixture_bodies], far[:, :3])
    others = np.setdiff1d(np.arange(scene.model.nbody), scene.fixture_bodies)
    np.testing.assert_array_equal(placed.model.body_pos[others], before[others])
    assert scene.placed(None) is scene and placed.visual_model is scene.visual_model
    np.testing.assert_array_equal(placed.placed(far).model.body_quat, placed.model.body_quat)
    with pytest.raises(UserError, match=r"shape \(2, 7\), .* has 3"):
        scene.placed(far[:2])


@pytest.mark.parametrize("physics", ["exact", "fast"])
def test_objects_rest_on_fixtures_where_these_stand_now(scene, far, physics):
    """A bowl that falls onto the cabinet, and onto the table where the cabinet is not."""
    state, model = scene.stored_states[0].copy(), scene.model
    body = int(scene.object_bodies[scene.object_names.index("akita_black_bowl_1")])
    address = 1 + model.jnt_qposadr[model.body_jntadr[body]]
    [cabinet] = [pose for pose, one in zip(far, scene.fixture_samplers, strict=True) if "cabinet" in one.body]
    state[address : address + 3] = cabinet[0], cabinet[1], 1.3
    env = VectorEnv([scene] * 3, threads=2, physics=physics)
    env.reset(np.stack([state] * 3), [far, None, far])
    observation = env.step(np.tile(STILL, (3, 40, 1))).observation
    heights = observation.physics[:, address + 2]
    assert heights[0] == heights[2] > heights[1] + 0.15
    # The goal is the cabinet's drawer: policies on vectors read where it is now.
    assert np.abs(observation.vector[0] - observation.vector[1]).max() > 0.4
    np.testing.assert_array_equal(observation.vector[0], observation.vector[2])
    assert observation.fixtures[1] is None and observation.fixtures[0] is not None


def test_the_next_episode_of_a_rollout_has_the_fixtures_where_they_are(scene, far):
    states = scene.training_states[:2]
    env = VectorEnv([scene] * 2, physics="fast", horizon=4)
    start = env.reset(states, [far, None])
    result = env.step(np.tile(STILL, (2, 4, 1)), reset_states=states)
    assert result.truncated.all()
    np.testing.assert_array_equal(result.observation.vector, start.vector)
    np.testing.assert_array_equal(result.observation.fixtures[0], far)
    assert result.observation.fixtures[1] is None


def test_an_environment_without_a_draw_is_as_before_it_had_one(scene, far):
    env, fresh = VectorEnv([scene], physics="fast"), VectorEnv([scene], physics="fast")
    moved = env.reset(scene.stored_states[:1], [far])
    assert moved.fixtures is not None
    back, expected = env.reset(scene.stored_states[:1]), fresh.reset(scene.stored_states[:1])
    assert back.fixtures is None
    for name in ("vector", "physics"):
        np.testing.assert_array_equal(getattr(back, name), getattr(expected, name))


def test_snapshots_say_where_the_fixtures_stand(scene, far):
    env, other = (VectorEnv([scene], physics="exact") for _ in range(2))
    env.reset(scene.stored_states[:1], [far])
    snapshots = env.snapshot()
    other.restore(snapshots)
    actions = np.tile(STILL, (1, 5, 1))
    mine, theirs = env.step(actions), other.step(actions)
    np.testing.assert_array_equal(mine.states, theirs.states)
    np.testing.assert_array_equal(mine.observation.vector, theirs.observation.vector)


class StandStill:
    """An actor that does nothing."""

    def reset(self, seeds):
        pass

    def __call__(self, observation):
        return np.tile(STILL, (len(observation.vector), 20, 1))


@pytest.mark.parametrize("physics", ["exact", "fast"])
def test_episodes_have_a_draw_of_their_trial_and_replay_with_it(scene, physics, monkeypatch):
    monkeypatch.setitem(HORIZONS, "libero_goal", 40)
    trials = make_trials(3, 50, seed=4)
    options = {"split": "heldout", "source": "nobody", "width": 2, "physics": physics}
    waves = run_episodes(scene, StandStill(), trials, fixtures="redraw", **options)
    episodes = [episode for wave in waves for episode in wave]
    for trial, episode in zip(trials, episodes, strict=True):
        np.testing.assert_array_equal(episode.fixtures, scene.draw_fixtures("redraw", trial.seed))
        if physics == "exact":
            states, _ = replay(scene.placed(episode.fixtures), episode.initial_state, episode.actions)
            # Seconds are added up in chunks of another length.
            np.testing.assert_array_equal(states[:, 1:], episode.states[:, 1:])
    [fixed] = run_episodes(scene, StandStill(), trials[:2], **options)
    assert all(episode.fixtures is None for episode in fixed)


def test_images_show_fixtures_where_they_stand(scene, far):
    """Compared with a model that has them there."""
    qpos = scene.stored_states[0, 1 : 1 + scene.model.nq]
    model = mujoco.MjModel.from_xml_path(str(scene.folder / "scene.xml"))
    model.body_pos[scene.fixture_bodies], model.body_quat[scene.fixture_bodies] = far[:, :3], far[:, 3:]
    expected = SoftwareRenderer(model, image_size=96).render(qpos)
    states = scene.stored_states[[0, 0]]
    with RenderPool(scene, image_size=96, workers=2) as pool:
        fixed, moved = pool.render(states, fixtures=[None, far])
        np.testing.assert_array_equal(pool.render(states, fixtures=far), [moved, moved])
        np.testing.assert_array_equal(pool.render(states), [fixed, fixed])
    np.testing.assert_array_equal(moved, expected)
    assert (moved[0] != fixed[0]).any(axis=-1).mean() > 0.05
    with RenderPool(scene.placed(far), image_size=96) as pool:
        np.testing.assert_array_equal(pool.render(states[:1])[0], moved)


def test_gymnasium_redraws_at_every_reset(scene):
    env = LiberoVectorEnv(scene, 2, split="heldout", fixtures="redraw", horizon=2, chunk=2)
    first, _ = env.reset(seed=3, options={"initial": [0, 0]})
    after, *_ = env.step(np.zeros((2, 2, 7)))
    again, _ = env.reset(seed=3, options={"initial": [0, 0]})
    np.testing.assert_array_equal(first["vector"], again["vector"])
    rows = np.stack([*first["vector"], *after["vector"]])
    assert len(np.unique(rows, axis=0)) == 4
    env.close()


def test_what_lies_in_a_fixture_is_spread_in_training_as_in_the_stored_states(placeholder_assets, cache):
    scene = load_scene("libero_spatial/4", placeholder_assets, cache)
    address = int(scene.model.jnt_qposadr[scene.model.body_jntadr[scene.object_bodies]][0])
    assert scene.object_names[0] == "akita_black_bowl_1"
    stored, drawn, bundled = (
        states[:, 1 + address : 3 + address]
        for states in (scene.stored_states, scene.training_states, scene.bundled_states)
    )
    # In the drawer, and the cabinet is drawn with it; with the bundle's cabinet it is two thirds as wide at most.
    np.testing.assert_allclose(drawn.std(axis=0), stored.std(axis=0), rtol=0.25)
    assert (bundled.std(axis=0) < 0.67 * stored.std(axis=0)).all()
    assert (stored > drawn.min(axis=0) - 0.003).all() and (stored < drawn.max(axis=0) + 0.003).all()
    # All else is the same draw.
    same = np.ones(scene.training_states.shape[1], bool)
    for body in scene.object_bodies[:2]:
        start = 1 + int(scene.model.jnt_qposadr[scene.model.body_jntadr[body]])
        same[start : start + 7] = False
    np.testing.assert_array_equal(scene.training_states[:, same], scene.bundled_states[:, same])


def test_a_bundle_of_the_format_before_opens_and_cannot_redraw(scene, tmp_path):
    folder = shutil.copytree(scene.folder, tmp_path / "old")
    description = json.loads((folder / "scene.json").read_text())
    del description["fixtures"]
    (folder / "scene.json").write_text(json.dumps({**description, "format": 6}))
    old = load_scene_bundle(folder)
    states = Observer(old)(old.stored_states[:1]), Observer(scene)(scene.stored_states[:1])
    np.testing.assert_array_equal(*(observation.vector for observation in states))
    assert old.draw_fixtures("fixed", 0) is None
    with pytest.raises(UserError, match="older version"):
        old.draw_fixtures("redraw", 0)


def test_the_vector_holds_where_the_fixtures_stand(scene):
    scene = replace(scene, observed="all")
    poses = scene.draw_fixtures("redraw", 3)
    observation = Observer(scene.placed(poses))(scene.training_states[:2])
    count = len(scene.fixture_bodies)
    ways = observation.vector[:, -18 - 3 * count : -18].reshape(2, count, 3)
    np.testing.assert_allclose(ways, poses[:, :3] - observation.robot.position[:, None], atol=1e-12)
    assert bystanders(replace(scene, fixture_samplers=None)).size == len(bystanders(scene)) - count
