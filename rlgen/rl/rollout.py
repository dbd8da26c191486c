"""Rollouts for PPO: chunks with exploration in a vector environment, values of what was observed, and timings.

Environments can be split into groups that take turns: while one group is stepped and rendered by threads, the chunks of
another are sampled. What is drawn for whom does not depend on timing, only on the number of groups. On several hosts
each has a part of every group; what is drawn for an environment depends on its number among all of them.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from rlgen.configs.schema import PPOConfig
from rlgen.core.arrays import AnyArray
from rlgen.core.types import FixturePoses, Observation
from rlgen.libero.envs.image_observer import ImageObserver, Observe
from rlgen.libero.envs.vector_env import ChunkResult
from rlgen.policies.base import Policy, PolicyObservation, PolicySample
from rlgen.policies.critic import Critic
from rlgen.rl.numerics import check_finite
from rlgen.rl.sampling import ResettableScene, RolloutFunctions, draw_fixtures, draw_reset_states, rollout_functions
from rlgen.rl.train_state import PPOState
from rlgen.training.processes import exchange
from rlgen.training.sharding import row_indices

# What the seconds of a rollout are spent on.
PARTS = ("environment", "rendering", "sampler")


@runtime_checkable
class RolloutEnv(Protocol):
    """A vector environment as far as rollouts use it; `libero.envs.vector_env.VectorEnv` is one."""

    @property
    def num_envs(self) -> int:
        """N, the number of environments."""
        ...

    @property
    def scenes(self) -> Sequence[ResettableScene]:
        """The scene of each environment."""
        ...

    def reset(
        self, initial_states: Float[np.ndarray, "N D"], fixtures: Sequence[FixturePoses | None] | None = None, /
    ) -> Observation:
        """Starts an episode in every environment, with its fixtures where they are to stand."""
        ...

    def step(
        self, chunks: Float[np.ndarray, "N H 7"], /, *, reset_states: Float[np.ndarray, "N D"] | None = None
    ) -> ChunkResult:
        """Runs one chunk; where an episode ends in it, the next one starts from its row of `reset_states`."""
        ...

    def split(self, parts: int, /) -> Sequence["RolloutEnv"]:
        """Returns vector environments over equal, contiguous parts of the environments; they may run side by side."""
        ...


class Transition(NamedTuple):
    """One chunk of N environments; stacked over T chunks, a rollout.

    Attributes:
      observation: vectors, or image observations as the policy was given them, shifted and in bytes.
      chain: points of the denoising chain, noisiest first.
      log_prob: log density of each transition of the chain, for each entry.
      value: of the observation.
      next_value: of the observation that the chunk led to; where an episode ended, of its final one.
      reward: sum over the chunk.
      terminated: the episode ended in the chunk.
      truncated: the episode was cut off after the chunk.
      failed: it was, because it could not be simulated.
      control_steps: executed control steps.
    """

    observation: PolicyObservation
    chain: Float[AnyArray, "*T N K+1 H A"]
    log_prob: Float[AnyArray, "*T N K H A"]
    value: Float[AnyArray, "*T N"]
    next_value: Float[AnyArray, "*T N"]
    reward: Float[AnyArray, "*T N"]
    terminated: Bool[AnyArray, "*T N"]
    truncated: Bool[AnyArray, "*T N"]
    failed: Bool[AnyArray, "*T N"]
    control_steps: Int[AnyArray, "*T N"]


def transition(
    sample: PolicySample,
    observation: PolicyObservation,
    value: Float[np.ndarray, " N"],
    next_value: Float[np.ndarray, " N"],
    result: ChunkResult,
) -> Transition:
    """Returns the transition of a chunk; arguments as of `Transition`, and what sampler and environments returned."""
    outcome = (result.reward, result.terminated, result.truncated, result.failed, result.control_steps)
    return Transition(observation, sample.chain, sample.log_prob, value, next_value, *outcome)


class EpisodeEnds(NamedTuple):
    """The part of transitions that metrics are made of; fields as of `Transition`."""

    terminated: Bool[AnyArray, "T N"]
    truncated: Bool[AnyArray, "T N"]
    failed: Bool[AnyArray, "T N"]
    control_steps: Int[AnyArray, "T N"]


@dataclass(frozen=True)
class Rollout:
    """T chunks of N environments.

    Attributes:
      transitions: arrays `[T, N, ...]`; of several processes, each has `observation`, `chain` and `log_prob` of its own
        environments, `[T, n, ...]`, and everything else of all.
      seconds: spent on environments and rendering, added up over groups, and on the sampler.
      environments: which of the N this process has, as `environments_here` says.
      has_failures: an episode failed, of whichever expert.
    """

    transitions: Transition
    seconds: dict[str, float]
    environments: Int[np.ndarray, " n"]
    has_failures: bool

    @property
    def ends(self) -> EpisodeEnds:
        """The ends of episodes, and control steps, of all environments."""
        steps = self.transitions
        return EpisodeEnds(steps.terminated, steps.truncated, steps.failed, steps.control_steps)


def collect(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    state: PPOState,
    env: RolloutEnv,
    observe: Observe,
    seed: int,
    on_chunk: Callable[[int], None] | None = None,
    mesh: Mesh | None = None,
) -> Rollout:
    """Collects `config.chunks` chunks in every environment from new reset states, with exploration.

    Args:
      policy: the policy.
      critic: the critic.
      config: of the training.
      state: of the training; its iteration decides what is drawn.
      env: the environments of this process, all N where there is one process.
      observe: makes the policy's observations.
      seed: of the reset states.
      on_chunk: called after every chunk with how many there have been.
      mesh: devices over which the environments are divided.

    Raises:
      NonFiniteError: an output of policy or critic is not finite.
    """
    functions = rollout_functions(policy, critic, config, state, mesh)
    generator = np.random.default_rng((seed, int(state.iteration)))
    return run_chunks(functions, config, env, observe, generator, on_chunk, mesh)


def run_chunks(
    functions: RolloutFunctions,
    config: PPOConfig,
    env: RolloutEnv,
    observe: Observe,
    generator: np.random.Generator,
    on_chunk: Callable[[int], None] | None = None,
    mesh: Mesh | None = None,
) -> Rollout:
    """Runs `config.chunks` chunks; an episode that ends is followed by a new one.

    Args:
      functions: of policy and critic.
      config: of the training.
      env: the environments of this process, all N where there is one process.
      observe: makes the policy's observations.
      generator: of reset states.
      on_chunk: called after every chunk with how many there have been.
      mesh: devices over which the environments are divided.
    """
    count = env.num_envs if mesh is None else config.environments
    here = environments_here(config, count, mesh)
    draws = draw_reset_states(env.scenes[0].training_states, generator, config.chunks + 1, here, count)
    fixtures = draw_fixtures(env.scenes[0], generator, here, count)
    groups = _split(env, observe, config)
    with ThreadPoolExecutor(len(groups)) as threads:
        turns = [_turns(group, functions, config, draws, fixtures[group.rows], threads) for group in groups]
        waiting = [next(turn) for turn in turns]
        for chunk in range(config.chunks + 1):
            # While one group's turn is taken here, threads step and render the others.
            waiting = [turn.send(future.result()) for turn, future in zip(turns, waiting, strict=True)]
            if chunk and on_chunk is not None:
                on_chunk(chunk)
    return join_groups(groups, here)


def join_groups(groups: Sequence["EnvironmentGroup"], here: Int[np.ndarray, " n"]) -> Rollout:
    """Returns the rollout of groups that have run all their chunks, whose environments are `here` among all."""
    by_group = [jax.tree.map(lambda *parts: np.stack(parts), *group.transitions) for group in groups]
    stacked = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *by_group)
    same_episode = ~(stacked.terminated | stacked.truncated)[:-1]
    stacked.next_value[:-1] = np.where(same_episode, stacked.value[1:], stacked.next_value[:-1])
    check_finite(reward=stacked.reward, value=stacked.next_value)
    seconds = {name: sum(group.seconds[name] for group in groups) for name in PARTS}
    everywhere = _with_others(stacked, here)
    return Rollout(everywhere, seconds, here, bool(everywhere.failed.any()))


def environments_here(config: PPOConfig, count: int, mesh: Mesh | None) -> Int[np.ndarray, " n"]:
    """Returns which of all environments are on this process: of every group the rows that its devices hold.

    Args:
      config: of the training.
      count: N, of all environments.
      mesh: devices over which they are divided.
    """
    size = count // config.groups
    return np.concatenate([group * size + row_indices(mesh, size) for group in range(config.groups)])


def _with_others(steps: Transition, here: Int[np.ndarray, " n"]) -> Transition:
    """Returns transitions of this process's environments with the small arrays of all environments."""
    if jax.process_count() == 1:
        return steps
    everywhere = exchange(here)

    def of_all(array: np.ndarray) -> np.ndarray:
        columns = exchange(array.swapaxes(0, 1))
        gathered = np.empty_like(columns)
        gathered[everywhere] = columns
        return gathered.swapaxes(0, 1)

    names = ("value", "next_value", "reward", "terminated", "truncated", "failed", "control_steps")
    return steps._replace(**{name: of_all(getattr(steps, name)) for name in names})


