"""When PPO ends."""

from dataclasses import replace

import pytest

from rlgen.configs.schema import PPOConfig
from rlgen.core.stats import SuccessRate
from rlgen.data.metrics.score import ScoreSummary
from rlgen.rl.ending import expert_iteration, since_better, why_ended

pytestmark = pytest.mark.unit
CONFIG = PPOConfig(iterations=100, target=0.9, target_low=0.7, plateau=2, min_iterations=30)


def evaluations(*lengths, successes=20, jerk=10.0):
    return [ScoreSummary(SuccessRate(successes, 20), length, jerk, 0.0) for length in lengths]


def ended(config, tests, iteration):
    """Why training ends where its evaluations are ten iterations apart, the last one after `iteration`."""
    count = len(tests)
    return why_ended(config, {iteration - 10 * (count - 1 - row): test for row, test in enumerate(tests)}, iteration)


def test_without_a_plateau_training_ends_at_the_target():
    config = replace(CONFIG, plateau=0, min_iterations=0)
    assert ended(config, evaluations(50.0), 0) == "target"
    # 18 of 20 reaches 90 %, but its interval begins at 69.9 %.
    assert ended(config, evaluations(50.0, successes=18), 0) is None


def test_it_goes_on_while_successes_get_shorter_and_ends_at_the_plateau():
    falling = evaluations(100.0, 90.0, 80.0, 70.0)
    assert ended(CONFIG, falling, 40) is None
    assert ended(CONFIG, falling + evaluations(69.0), 50) is None
    assert ended(CONFIG, falling + evaluations(69.0, 68.5), 60) == "plateau"


def test_smoother_successes_count_as_shorter_ones_do():
    tests = evaluations(50.0, 50.0) + evaluations(50.0, jerk=8.0)
    assert since_better(tests) == 0 and since_better(evaluations(50.0, 50.0, 50.0)) == 2


def test_a_slow_fall_counts_once_it_has_added_up():
    assert since_better(evaluations(100.0, 98.0)) == 1
    assert since_better(evaluations(100.0, 98.0, 96.0)) == 0
    # What is better is the mark for those after it.
    assert since_better(evaluations(100.0, 96.0, 97.5, 95.5)) == 2


def test_short_successes_of_a_policy_below_the_target_are_no_mark_to_beat():
    tests = evaluations(20.0, successes=3) + evaluations(100.0, 90.0)
    assert ended(CONFIG, tests, 40) is None
    assert ended(CONFIG, tests + evaluations(20.0, successes=3), 50) is None


@pytest.mark.parametrize(
    ("iteration", "end"), [(20, None), (30, "plateau"), (100, "iterations")], ids=["floor", "above", "cap"]
)
def test_floor_and_cap(iteration, end):
    assert ended(CONFIG, evaluations(50.0, 50.0, 50.0), iteration) == end


def test_without_a_target_only_the_cap_ends_it():
    config = replace(CONFIG, target=None)
    assert ended(config, evaluations(50.0, 50.0, 50.0, 50.0), 99) is None
    assert ended(config, [], 100) == "iterations"


def test_what_misses_the_target_at_the_end_of_a_round_gets_another_one():
    config = replace(CONFIG, rounds=3)
    missed, reached = evaluations(50.0, successes=10), evaluations(50.0)
    assert [ended(config, missed, iteration) for iteration in (100, 150, 200, 300)] == [
        None,
        None,
        None,
        "iterations",
    ]
    assert ended(config, reached, 100) == ended(config, reached, 200) == "iterations"
    # As within the first round.
    assert ended(config, evaluations(50.0, 50.0, 50.0), 130) == "plateau"
    assert ended(replace(config, target=None), missed, 100) == "iterations"


def test_the_expert_is_the_last_policy_at_the_target_not_before_the_floor():
    good, bad = evaluations(50.0)[0], evaluations(50.0, successes=10)[0]
    assert expert_iteration(CONFIG, {20: good, 30: good, 40: good, 50: bad}) == 40
    assert expert_iteration(CONFIG, {20: good, 30: bad, 40: bad}) is None
    # What was seen at the target needs no other round, though its end misses it.
    config = replace(CONFIG, rounds=2)
    assert why_ended(config, {90: good, 100: bad}, 100) == "iterations"
    assert why_ended(config, {20: good, 100: bad}, 100) is None
    # No end in the middle of a round but where the target was reached just now.
    assert why_ended(replace(config, plateau=0), {40: good}, 45) is None
