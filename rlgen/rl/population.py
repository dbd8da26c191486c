"""Many experts in one program: sampler and update mapped over an expert axis, all environments in one rollout.

Every expert has the seeds, environments, noise and minibatches that it has alone, so that its numbers are those of
`ppo.iterate`, to rounding. Each may be at another iteration, and what goes wrong with one ends its iteration alone.
On an accelerator the experts of a device are computed side by side (`vmap`); on a CPU one after the other (`lax.map`),
because XLA's batched products are slower there than single ones: 20 s against 14 s for two epochs of four experts of
the preset `state` on one core. Over several devices the experts are divided.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from rlgen.configs.schema import PPOConfig
from rlgen.core.errors import UserError
from rlgen.libero.envs.device_world import DeviceWorld
from rlgen.policies.base import Params, Policy, PolicyObservation, PolicySample
from rlgen.policies.critic import Critic
from rlgen.rl.numerics import check_finite, check_update
from rlgen.rl.ppo import Expert, Iterated, finish, run_update
from rlgen.rl.rollout import PARTS, EnvironmentGroup, Rollout, join_groups, transition
from rlgen.rl.samples import Samples, prepare
from rlgen.rl.sampling import RolloutFunctions, draw_fixtures, draw_reset_states, sample_and_value, value
from rlgen.rl.train_state import PPOState, policy_params
from rlgen.training.sharding import first_devices, make_mesh, map_rows, rows_here, shard_batch


def check_population(config: PPOConfig) -> None:
    """Raises `UserError` where settings do not allow several experts in one program."""
    if config.world != "cpu":
        raise UserError(f"several experts in one program with ppo.world {config.world}: expected cpu")
    if config.groups > 1:
        raise UserError(f"several experts in one program with ppo.groups {config.groups}: expected 1")


def expert_mesh(count: int) -> Mesh | None:
    """Returns as many of this process's devices as divide `count` experts; None where that is one."""
    most = max(size for size in range(1, jax.local_device_count() + 1) if count % size == 0)
    return None if most == 1 else make_mesh(devices=first_devices(most))


def iterate_population(
    experts: Sequence[Expert], mesh: Mesh | None = None, *, threads: int = 1, vectorized: bool | None = None
) -> list[Iterated | Exception]:
    """Runs one iteration of every expert, as `ppo.iterate` does of one. Their states are not used up.

    Args:
      experts: that agree in their `program`, with environments on the CPU in one group.
      mesh: devices over which the experts are divided; their number has to divide that of the experts.
      threads: experts whose environments are stepped at a time, each on the threads that its environments have.
      vectorized: experts of a device side by side; by default as the module says.

    Returns:
      For each expert its new state and metrics, whose seconds are its share; or why it has none, most often a
      `NonFiniteError`.
    """
    start = time.perf_counter()
    policy, critic, config = experts[0].program
    if any(expert.program != experts[0].program for expert in experts):
        raise ValueError("experts with several programs; expected one policy, critic and configuration")
    check_population(config)
    if vectorized is None:
        vectorized = jax.default_backend() != "cpu"
    lanes = [_Lane(expert, _environments(expert)) for expert in experts]
    with ThreadPoolExecutor(min(threads, len(lanes))) as callers:
        _collect(lanes, _rollout_functions(experts, mesh, vectorized), config, callers)
    update_start = time.perf_counter()
    prepared = _prepare(lanes)
    if prepared is None:
        return [lane.outcome for lane in lanes]
    states, samples = (_stacked(mesh, trees) for trees in zip(*prepared, strict=True))
    states, metrics = update_population(policy, critic, config, states, samples, mesh=mesh, vectorized=vectorized)
    metrics = {name: np.asarray(values) for name, values in metrics.items()}
    states = unstack(states if mesh is None else rows_here(states))
    now = time.perf_counter()
    shares = {"update": (now - update_start) / len(lanes), "total": (now - start) / len(lanes)}
    for index, lane in enumerate(lanes):
        values = {name: float(array[index]) for name, array in metrics.items()}
        lane.iterated = lane.guard(_finish, lane, states[index], values, shares, len(lanes))
    return [lane.outcome for lane in lanes]


@partial(jax.jit, static_argnums=(0, 1, 2), static_argnames=("mesh", "vectorized"), donate_argnames="states")
def update_population(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    states: PPOState,
    samples: Samples,
    *,
    mesh: Mesh | None = None,
    vectorized: bool = True,
) -> tuple[PPOState, dict[str, Array]]:
    """Updates every expert in one call; one that stops early waits for the others of its device.

    Args:
      policy: the policy that all experts share, but for parameters.
      critic: likewise.
      config: of the training.
      states: stacked states of E experts.
      samples: stacked samples.
      mesh: devices over which the experts are divided.
      vectorized: experts of a device side by side, or one after the other.
    """
    return _over_experts(partial(run_update, policy, critic, config), mesh, vectorized)(states, samples)


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Returns one tree whose leaves have a leading axis E."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: PyTree) -> list[PyTree]:
    """Returns the E trees of a stacked one."""
    count = jax.tree.leaves(tree)[0].shape[0]
    return [jax.tree.map(lambda leaf, index=index: leaf[index], tree) for index in range(count)]


