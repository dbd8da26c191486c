import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlgen.configs.schema import CriticConfig
from rlgen.core.types import ImageObservation
from rlgen.policies.critic import Critic
from rlgen.policies.normalizer import fit_normalizer


def test_it_learns_a_value_of_what_it_reads():
    random = np.random.default_rng(0)
    features = jnp.asarray(random.normal(size=(128, 2)), jnp.float32)
    target = jnp.tanh(features[:, 0])
    critic = Critic(CriticConfig(widths=(32, 32, 32)), 2)
    start = critic.init(jax.random.key(0))
    optimizer = optax.adam(1e-2)

    def loss(net):
        return jnp.mean(jnp.square(critic.value(net, features) - target))

    @jax.jit
    def train(net):
        def step(carry, _):
            net, opt_state = carry
            updates, opt_state = optimizer.update(jax.grad(loss)(net), opt_state)
            return (optax.apply_updates(net, updates), opt_state), None

        return jax.lax.scan(step, (net, optimizer.init(net)), length=200)[0][0]

    assert loss(train(start)) < 0.01 < loss(start)


def test_it_reads_features_without_moving_the_encoder_or_the_physics_state():
    random = np.random.default_rng(0)
    vector = random.normal(40.0, 3.0, (16, 5)).astype(np.float32)
    params = {"normalizer": fit_normalizer(vector, vector[:, :2])}
    observation = ImageObservation(images=np.zeros((16, 1, 4, 4, 3), np.uint8), vector=vector)
    features = jnp.asarray(random.normal(size=(16, 3)), jnp.float32)
    by_features, privileged = Critic(CriticConfig(), 3), Critic(CriticConfig(privileged=True), 5)
    np.testing.assert_array_equal(by_features.inputs(params, observation, features), features)
    np.testing.assert_allclose(privileged.inputs(params, observation, features).std(axis=0), 1, rtol=1e-4)
    for critic in (by_features, privileged):
        slope = jax.grad(lambda features, critic=critic: critic.inputs(params, observation, features).sum())(features)
        assert not np.abs(slope).max()
