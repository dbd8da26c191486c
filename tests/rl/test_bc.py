import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.configs.schema import BCConfig, DiffusionConfig, PolicyConfig
from rlgen.core.errors import UserError
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.rl import bc

POLICY = DiffusionPolicy(
    PolicyConfig(
        horizon=4,
        network="mlp",
        mlp_widths=(64, 64, 64),
        diffusion=DiffusionConfig(train_timesteps=20, eta_act=0.0),
    ),
    observation_size=2,
    action_size=2,
)
CONFIG = BCConfig(optimizer_steps=600, batch=64, warmup=10, learning_rate=2e-3)


def data() -> bc.BCData:
    """Episodes whose action is minus half of what is seen."""
    random = np.random.default_rng(0)
    observations = [random.uniform(-1, 1, (30, 2)) for _ in range(8)]
    return bc.chunk_data(observations, [np.repeat(-seen[:1], 30, axis=0) / 2 for seen in observations], 4)


def constant_data() -> bc.BCData:
    """Every chunk repeats minus half of what is seen."""
    observation = np.random.default_rng(0).uniform(-1, 1, (256, 2)).astype(np.float32)
    return bc.BCData(observation=observation, chunk=np.repeat(-observation[:, None] / 2, 4, axis=1))


def test_chunks_start_everywhere_and_repeat_the_last_action():
    seen, done = np.arange(6.0).reshape(3, 2), np.array([[1.0], [2.0], [3.0]])
    chunks = bc.chunk_data([seen, seen + 10], [done, done + 10], 2)
    np.testing.assert_array_equal(chunks.observation, np.concatenate([seen, seen + 10]))
    np.testing.assert_array_equal(chunks.chunk[..., 0], [[1, 2], [2, 3], [3, 3], [11, 12], [12, 13], [13, 13]])
    with pytest.raises(UserError, match="3 observations and 2 actions"):
        bc.chunk_data([seen], [done[:2]], 2)
    with pytest.raises(UserError, match="0 demonstrations"):
        bc.chunk_data([], [], 2)


def begin(examples: bc.BCData) -> bc.BCState:
    return jax.jit(lambda key: bc.init_state(key, POLICY, CONFIG, examples))(jax.random.key(0))


def test_it_learns_what_was_shown():
    examples = constant_data()
    state = begin(examples)
    state, metrics = bc.train_steps(POLICY, CONFIG, state, examples, CONFIG.optimizer_steps)
    seen = jnp.array([[0.5, -0.5], [-0.8, 0.2]])
    chunk = jax.jit(POLICY.act)(bc.policy_params(state), None, seen)
    np.testing.assert_allclose(chunk, np.repeat(-seen[:, None] / 2, 4, axis=1), atol=0.1)
    assert metrics["loss"] < 1


def test_stopped_and_resumed_gives_the_same_bits():
    examples = data()
    start = begin(examples)
    unbroken, _ = bc.train_steps(POLICY, CONFIG, start, examples, 4)
    half, _ = bc.train_steps(POLICY, CONFIG, start, examples, 2)
    leaves, shape = jax.tree.flatten(half)
    stored = [np.asarray(jax.random.key_data(leaf)) if is_key(leaf) else np.asarray(leaf) for leaf in leaves]
    restored = [
        jax.random.wrap_key_data(array) if is_key(leaf) else jnp.asarray(array)
        for array, leaf in zip(stored, leaves, strict=True)
    ]
    resumed, _ = bc.train_steps(POLICY, CONFIG, jax.tree.unflatten(shape, restored), examples, 2)
    for ours, theirs in zip(jax.tree.leaves(resumed), jax.tree.leaves(unbroken), strict=True):
        if is_key(ours):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        np.testing.assert_array_equal(ours, theirs)


def is_key(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def test_the_average_lags_behind_and_the_normalizer_stays():
    examples = data()
    start = begin(examples)
    state, _ = bc.train_steps(POLICY, CONFIG, start, examples, 2)
    jax.tree.map(np.testing.assert_array_equal, state.normalizer, start.normalizer)
    # After the first step the average is a tenth of the start, after the second two elevenths of that.
    one, _ = bc.train_steps(POLICY, CONFIG, start, examples, 1)
    want = jax.tree.map(lambda first, net: first * 2 / 11 + net * 9 / 11, one.ema, state.net)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-6), state.ema, want)
