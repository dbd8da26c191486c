import numpy as np
import pytest

from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.envs.vector_env import VectorEnv


def random_chunks(count, seed, horizon=4):
    random = np.random.default_rng(seed)
    return np.clip(random.normal(0, 0.4, (count, horizon, 7)), -1, 1)


def test_results_do_not_depend_on_threads_or_neighbours(placeholder_scene):
    ends = []
    for threads, rows in ((1, [0, 1, 2]), (3, [0, 1, 2]), (2, [2, 0, 1])):
        pool = VectorEnv([placeholder_scene] * 3, threads=threads)
        pool.reset(placeholder_scene.training_states[rows])
        chunks = random_chunks(3, 0)[rows]
        for _ in range(3):
            result = pool.step(chunks)
        pool.close()
        ends.append(result.observation.physics[np.argsort(rows)])
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])


def test_a_reset_forgets_the_episode_before(placeholder_scene):
    pool = VectorEnv([placeholder_scene] * 1)
    first = pool.reset(placeholder_scene.training_states[:1]).physics
    for _ in range(5):
        pool.step(random_chunks(1, 1, 8))
    np.testing.assert_array_equal(pool.reset(placeholder_scene.training_states[:1]).physics, first)
    pool.close()


def test_truncation_keeps_the_final_observation_and_resets(placeholder_scene):
    pool = VectorEnv([placeholder_scene] * 2, horizon=6)
    pool.reset(placeholder_scene.training_states[:2])
    pool.step(random_chunks(2, 0))
    result = pool.step(random_chunks(2, 0), reset_states=placeholder_scene.training_states[5:7])
    assert result.truncated.all() and not result.terminated.any()
    assert (result.control_steps == 2).all()
    assert (result.final_observation.step == 6).all() and (result.observation.step == 0).all()
    np.testing.assert_array_equal(result.final_observation.physics, result.states[:, 1])
    fresh = VectorEnv([placeholder_scene] * 2).reset(placeholder_scene.training_states[5:7])
    np.testing.assert_array_equal(result.observation.physics, fresh.physics)
    pool.close()


def test_inactive_environments_stand_still(placeholder_scene):
    pool = VectorEnv([placeholder_scene] * 2)
    before = pool.reset(placeholder_scene.training_states[:2]).physics
    result = pool.step(random_chunks(2, 0), active=np.array([False, True]))
    assert result.control_steps.tolist() == [0, 4]
    np.testing.assert_array_equal(result.observation.physics[0], before[0])
    pool.close()


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        (np.zeros((2, 4, 6)), "shape"),
        (np.zeros((3, 4, 7)), "shape"),
        (np.full((2, 4, 7), np.nan), r"environments \[0, 1\]"),
    ],
)
def test_bad_actions_are_refused(placeholder_scene, chunks, message):
    pool = VectorEnv([placeholder_scene] * 2)
    pool.reset(placeholder_scene.training_states[:2])
    with pytest.raises(ValueError, match=message):
        pool.step(chunks)
    pool.close()


def test_the_clean_demonstrator_succeeds_and_its_actions_replay(placeholder_scene):
    trials = make_trials(3, 50, seed=0)
    demonstrator = ScriptedExpert(placeholder_scene, clean=True)
    [episodes] = run_episodes(placeholder_scene, demonstrator, trials, split="heldout", source="scripted", width=3)
    assert all(episode.success for episode in episodes)
    episode = episodes[1]
    assert episode.rewards.sum() == episode.rewards[-1] == 1
    pool = VectorEnv([placeholder_scene] * 1, physics="exact")
    pool.reset(episode.initial_state[None])
    for action in episode.actions:
        result = pool.step(action[None, None])
    assert result.terminated.all()
    np.testing.assert_array_equal(result.final_observation.physics[0], episode.states[-1])
    pool.close()


