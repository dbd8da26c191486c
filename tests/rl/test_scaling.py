import jax.numpy as jnp
import numpy as np
from diffusion.goldens import below, load

from rlgen.rl.train_state import init_scaler, scale_rewards


def test_calls_match_golden():
    golden = below(load("06_rl_utils"), "scaler")
    calls = sorted({key.split("/")[0] for key in golden if key.startswith("call")})
    scaler = init_scaler(len(golden["call0/ret"]))
    start = [scaler.variance, scaler.mean, scaler.count]
    np.testing.assert_allclose(start, golden["init_var_mean_count"], rtol=1e-6)
    for call in calls:
        want = below(golden, call)
        reward, first = jnp.asarray(want["reward"].T, jnp.float32), want["first"].T.astype(bool)
        scaler, scaled = scale_rewards(scaler, reward, first)
        np.testing.assert_allclose(scaled.T, want["out"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scaler.running, want["ret"], rtol=1e-5, atol=1e-6)
        moments = [scaler.variance, scaler.mean, scaler.count]
        np.testing.assert_allclose(moments, want["var_mean_count"], rtol=1e-5, atol=1e-6)


def test_scaled_rewards_have_returns_of_spread_one():
    random = np.random.default_rng(0)
    reward = jnp.asarray(random.normal(0.3, 5.0, (4000, 4)), jnp.float32)
    first = jnp.asarray(random.uniform(size=(4000, 4)) < 0.05)
    _, scaled = scale_rewards(init_scaler(4), reward, first)
    sums, running = [], np.zeros(4)
    for row, begins in zip(np.asarray(scaled), np.asarray(first), strict=True):
        running = row + 0.99 * (1 - begins) * running
        sums.append(running)
    np.testing.assert_allclose(np.std(sums), 1, rtol=0.01)
