import jax.numpy as jnp
import numpy as np
from dppo import in_both, load, near

from rlgen.rl.train_state import init_scaler, scale_rewards


def test_calls_match_golden():
    golden = load("06_rl_utils").below("scaler")
    calls = sorted({key.split("/")[0] for key in golden if key.startswith("call")})
    assert len(calls) > 1

    def run(rewards, firsts):
        scaler, out = init_scaler(rewards[0].shape[1]), []
        start = scaler.variance, scaler.mean, scaler.count
        for reward, first in zip(rewards, firsts, strict=True):
            scaler, scaled = scale_rewards(scaler, reward, first)
            moments = jnp.stack([scaler.variance, scaler.mean, scaler.count])
            out.append({"out": scaled.T, "ret": scaler.running, "var_mean_count": moments})
        return jnp.stack(start), out

    rewards = [golden[f"{call}/reward"].T for call in calls]
    firsts = [golden[f"{call}/first"].T.astype(bool) for call in calls]
    (_, single), (start, exact) = in_both(run, rewards, firsts)
    near(start, golden["init_var_mean_count"], 1e-12)
    for call, rounded, precise in zip(calls, single, exact, strict=True):
        for name, ours in precise.items():
            near(ours, golden[f"{call}/{name}"], 1e-12, name, relative=True)
            near(rounded[name], ours, 1e-6, name, relative=True)


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