def _stacked(mesh: Mesh | None, trees: Sequence[PyTree]) -> PyTree:
    """Returns one tree whose leaves have a leading axis E, cut over devices."""
    if mesh is None:
        return stack(trees)
    return shard_batch(mesh, jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees))


def _over_experts(function: Callable[..., Any], mesh: Mesh | None, vectorized: bool) -> Callable[..., Any]:
    """Returns a function of one expert's arrays as one of stacked arrays; every device computes its own experts."""

    def mapped(_: Any, rows: tuple[Any, ...]) -> Any:
        if vectorized:
            return jax.vmap(function)(*rows)
        return jax.lax.map(lambda row: function(*row), rows)

    return lambda *rows: map_rows(mesh, mapped)((), rows)


@dataclass
class _Lane:
    """An expert within an iteration.

    Attributes:
      expert: that it is of.
      group: its environments, and what they have done.
      draws: reset states, for the start and for each chunk.
      error: what has ended its iteration; the lane is then filled with another's numbers, which nobody reads.
      iterated: state and metrics of a lane without error.
    """

    expert: Expert
    group: EnvironmentGroup
    draws: Sequence[Float[np.ndarray, "N D"]] = ()
    error: Exception | None = None
    iterated: Iterated | None = None

    @property
    def outcome(self) -> Iterated | Exception:
        """The end of its iteration."""
        outcome = self.error or self.iterated
        assert outcome is not None
        return outcome

    def start(self) -> PolicyObservation:
        """Draws all reset states, resets every environment, and returns what they observe."""
        expert, count = self.expert, self.group.env.num_envs
        generator = np.random.default_rng((expert.seed, int(expert.state.iteration)))
        scene, here = self.group.env.scenes[0], np.arange(count)
        self.draws = draw_reset_states(scene.training_states, generator, expert.config.chunks + 1, here, count)
        return self.group.start(self.draws[0], draw_fixtures(scene, generator, here, count))

    def guard(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what a call returns; None where it fails, or something has failed before."""
        if self.error is None:
            try:
                return call(*arguments)
            except Exception as error:
                self.error = error
        return None


def _environments(expert: Expert) -> EnvironmentGroup:
    if isinstance(expert.env, DeviceWorld):
        raise TypeError("an expert with a DeviceWorld; expected environments on the CPU")
    return EnvironmentGroup(0, slice(None), expert.env, expert.observe)


def _collect(
    lanes: Sequence[_Lane], functions: RolloutFunctions, config: PPOConfig, callers: ThreadPoolExecutor
) -> None:
    """Runs all chunks of all lanes; every call of sampler and critic has the observations of all of them."""
    observations = _each(lanes, callers, lambda lane, _: lane.start(), lanes)
    for chunk in range(config.chunks):
        if (filled := _filled(lanes, observations)) is None:
            return
        with _shared_clock(lanes):
            sampled = _by_expert(functions.sample(chunk, filled))
        for lane, (sample, values, _) in zip(lanes, sampled, strict=True):
            lane.guard(partial(check_finite, sampled_actions=sample.chunk, value=values))

        def step(lane: _Lane, sampled: tuple[PolicySample, Any, Any], chunk: int = chunk) -> Any:
            actions = np.asarray(sampled[0].chunk)[:, : config.action_steps]
            return lane.group.step(actions, lane.draws[chunk + 1])

        stepped = _each(lanes, callers, step, sampled)
        finals = _filled(lanes, [None if one is None else one[2] for one in stepped])
        if finals is None:
            return
        # Elsewhere it is the value that the next chunk begins with.
        ended = any((one[0].terminated | one[0].truncated).any() for one in stepped if one is not None)
        with _shared_clock(lanes):
            next_values = _by_expert(functions.value(finals)) if ended or chunk + 1 == config.chunks else None
        for index, (lane, one) in enumerate(zip(lanes, stepped, strict=True)):
            if lane.error is None:
                sample, values, shifted = sampled[index]
                next_value = np.full_like(values, np.nan) if next_values is None else next_values[index]
                lane.group.transitions.append(transition(sample, shifted, values, next_value, one[0]))
                if lane.expert.on_chunk is not None:
                    lane.expert.on_chunk(chunk + 1)
        observations = [None if one is None else one[1] for one in stepped]


def _each(
    lanes: Sequence[_Lane], callers: ThreadPoolExecutor, call: Callable[[_Lane, Any], Any], arguments: Sequence[Any]
) -> list[Any]:
    """Returns what a call returns for each lane; None where it has failed."""
    futures = [
        callers.submit(lane.guard, call, lane, argument) for lane, argument in zip(lanes, arguments, strict=True)
    ]
    return [future.result() for future in futures]


def _filled(lanes: Sequence[_Lane], trees: Sequence[Any]) -> Any:
    """Returns the trees of all lanes as one; a failed lane has another's. None where all have failed."""
    whole = next((tree for lane, tree in zip(lanes, trees, strict=True) if lane.error is None), None)
    if whole is None:
        return None
    chosen = [tree if lane.error is None else whole for lane, tree in zip(lanes, trees, strict=True)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *chosen)


def _by_expert(tree: PyTree) -> list[Any]:
    """Returns stacked results as NumPy arrays of each expert."""
    return unstack(jax.tree.map(np.asarray, tree))


@contextmanager
def _shared_clock(lanes: Sequence[_Lane]) -> Iterator[None]:
    """Adds the seconds of the `with` block to the lanes' samplers, divided by their number."""
    start = time.perf_counter()
    yield
    for lane in lanes:
        lane.group.seconds["sampler"] += (time.perf_counter() - start) / len(lanes)


def _prepare(lanes: Sequence[_Lane]) -> list[tuple[PPOState, Samples]] | None:
    """Returns state and samples of each lane, those of a failed one another's; None where all have failed."""
    rollouts = [lane.guard(_rollout, lane) for lane in lanes]
    # Samples of all experts have the same arrays.
    failures = any(rollout is not None and rollout.has_failures for rollout in rollouts)

    def one(lane: _Lane, rollout: Rollout) -> tuple[PPOState, Samples]:
        expert = lane.expert
        return prepare(expert.policy, expert.config, expert.state, replace(rollout, has_failures=failures))

    prepared = [lane.guard(one, lane, rollout) for lane, rollout in zip(lanes, rollouts, strict=True)]
    whole = next((one for one in prepared if one is not None), None)
    return None if whole is None else [whole if one is None else one for one in prepared]


def _rollout(lane: _Lane) -> Rollout:
    return join_groups([lane.group], np.arange(lane.group.env.num_envs))


def _finish(lane: _Lane, state: PPOState, metrics: dict[str, float], shares: dict[str, float], count: int) -> Iterated:
    """Checks an update and completes its metrics; arguments as of `ppo.finish`, seconds as shares."""
    check_update(int(metrics.pop("nonfinite")), int(metrics.pop("nonfinite_minibatch")))
    # Environments of several experts may have been stepped at a time: what overlaps is not counted twice.
    seconds = {name: min(lane.group.seconds[name], shares["total"]) for name in PARTS}
    ends = _rollout(lane).ends
    state, metrics = finish(state, metrics, ends, seconds | {"update": shares["update"]}, shares["total"])
    return state, metrics | {"experts": count}


def _rollout_functions(experts: Sequence[Expert], mesh: Mesh | None, vectorized: bool) -> RolloutFunctions:
    """Returns the functions of an iteration, from and to stacked arrays; see `sampling.rollout_functions`."""
    policy, critic, config = experts[0].program
    shift = config.random_shift if policy.has_images else 0
    keys = [jax.random.fold_in(expert.state.key, int(expert.state.iteration)) for expert in experts]
    trees = [(policy_params(expert.state), expert.state.critic, key) for expert, key in zip(experts, keys, strict=True)]
    params, critics, keys = _stacked(mesh, trees)
    fixed = {"mesh": mesh, "vectorized": vectorized}

    def sample(call: int, observation: PolicyObservation):
        placed = shard_batch(mesh, observation)
        return rows_here(_sample(policy, critic, shift, params, critics, keys, call, placed, **fixed))

    def values(observation: PolicyObservation):
        return rows_here(_value(policy, critic, params, critics, shard_batch(mesh, observation), **fixed))

    return RolloutFunctions(sample, values)


@partial(jax.jit, static_argnums=(0, 1, 2), static_argnames=("mesh", "vectorized"))
def _sample(
    policy: Policy,
    critic: Critic,
    shift: int,
    params: Params,
    critics: Any,
    keys: Array,
    call: Int[Array, ""],
    observation: PolicyObservation,
    *,
    mesh: Mesh | None,
    vectorized: bool,
) -> tuple[PolicySample, Float[Array, "E N"], PolicyObservation]:
    def one(params: Params, critic_params: Any, key: PRNGKeyArray, observation: PolicyObservation):
        return sample_and_value(policy, critic, shift, params, critic_params, key, observation)

    keys = jax.vmap(lambda key: jax.random.fold_in(key, call))(keys)
    return _over_experts(one, mesh, vectorized)(params, critics, keys, observation)


@partial(jax.jit, static_argnums=(0, 1), static_argnames=("mesh", "vectorized"))
def _value(
    policy: Policy,
    critic: Critic,
    params: Params,
    critics: Any,
    observation: PolicyObservation,
    *,
    mesh: Mesh | None,
    vectorized: bool,
) -> Float[Array, "E N"]:
    return _over_experts(partial(value, policy, critic), mesh, vectorized)(params, critics, observation)
