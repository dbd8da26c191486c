"""Four experts in one program are the four alone, to rounding."""

import jax
import numpy as np
from rl.test_ppo import CONFIG, CRITIC, DIFFUSION, ENVIRONMENTS, copy, fresh_state, run
from rl.worlds import PointEnv

from rlgen.rl.population import iterate_population, stack, unstack

SEEDS = (5, 6, 7, 8)


def test_four_experts_are_four_runs():
    policy = DIFFUSION
    states = [
        fresh_state(policy, CONFIG, jax.random.PRNGKey(10 + seed), jax.random.PRNGKey(seed))
        for seed in range(len(SEEDS))
    ]
    together, env = copy(stack(states)), PointEnv(len(SEEDS) * ENVIRONMENTS)
    for _ in range(2):
        together, metrics_of = iterate_population(policy, CRITIC, CONFIG, together, env, SEEDS)
    for expert, (state, seed) in enumerate(zip(states, SEEDS, strict=True)):
        alone, metrics = run(state, 2, policy=policy, seed=seed)
        found = unstack(together)[expert]
        for name in ("success", "control_steps", "epochs"):
            assert metrics_of[expert][name] == metrics[name]
        for name in ("net", "critic", "scaler"):
            pairs = zip(*map(jax.tree.leaves, (getattr(found, name), getattr(alone, name))), strict=True)
            for ours, theirs in pairs:
                np.testing.assert_allclose(ours, theirs, atol=3e-5, rtol=1e-4, err_msg=name)
        assert int(found.iteration) == 2
