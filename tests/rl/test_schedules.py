import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.goldens import below, cases, config, load

from rlgen.rl.train_state import cosine


@pytest.mark.parametrize("case", cases("06_rl_utils", "seq"))
def test_a_cycle_matches_golden(case):
    golden = load("06_rl_utils")
    numbers, expected = config(golden, f"{case}/args"), below(golden, case)["seq"]
    cycle = min(numbers["first_cycle_steps"], len(expected))
    rate = cosine(numbers["max_lr"], numbers["min_lr"], numbers["first_cycle_steps"], numbers["warmup_steps"])
    # The first entry there is the rate before any step, which is the lowest whatever the warm-up.
    ours = [float(rate(jnp.asarray(step))) for step in range(1, cycle)]
    np.testing.assert_allclose(ours, expected[1:cycle], rtol=2e-5, atol=1e-6 * numbers["max_lr"])


def test_cosine_by_hand():
    rate = cosine(1.0, 0.1, steps=12, warmup=2)
    ours = [float(rate(jnp.asarray(step))) for step in (0, 1, 2, 7, 12, 40)]
    np.testing.assert_allclose(ours, [0.1, 0.55, 1.0, 0.55, 0.1, 0.1], atol=1e-6)