@dataclass
class EnvironmentGroup:
    """Environments that are stepped and rendered together, and what they have done in this rollout."""

    index: int
    rows: slice
    env: RolloutEnv
    observe: Observe
    transitions: list[Transition] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Measures the time spent in the `with` block."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def start(
        self, initial_states: Float[np.ndarray, "n D"], fixtures: Sequence[FixturePoses | None]
    ) -> PolicyObservation:
        """Resets every environment with its fixtures, which stay for the rollout, and returns what they observe."""
        with self.clock("environment"):
            raw = self.env.reset(initial_states, fixtures)
        with self.clock("rendering"):
            return self.observe(raw)

    def step(
        self, chunks: Float[np.ndarray, "n H A"], reset_states: Float[np.ndarray, "n D"]
    ) -> tuple[ChunkResult, PolicyObservation, PolicyObservation]:
        """Runs a chunk; returns its result, what is observed after it, and what was observed before any reset."""
        with self.clock("environment"):
            result = self.env.step(chunks, reset_states=reset_states)
        with self.clock("rendering"):
            observation = self.observe(result.observation)
            ended = result.terminated | result.truncated
            return result, observation, _observe_final(self.observe, observation, result.final_observation, ended)


def _split(env: RolloutEnv, observe: Observe, config: PPOConfig) -> list[EnvironmentGroup]:
    """Returns `config.groups` groups of equally many environments."""
    count = config.groups
    if count == 1:
        return [EnvironmentGroup(0, slice(None), env, observe)]
    size = env.num_envs // count
    observers = observe.split(count) if isinstance(observe, ImageObserver) else [observe] * count
    parts = zip(env.split(count), observers, strict=True)
    return [EnvironmentGroup(i, slice(i * size, (i + 1) * size), *part) for i, part in enumerate(parts)]


