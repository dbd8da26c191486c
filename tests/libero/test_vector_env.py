"""The vector environment: independence of threads and neighbors, resets, failures, snapshots, episodes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.envs.vector_env import VectorEnv


def random_chunks(count, seed, horizon=4):
    generator = np.random.default_rng(seed)
    return np.clip(generator.normal(0, 0.4, (count, horizon, 7)), -1, 1)


def test_results_do_not_depend_on_threads_or_neighbors(placeholder_scene):
    ends = []
    for threads, rows in ((1, [0, 1, 2]), (3, [0, 1, 2]), (2, [2, 0, 1])):
        env = VectorEnv([placeholder_scene] * 3, threads=threads)
        env.reset(placeholder_scene.training_states[rows])
        chunks = random_chunks(3, 0)[rows]
        for _ in range(3):
            result = env.step(chunks)
        env.close()
        ends.append(result.observation.physics[np.argsort(rows)])
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])


def test_parts_that_run_side_by_side_are_rows_of_the_whole(placeholder_scene, other_scene):
    scenes = [placeholder_scene, other_scene, other_scene, placeholder_scene]
    size = max(len(scene.training_states[0]) for scene in scenes)
    states = np.zeros((4, size))
    for row, scene in zip(states, scenes, strict=True):
        row[: len(scene.training_states[0])] = scene.training_states[0]
    env, other = VectorEnv(scenes, threads=2), VectorEnv(scenes, threads=2)
    chunks = random_chunks(4, 0)
    env.reset(states)
    whole = env.step(chunks)
    rows = [slice(0, 2), slice(2, 4)]

    def run(part, rows):
        part.reset(states[rows])
        return part.step(chunks[rows])

    with ThreadPoolExecutor(2) as threads:
        parts = list(threads.map(run, other.split(2), rows))
    for part, of in zip(parts, rows, strict=True):
        np.testing.assert_array_equal(part.states, whole.states[of])
        np.testing.assert_array_equal(part.observation.vector, whole.observation.vector[of])
    with pytest.raises(ValueError, match="4 environments in 3 parts"):
        env.split(3)
    env.close()
    other.close()


def test_a_reset_starts_afresh(placeholder_scene):
    env = VectorEnv([placeholder_scene] * 1)
    first = env.reset(placeholder_scene.training_states[:1]).physics
    for _ in range(5):
        env.step(random_chunks(1, 1, 8))
    np.testing.assert_array_equal(env.reset(placeholder_scene.training_states[:1]).physics, first)
    env.close()


def test_truncation_keeps_the_final_observation_and_resets(placeholder_scene):
    env = VectorEnv([placeholder_scene] * 2, horizon=6)
    env.reset(placeholder_scene.training_states[:2])
    env.step(random_chunks(2, 0))
    result = env.step(random_chunks(2, 0), reset_states=placeholder_scene.training_states[5:7])
    assert result.truncated.all() and not result.terminated.any()
    assert (result.control_steps == 2).all()
    assert (result.final_observation.step == 6).all() and (result.observation.step == 0).all()
    np.testing.assert_array_equal(result.final_observation.physics, result.states[:, 1])
    fresh = VectorEnv([placeholder_scene] * 2).reset(placeholder_scene.training_states[5:7])
    np.testing.assert_array_equal(result.observation.physics, fresh.physics)
    env.close()


def test_inactive_environments_do_not_move(placeholder_scene):
    env = VectorEnv([placeholder_scene] * 2)
    before = env.reset(placeholder_scene.training_states[:2]).physics
    result = env.step(random_chunks(2, 0), active=np.array([False, True]))
    assert result.control_steps.tolist() == [0, 4]
    np.testing.assert_array_equal(result.observation.physics[0], before[0])
    env.close()


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        (np.zeros((2, 4, 6)), "shape"),
        (np.zeros((3, 4, 7)), "shape"),
        (np.full((2, 4, 7), np.nan), r"environments \[0, 1\]"),
    ],
)
def test_bad_actions_are_refused(placeholder_scene, chunks, message):
    env = VectorEnv([placeholder_scene] * 2)
    env.reset(placeholder_scene.training_states[:2])
    with pytest.raises(ValueError, match=message):
        env.step(chunks)
    env.close()


def test_the_clean_scripted_expert_succeeds_and_its_actions_replay(placeholder_scene):
    trials = make_trials(3, 50, seed=0)
    expert = ScriptedExpert(placeholder_scene, clean=True)
    [episodes] = run_episodes(placeholder_scene, expert, trials, split="heldout", source="scripted", width=3)
    assert all(episode.success for episode in episodes)
    episode = episodes[1]
    assert episode.rewards.sum() == episode.rewards[-1] == 1
    env = VectorEnv([placeholder_scene] * 1, physics="exact")
    env.reset(episode.initial_state[None])
    for action in episode.actions:
        result = env.step(action[None, None])
    assert result.terminated.all()
    np.testing.assert_array_equal(result.final_observation.physics[0], episode.states[-1])
    env.close()


def test_a_failing_environment_is_reset_and_logged_and_does_not_affect_others(placeholder_scene):
    states = placeholder_scene.training_states
    env = VectorEnv([placeholder_scene] * 3)
    env.reset(states[:3])
    env._environments[1]._data.qvel[:] = 1e12
    result = env.step(random_chunks(3, 0), reset_states=states[5:8])
    assert result.failed.tolist() == [False, True, False] == result.truncated.tolist()
    assert result.control_steps.tolist() == [4, 0, 4]
    assert np.isfinite(result.observation.vector).all() and not result.states[1].any()
    assert len(env.failures) == 1 and placeholder_scene.task.id in env.failures[0]
    alone = VectorEnv([placeholder_scene] * 3)
    alone.reset(states[:3])
    np.testing.assert_array_equal(alone.step(random_chunks(3, 0)).states[::2], result.states[::2])
    fresh = VectorEnv([placeholder_scene]).reset(states[6:7]).physics
    np.testing.assert_array_equal(result.observation.physics[1], fresh[0])


def test_a_failed_environment_stays_ended_until_it_is_reset(placeholder_scene):
    env = VectorEnv([placeholder_scene])
    env.reset(placeholder_scene.training_states[:1])
    env._environments[0]._data.qvel[:] = 1e12
    assert env.step(random_chunks(1, 0)).failed.all()
    again = env.step(random_chunks(1, 0))
    assert again.truncated.all() and not again.failed.any() and again.control_steps.tolist() == [0]
    env.reset(placeholder_scene.training_states[:1])
    assert env.step(random_chunks(1, 0)).control_steps.tolist() == [4]


@pytest.mark.parametrize("physics", ["exact", "fast"])
def test_a_restored_env_acts_as_the_original(placeholder_scene, physics):
    env = VectorEnv([placeholder_scene] * 2, physics=physics)
    env.reset(placeholder_scene.training_states[:2])
    for seed in range(4):
        env.step(random_chunks(2, seed))
    snapshots = env.snapshot()
    other = VectorEnv([placeholder_scene] * 2, physics=physics)
    restored = other.restore(snapshots)
    for seed in range(4, 8):
        first, second = env.step(random_chunks(2, seed)), other.step(random_chunks(2, seed))
        np.testing.assert_array_equal(first.states, second.states)
    assert (restored.step == 16).all() and (first.observation.step == 32).all()
    for ours, theirs in zip(env.benchmark_observations(), other.benchmark_observations(), strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_snapshot_changes_nothing_in_exact_physics(placeholder_scene):
    ends = []
    for with_snapshot in (False, True):
        env = VectorEnv([placeholder_scene], physics="exact")
        env.reset(placeholder_scene.training_states[:1])
        env.step(random_chunks(1, 0))
        if with_snapshot:
            env.snapshot()
        ends.append(env.step(random_chunks(1, 1)).states)
    np.testing.assert_array_equal(*ends)


def test_tasks_of_different_sizes_share_an_env(placeholder_scene, other_scene):
    scenes = [placeholder_scene, other_scene, placeholder_scene]
    assert placeholder_scene.model.nq != other_scene.model.nq
    width = max(scene.stored_states.shape[1] for scene in scenes)
    initial = np.zeros((3, width))
    for row, scene in zip(initial, scenes, strict=True):
        row[: scene.stored_states.shape[1]] = scene.stored_states[4]
    env = VectorEnv(scenes)
    env.reset(initial)
    result = env.step(random_chunks(3, 0))
    for row, scene in enumerate(scenes):
        alone = VectorEnv([scene])
        alone.reset(scene.stored_states[4:5])
        single = alone.step(random_chunks(3, 0)[row : row + 1])
        vector_size, state_size = single.observation.vector.shape[1], scene.stored_states.shape[1]
        np.testing.assert_array_equal(result.observation.vector[row, :vector_size], single.observation.vector[0])
        np.testing.assert_array_equal(result.states[row, :, :state_size], single.states[0])
        assert not result.states[row, :, state_size:].any()
        np.testing.assert_array_equal(result.observation.robot.joints[row], single.observation.robot.joints[0])
