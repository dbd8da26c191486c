import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.goldens import below, cases, config, load

from rlgen.rl.train_state import constant, cosine, cosine_restarts


@pytest.mark.parametrize("case", cases("06_rl_utils", "seq"))
def test_restarts_match_golden(case):
    golden = load("06_rl_utils")
    numbers, want = config(golden, f"{case}/args"), below(golden, case)["seq"]
    rate = cosine_restarts(
        numbers["max_lr"],
        numbers["min_lr"],
        numbers["first_cycle_steps"],
        numbers["warmup_steps"],
        numbers["cycle_mult"],
        numbers["gamma"],
        len(want),
    )
    # The first entry there is the rate before any step, which is the lowest whatever the warm-up.
    ours = [float(rate(jnp.asarray(step))) for step in range(1, len(want))]
    np.testing.assert_allclose(ours, want[1:], rtol=2e-5, atol=1e-6 * numbers["max_lr"])


def test_cosine_by_hand():
    rate = cosine(1.0, 0.1, steps=12, warmup=2)
    ours = [float(rate(jnp.asarray(step))) for step in (0, 1, 2, 7, 12, 40)]
    np.testing.assert_allclose(ours, [0.1, 0.55, 1.0, 0.55, 0.1, 0.1], atol=1e-6)
    assert float(constant(3e-4)(jnp.asarray(9))) == pytest.approx(3e-4)