def test_a_failing_environment_is_reset_and_counted_and_harms_no_other(placeholder_scene):
    placements = placeholder_scene.training_states
    pool = VectorEnv([placeholder_scene] * 3)
    pool.reset(placements[:3])
    pool._environments[1]._data.qvel[:] = 1e12
    result = pool.step(random_chunks(3, 0), reset_states=placements[5:8])
    assert result.failed.tolist() == [False, True, False] == result.truncated.tolist()
    assert result.control_steps.tolist() == [4, 0, 4]
    assert np.isfinite(result.observation.vector).all() and not result.states[1].any()
    assert len(pool.failures) == 1 and placeholder_scene.task.id in pool.failures[0]
    alone = VectorEnv([placeholder_scene] * 3)
    alone.reset(placements[:3])
    np.testing.assert_array_equal(alone.step(random_chunks(3, 0)).states[::2], result.states[::2])
    fresh = VectorEnv([placeholder_scene]).reset(placements[6:7]).physics
    np.testing.assert_array_equal(result.observation.physics[1], fresh[0])


def test_an_environment_that_failed_stays_ended_until_it_is_reset(placeholder_scene):
    pool = VectorEnv([placeholder_scene])
    pool.reset(placeholder_scene.training_states[:1])
    pool._environments[0]._data.qvel[:] = 1e12
    assert pool.step(random_chunks(1, 0)).failed.all()
    again = pool.step(random_chunks(1, 0))
    assert again.truncated.all() and not again.failed.any() and again.control_steps.tolist() == [0]
    pool.reset(placeholder_scene.training_states[:1])
    assert pool.step(random_chunks(1, 0)).control_steps.tolist() == [4]


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_restored_pool_goes_on_as_the_saved_one(placeholder_scene, mode):
    pool = VectorEnv([placeholder_scene] * 2, physics=mode)
    pool.reset(placeholder_scene.training_states[:2])
    for seed in range(4):
        pool.step(random_chunks(2, seed))
    saved = pool.snapshot()
    other = VectorEnv([placeholder_scene] * 2, physics=mode)
    restored = other.restore(saved)
    for seed in range(4, 8):
        first, second = pool.step(random_chunks(2, seed)), other.step(random_chunks(2, seed))
        np.testing.assert_array_equal(first.states, second.states)
    assert (restored.step == 16).all() and (first.observation.step == 32).all()
    for ours, theirs in zip(pool.benchmark_observations(), other.benchmark_observations(), strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_saving_changes_nothing_in_exact_physics(placeholder_scene):
    ends = []
    for save in (False, True):
        pool = VectorEnv([placeholder_scene], physics="exact")
        pool.reset(placeholder_scene.training_states[:1])
        pool.step(random_chunks(1, 0))
        if save:
            pool.snapshot()
        ends.append(pool.step(random_chunks(1, 1)).states)
    np.testing.assert_array_equal(*ends)


def test_tasks_of_different_sizes_share_a_pool(placeholder_scene, other_scene):
    scenes = [placeholder_scene, other_scene, placeholder_scene]
    assert placeholder_scene.model.nq != other_scene.model.nq
    width = max(scene.stored_states.shape[1] for scene in scenes)
    initial = np.zeros((3, width))
    for row, scene in zip(initial, scenes, strict=True):
        row[: scene.stored_states.shape[1]] = scene.stored_states[4]
    pool = VectorEnv(scenes)
    pool.reset(initial)
    result = pool.step(random_chunks(3, 0))
    for row, scene in enumerate(scenes):
        alone = VectorEnv([scene])
        alone.reset(scene.stored_states[4:5])
        single = alone.step(random_chunks(3, 0)[row : row + 1])
        numbers, wide = single.observation.vector.shape[1], scene.stored_states.shape[1]
        np.testing.assert_array_equal(result.observation.vector[row, :numbers], single.observation.vector[0])
        np.testing.assert_array_equal(result.states[row, :, :wide], single.states[0])
        assert not result.states[row, :, wide:].any()
        np.testing.assert_array_equal(result.observation.robot.joints[row], single.observation.robot.joints[0])
