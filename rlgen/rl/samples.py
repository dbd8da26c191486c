"""From a rollout to what the update learns from: scaled rewards and advantages."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, PRNGKeyArray

from rlgen.config import PPOConfig
from rlgen.policies.policy import Observed, Policy
from rlgen.rl.collect import Rollout
from rlgen.rl.health import check_finite
from rlgen.rl.returns import gae
from rlgen.rl.scaling import scale_rewards
from rlgen.rl.state import PPOState, policy_params


@struct.dataclass
class Samples:
    """M chunks for the update.

    Attributes:
      advantage: not yet normalised.
      returns: what the critic is to predict, in scaled reward.
      value: what it predicted.
      teacher: chains of the cloned policy, where there is a loss towards it.
    """

    observation: Observed
    chain: Float[Array, "M K+1 H A"]
    log_prob: Float[Array, "M K H A"]
    advantage: Float[Array, " M"]
    returns: Float[Array, " M"]
    value: Float[Array, " M"]
    teacher: Float[Array, "M K+1 H A"] | None = None


def prepare(policy: Policy, config: PPOConfig, state: PPOState, rollout: Rollout) -> tuple[PPOState, Samples]:
    """Scales rewards and estimates advantages; what was cut off is worth its final observation's value.

    Raises:
      Broken: one of them is not finite.
    """
    first = np.ones(rollout.reward.shape, bool)
    first[1:] = (rollout.terminated | rollout.truncated)[:-1]
    scaler, reward = scale_rewards(state.scaler, jnp.asarray(rollout.reward, jnp.float32), first, config.gamma)
    advantage, returns = gae(
        reward,
        rollout.value,
        rollout.next_value,
        rollout.terminated,
        rollout.truncated,
        config.gamma,
        config.gae_lambda,
    )
    check_finite(scaled_reward=reward, advantage=advantage, returns=returns)

    def flat(array: Array) -> Array:
        array = np.asarray(array)
        # Pictures stay bytes; anything else is single precision.
        array = array if array.dtype == np.uint8 else array.astype(np.float32)
        return jnp.asarray(array.reshape(-1, *array.shape[2:]))

    arrays = (rollout.observation, rollout.chain, rollout.log_prob, advantage, returns, rollout.value)
    samples = Samples(*jax.tree.map(flat, arrays))
    if config.bc_weight > 0:
        key = jax.random.fold_in(jax.random.fold_in(state.key, 2), state.iteration)
        samples = samples.replace(teacher=_teach(policy, state, key, samples.observation))
    return state.replace(scaler=scaler), samples


@partial(jax.jit, static_argnames="policy")
def _teach(policy: Policy, state: PPOState, key: PRNGKeyArray, observation: Observed) -> Float[Array, "M K+1 H A"]:
    """A chain of the cloned policy for each observation."""
    params = {**policy_params(state), "net": state.base}

    def one(inputs: tuple[Observed, PRNGKeyArray]) -> Array:
        row, key = inputs
        return policy.sample(params, key, jax.tree.map(lambda array: array[None], row)).chain[0]

    count = jax.tree.leaves(observation)[0].shape[0]
    return jax.lax.map(one, (observation, jax.random.split(key, count)), batch_size=min(count, 256))
