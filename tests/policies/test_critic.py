import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlgen.policies.critic import Critic
from rlgen.policies.normalizer import fit_normalizer


def test_it_learns_a_value_from_raw_observations():
    random = np.random.default_rng(0)
    observation = jnp.asarray(random.normal(40.0, 3.0, (128, 2)), jnp.float32)
    target = jnp.tanh((observation[:, 0] - 40) / 3)
    critic = Critic(2, widths=(32, 32, 32))
    params = critic.init(jax.random.key(0), fit_normalizer(observation, observation[:, :1]))
    optimizer = optax.adam(1e-2)

    def loss(net):
        return jnp.mean(jnp.square(critic.value({**params, "net": net}, observation) - target))

    @jax.jit
    def train(net):
        def step(carry, _):
            net, memory = carry
            updates, memory = optimizer.update(jax.grad(loss)(net), memory)
            return (optax.apply_updates(net, updates), memory), None

        return jax.lax.scan(step, (net, optimizer.init(net)), length=200)[0][0]

    assert loss(train(params["net"])) < 0.01 < loss(params["net"])
