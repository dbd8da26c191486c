import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dppo import cases, config, in_both, load, near

from rlgen.configs.schema import PPOConfig
from rlgen.rl.train_state import _rate, cosine


@pytest.mark.parametrize("case", cases("06_rl_utils", "seq"))
def test_every_cycle_matches_golden(case):
    golden = load("06_rl_utils").below(case)
    numbers, expected = config(golden, "args"), golden["seq"]
    warmup, length, peak = numbers["warmup_steps"], numbers["first_cycle_steps"], numbers["max_lr"]
    # The first entry there is the rate before any step, which is the lowest whatever the warm-up.
    assert expected[0] == numbers["min_lr"]
    start = 0
    while start < len(expected):
        # There a cycle ends in the next one, which may be longer and lower; here there is one.
        steps = np.arange(start == 0, min(length, len(expected) - start))
        rate = jax.vmap(cosine(peak, numbers["min_lr"], length, warmup))
        single, exact = in_both(rate, steps)
        near(exact, expected[start + steps], 1e-12, relative=True)
        near(single, exact, 1e-6, relative=True)
        start, length = start + length, int((length - warmup) * numbers["cycle_mult"]) + warmup
        peak *= numbers["gamma"]


def test_cosine_by_hand():
    rate = cosine(1.0, 0.1, steps=12, warmup=2)
    ours = [float(rate(jnp.asarray(step))) for step in (0, 1, 2, 7, 12, 40)]
    np.testing.assert_allclose(ours, [0.1, 0.55, 1.0, 0.55, 0.1, 0.1], atol=1e-6)


def test_rates_begin_anew_with_every_round():
    rate = _rate(PPOConfig(), 1.0, [4, 6, 6])
    ours = [float(rate(jnp.asarray(step))) for step in range(17)]
    once, later = cosine(1.0, 0.1, steps=4), cosine(1.0, 0.1, steps=6)
    expected = [float(once(jnp.asarray(step))) for step in range(4)]
    expected += 2 * [float(later(jnp.asarray(step))) for step in range(6)]
    np.testing.assert_allclose(ours, [*expected, 0.1], rtol=1e-6)
    assert ours[0] == ours[4] == ours[10] == 1.0
    constant = _rate(PPOConfig(schedule="constant"), 1.0, [4, 6])
    assert float(constant(jnp.asarray(9))) == 1.0
