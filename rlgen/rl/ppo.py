"""PPO over action chunks: an iteration is collect, advantages, epochs.

The same loop trains diffusion and Gaussian policies, on vectors and on pictures. Every iteration begins with new
episodes, so that a run resumes from its parameters alone.
"""

import time
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from rlgen.config import PPOConfig
from rlgen.libero.pool import Pool
from rlgen.policies.critic import Critic
from rlgen.policies.looking import Look, look_at_vector
from rlgen.policies.policy import Policy
from rlgen.rl.collect import Rollout, collect
from rlgen.rl.health import check_update
from rlgen.rl.samples import prepare
from rlgen.rl.state import PPOState
from rlgen.rl.update import update


def iterate(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    state: PPOState,
    pool: Pool,
    seed: int,
    on_chunk: Callable[[int], None] | None = None,
    look: Look = look_at_vector,
) -> tuple[PPOState, dict[str, float]]:
    """One iteration: play, estimate advantages, update. The state that goes in is used up.

    Args:
      seed: of the initial states; together with the iteration's number it says which are played.
      on_chunk: hears after every chunk how many have been played.
      look: what the policy is shown.

    Returns:
      The state, and the iteration's metrics.

    Raises:
      Broken: something is not finite or far too large; the message says what was the first.
    """
    begin = time.perf_counter()
    rollout = collect(policy, critic, config, state, pool, look, seed, on_chunk)
    start = time.perf_counter()
    state, samples = prepare(policy, config, state, rollout)
    state, metrics = update(policy, critic, config, state, samples)
    metrics = {name: float(value) for name, value in metrics.items()}
    check_update(int(metrics.pop("fault")), int(metrics.pop("fault_minibatch")))
    seconds = rollout.seconds | {"update": time.perf_counter() - start}
    return finish(state, metrics, rollout, seconds, time.perf_counter() - begin)


def finish(
    state: PPOState, metrics: dict[str, float], rollout: Rollout, seconds: dict[str, float], total: float
) -> tuple[PPOState, dict[str, float]]:
    """Counts the iteration, and says where its time went; waiting is what is none of the others."""
    steps = int(state.control_steps) + rollout.control_steps
    state = state.replace(iteration=state.iteration + 1, control_steps=jnp.asarray(steps, jnp.int32))
    seconds = seconds | {"waiting": max(0.0, total - sum(seconds.values()))}
    metrics |= {
        "success": first_episode_success(rollout.terminated, rollout.truncated),
        "control_steps": steps,
        **{f"seconds_{name}": value for name, value in seconds.items()},
    }
    return state, metrics


def first_episode_success(terminated: Bool[np.ndarray, "T N"], truncated: Bool[np.ndarray, "T N"]) -> float:
    """Share of environments whose first episode of the rollout reached the goal; unfinished ones did not.

    Later episodes are left out: a success is short, so that counting all would favour successes.
    """
    ended = terminated | truncated
    first = np.argmax(ended, axis=0)
    columns = np.arange(ended.shape[1])
    return float((ended.any(axis=0) & terminated[first, columns]).mean())
