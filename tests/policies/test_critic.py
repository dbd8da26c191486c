import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlgen.policies.base import Sight
from rlgen.policies.critic import Critic
from rlgen.policies.normalizer import fit_normalizer


def test_it_learns_a_value_of_what_it_reads():
    random = np.random.default_rng(0)
    code = jnp.asarray(random.normal(size=(128, 2)), jnp.float32)
    target = jnp.tanh(code[:, 0])
    critic = Critic(2, widths=(32, 32, 32))
    start = critic.init(jax.random.key(0))
    optimizer = optax.adam(1e-2)

    def loss(net):
        return jnp.mean(jnp.square(critic.value(net, code) - target))

    @jax.jit
    def train(net):
        def step(carry, _):
            net, memory = carry
            updates, memory = optimizer.update(jax.grad(loss)(net), memory)
            return (optax.apply_updates(net, updates), memory), None

        return jax.lax.scan(step, (net, optimizer.init(net)), length=200)[0][0]

    assert loss(train(start)) < 0.01 < loss(start)


def test_it_reads_the_code_without_moving_the_encoder_or_the_physics():
    random = np.random.default_rng(0)
    vector = random.normal(40.0, 3.0, (16, 5)).astype(np.float32)
    params = {"normalizer": fit_normalizer(vector, vector[:, :2])}
    sight = Sight(images=np.zeros((16, 1, 4, 4, 3), np.uint8), vector=vector)
    code = jnp.asarray(random.normal(size=(16, 3)), jnp.float32)
    by_code, by_physics = Critic(3), Critic(5, physics=True)
    np.testing.assert_array_equal(by_code.inputs(params, sight, code), code)
    np.testing.assert_allclose(by_physics.inputs(params, sight, code).std(axis=0), 1, rtol=1e-4)
    for critic in (by_code, by_physics):
        slope = jax.grad(lambda code, critic=critic: critic.inputs(params, sight, code).sum())(code)
        assert not np.abs(slope).max()
