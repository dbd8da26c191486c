import numpy as np
import pytest

from rlgen.libero.demonstrator import Demonstrator, clean_style, draw_style, plan
from rlgen.libero.pool import Pool
from rlgen.rl.rollout import make_trials, run_episodes


def random_chunks(count, seed, horizon=4):
    random = np.random.default_rng(seed)
    return np.clip(random.normal(0, 0.4, (count, horizon, 7)), -1, 1)


def test_results_do_not_depend_on_threads_or_neighbours(standin_scene):
    ends = []
    for threads, rows in ((1, [0, 1, 2]), (3, [0, 1, 2]), (2, [2, 0, 1])):
        pool = Pool(standin_scene, 3, threads=threads)
        pool.reset(standin_scene.placements[rows])
        chunks = random_chunks(3, 0)[rows]
        for _ in range(3):
            result = pool.step(chunks)
        pool.close()
        ends.append(result.observation.physics[np.argsort(rows)])
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])


def test_a_reset_forgets_the_episode_before(standin_scene):
    pool = Pool(standin_scene, 1)
    first = pool.reset(standin_scene.placements[:1]).physics
    for _ in range(5):
        pool.step(random_chunks(1, 1, 8))
    np.testing.assert_array_equal(pool.reset(standin_scene.placements[:1]).physics, first)
    pool.close()


def test_truncation_keeps_the_final_observation_and_resets(standin_scene):
    pool = Pool(standin_scene, 2, horizon=6)
    pool.reset(standin_scene.placements[:2])
    pool.step(random_chunks(2, 0))
    result = pool.step(random_chunks(2, 0), replacements=standin_scene.placements[5:7])
    assert result.truncated.all() and not result.terminated.any()
    assert (result.steps == 2).all()
    assert (result.final_observation.step == 6).all() and (result.observation.step == 0).all()
    np.testing.assert_array_equal(result.final_observation.physics, result.states[:, 1])
    fresh = Pool(standin_scene, 2).reset(standin_scene.placements[5:7])
    np.testing.assert_array_equal(result.observation.physics, fresh.physics)
    pool.close()


def test_inactive_environments_stand_still(standin_scene):
    pool = Pool(standin_scene, 2)
    before = pool.reset(standin_scene.placements[:2]).physics
    result = pool.step(random_chunks(2, 0), active=np.array([False, True]))
    assert result.steps.tolist() == [0, 4]
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
def test_bad_actions_are_refused(standin_scene, chunks, message):
    pool = Pool(standin_scene, 2)
    pool.reset(standin_scene.placements[:2])
    with pytest.raises(ValueError, match=message):
        pool.step(chunks)
    pool.close()


def test_the_clean_demonstrator_succeeds_and_its_actions_replay(standin_scene):
    trials = make_trials(3, 50, seed=0)
    demonstrator = Demonstrator(standin_scene, clean=True)
    [episodes] = run_episodes(standin_scene, demonstrator, trials, split="heldout", source="scripted", width=3)
    assert all(episode.success for episode in episodes)
    episode = episodes[1]
    assert episode.rewards.sum() == episode.rewards[-1] == 1
    pool = Pool(standin_scene, 1, mode="exact")
    pool.reset(episode.initial_state[None])
    for action in episode.actions:
        result = pool.step(action[None, None])
    assert result.terminated.all()
    np.testing.assert_array_equal(result.final_observation.physics[0], episode.states[-1])
    pool.close()


def test_styles_differ_and_come_from_the_seed():
    drawn = [draw_style(np.random.default_rng(seed)) for seed in range(40)]
    sides = {int(np.sign(style.detour[1])) for style in drawn}
    assert sides == {-1, 0, 1}
    assert any(style.pauses.any() for style in drawn)
    again = draw_style(np.random.default_rng(7))
    assert again.approach_height == drawn[7].approach_height
    assert len(plan(clean_style())) < max(len(plan(style)) for style in drawn)