def _turns(
    group: EnvironmentGroup,
    functions: RolloutFunctions,
    config: PPOConfig,
    draws: Sequence[Float[np.ndarray, "N D"]],
    fixtures: Sequence[FixturePoses | None],
    threads: ThreadPoolExecutor,
) -> Generator[Any, Any, None]:
    """Takes a group through a rollout; yields what a thread is at, and is sent its result."""
    observation = yield threads.submit(group.start, draws[0][group.rows], fixtures)
    for chunk in range(config.chunks):
        with group.clock("sampler"):
            call = group.index * config.chunks + chunk
            sample, value, shifted = jax.tree.map(np.asarray, functions.sample(call, observation))
            check_finite(sampled_actions=sample.chunk, value=value)
        actions = sample.chunk[:, : config.action_steps]
        result, observation, final = yield threads.submit(group.step, actions, draws[chunk + 1][group.rows])
        with group.clock("sampler"):
            # Elsewhere it is the value that the next chunk begins with.
            needed = chunk + 1 == config.chunks or (result.terminated | result.truncated).any()
            next_value = np.asarray(functions.value(final)) if needed else np.full_like(value, np.nan)
        group.transitions.append(transition(sample, shifted, value, next_value, result))
    yield None


def _observe_final(
    observe: Observe, observation: PolicyObservation, final: Observation, ended: Bool[np.ndarray, " N"]
) -> PolicyObservation:
    """Returns the final observations; they differ from the present ones only where an episode ended."""
    if isinstance(observe, ImageObserver):
        return observe.observe_rows(observation, final, np.flatnonzero(ended))
    return observe(final)
