"""Rollouts: chunks with exploration in a pool, what the critic says of them, and where the time goes."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rlgen.configs.schema import PPOConfig
from rlgen.core.types import Observation
from rlgen.libero.envs.image_observer import ImageObserver, Observe
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.policies.base import Observed, Params, Policy, PolicySample
from rlgen.policies.critic import Critic
from rlgen.rl.numerics import check_finite
from rlgen.rl.train_state import PPOState, policy_params

# Observations encoded at a time where nothing is differentiated; more only need more memory.
ENCODED = 128


@dataclass(frozen=True)
class Rollout:
    """T chunks of N environments, as they were played; arrays are `[T, N, ...]`.

    Attributes:
      observation: vectors, or sights as they were shown, shifted and in bytes.
      value: of each observation.
      next_value: of the observation that the chunk led to; where an episode ended, of its final one.
      steps: control steps of each chunk.
      seconds: what took how long.
    """

    observation: Observed
    chain: Float[np.ndarray, "T N K+1 H A"]
    log_prob: Float[np.ndarray, "T N K H A"]
    value: Float[np.ndarray, "T N"]
    next_value: Float[np.ndarray, "T N"]
    reward: Float[np.ndarray, "T N"]
    terminated: Bool[np.ndarray, "T N"]
    truncated: Bool[np.ndarray, "T N"]
    steps: Int[np.ndarray, "T N"]
    seconds: dict[str, float]

    @property
    def control_steps(self) -> int:
        """Control steps in all."""
        return int(self.steps.sum())


@dataclass(frozen=True)
class Player:
    """What acts and judges in a pool.

    Attributes:
      sample: from a chunk's number and what is seen: the sample, values, and what was seen, shifted.
      value: of what is seen.
    """

    sample: Callable[[int, Observed], tuple[PolicySample, Array, Observed]]
    value: Callable[[Observed], Array]


@dataclass
class Clock:
    """Adds up seconds by name."""

    seconds: dict[str, float] = field(default_factory=lambda: {"environment": 0.0, "drawing": 0.0, "sampler": 0.0})

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


def collect(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    state: PPOState,
    pool: VectorEnv,
    look: Observe,
    seed: int,
    on_chunk: Callable[[int], None] | None = None,
) -> Rollout:
    """Plays `config.chunks` chunks in every environment from new initial states, with exploration.

    Raises:
      Broken: the policy or the critic says what is not finite.
    """
    iteration = int(state.iteration)
    key, params = jax.random.fold_in(state.key, iteration), policy_params(state)
    # A shift is drawn once, for acting and for the update alike: the ratio before the first step is 1.
    shift = config.shift if policy.encodes else 0

    def sample(number: int, seen: Observed):
        return _sample(policy, critic, shift, params, state.critic, jax.random.fold_in(key, number), seen)

    player = Player(sample, partial(_value, policy, critic, params, state.critic))
    return play(player, config, pool, look, [np.random.default_rng((seed, iteration))], on_chunk)


def play(
    player: Player,
    config: PPOConfig,
    pool: VectorEnv,
    look: Observe,
    randoms: Sequence[np.random.Generator],
    on_chunk: Callable[[int], None] | None = None,
) -> Rollout:
    """Plays; the pool's rows are shared out evenly among `randoms`, which draw their initial states."""
    clock, rows = Clock(), []
    with clock("environment"):
        observation = pool.reset(_draw(pool, randoms))
    with clock("drawing"):
        seen = look(observation)
    for number in range(config.chunks):
        with clock("sampler"):
            sample, value, shown = jax.tree.map(np.asarray, player.sample(number, seen))
            check_finite(sampled_actions=sample.chunk, value=value)
        with clock("environment"):
            result = pool.step(sample.chunk[:, : config.executed], replacements=_draw(pool, randoms))
        ended = result.terminated | result.truncated
        with clock("drawing"):
            seen = look(result.observation)
            final = _look_back(look, seen, result.final_observation, ended)
        with clock("sampler"):
            last = number + 1 == config.chunks
            # Elsewhere it is the value that the next chunk begins with.
            next_value = np.asarray(player.value(final)) if last or ended.any() else np.full_like(value, np.nan)
        outcome = (result.reward, result.terminated, result.truncated, result.steps)
        rows.append((shown, sample.chain, sample.log_prob, value, next_value, *outcome))
        if on_chunk is not None:
            on_chunk(number + 1)
    columns = [jax.tree.map(lambda *parts: np.stack(parts), *column) for column in zip(*rows, strict=True)]
    shown, chain, log_prob, value, next_value, reward, terminated, truncated, steps = columns
    going_on = ~(terminated | truncated)[:-1]
    next_value[:-1] = np.where(going_on, value[1:], next_value[:-1])
    check_finite(reward=reward, value=next_value)
    arrays = (shown, chain, log_prob, value, next_value, reward, terminated, truncated, steps)
    return Rollout(*arrays, clock.seconds)


def _look_back(look: Observe, seen: Observed, final: Observation, ended: Bool[np.ndarray, " N"]) -> Observed:
    """What the final observations look like; only where an episode ended they are not what is seen now."""
    if isinstance(look, ImageObserver):
        return look.again(seen, final, np.flatnonzero(ended))
    return look(final)


def _draw(pool: VectorEnv, randoms: Sequence[np.random.Generator]) -> Float[np.ndarray, "N D"]:
    """Initial states for training, each from its own scene's placements."""
    each = pool.count // len(randoms)
    blocks = []
    for number, random in enumerate(randoms):
        placements = pool.scenes[number * each].placements
        blocks.append(placements[random.integers(0, len(placements), each)])
    if len(blocks) == 1:
        return blocks[0]
    states = np.zeros((pool.count, max(block.shape[1] for block in blocks)))
    for number, block in enumerate(blocks):
        states[number * each : (number + 1) * each, : block.shape[1]] = block
    return states


def encode_in_parts(policy: Policy, params: Params, observation: Observed) -> Array:
    """Codes of many observations, `ENCODED` at a time where encoding is dear."""
    if not policy.encodes:
        return policy.encode(params, observation)

    def one(row: Observed) -> Array:
        return policy.encode(params, jax.tree.map(lambda array: array[None], row))[0]

    return jax.lax.map(one, jax.tree.map(jnp.asarray, observation), batch_size=ENCODED)


def sample_and_judge(
    policy: Policy, critic: Critic, shift: int, params: Params, values: Any, key: PRNGKeyArray, seen: Observed
) -> tuple[PolicySample, Float[Array, " N"], Observed]:
    """A chunk for each row, the value of what is seen, and that with its pictures shifted; encoded once."""
    if policy.encodes:
        seen = policy.augment(jax.random.fold_in(key, 1), seen, shift)
    code = encode_in_parts(policy, params, seen)
    return policy.sample_from(params, key, code), critic.value(values, critic.inputs(params, seen, code)), seen


def judge(policy: Policy, critic: Critic, params: Params, values: Any, seen: Observed) -> Float[Array, " N"]:
    """The value of what is seen."""
    return critic.value(values, critic.inputs(params, seen, encode_in_parts(policy, params, seen)))


_sample = jax.jit(sample_and_judge, static_argnums=(0, 1, 2))
_value = jax.jit(judge, static_argnums=(0, 1))
