"""The loop on a point that moves along a line, and the update on made-up experience."""

import dataclasses
import threading
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rl.worlds import SIZE, PointEnv, PointScene

from rlgen.configs.schema import CriticConfig, DiffusionConfig, GaussianConfig, PolicyConfig, PPOConfig
from rlgen.core.errors import UserError
from rlgen.libero.envs.image_observer import observe_vector
from rlgen.policies.critic import make_critic
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.policies.gaussian import GaussianPolicy
from rlgen.rl import losses, ppo
from rlgen.rl.ppo import minibatch_loss, select, update
from rlgen.rl.rollout import collect
from rlgen.rl.samples import Samples, prepare
from rlgen.rl.train_state import PPOState, init_state, policy_params, scale_rewards

CHUNKS, ENVIRONMENTS = 6, 4
# The MLP compiles in a tenth of the U-Net's time; the update does not know which it trains.
CHAIN = DiffusionConfig(denoising_steps=3, eta_act=0.0, sigma_min_sample=0.1, sigma_min_logprob=0.1)
POLICY_CONFIG = PolicyConfig(
    horizon=4, network="mlp", mlp_widths=(32, 32, 32), diffusion=CHAIN, critic=CriticConfig(widths=(16, 16, 16))
)
DIFFUSION = DiffusionPolicy(POLICY_CONFIG, SIZE, 3)
GAUSSIAN = GaussianPolicy(POLICY_CONFIG, SIZE, 3)
CRITIC = make_critic(DIFFUSION)
CONFIG = PPOConfig(
    iterations=4,
    environments=ENVIRONMENTS,
    chunks=CHUNKS,
    epochs=2,
    batch=24,
    critic_warmup=1,
    actor_learning_rate=1e-3,
    evaluate_every=1,
)


def with_chain(**change) -> DiffusionPolicy:
    """The diffusion policy with another chain."""
    chain = dataclasses.replace(CHAIN, **change)
    return DiffusionPolicy(dataclasses.replace(POLICY_CONFIG, diffusion=chain), SIZE, 3)


@partial(jax.jit, static_argnums=(0, 1))
def fresh_state(policy, config: PPOConfig, key, policy_key) -> PPOState:
    """Compiled once for all tests with a policy and settings."""
    return init_state(key, policy, CRITIC, policy.init(policy_key), config)


def make_state(policy=DIFFUSION, config: PPOConfig = CONFIG) -> PPOState:
    return fresh_state(policy, config, jax.random.PRNGKey(1), jax.random.PRNGKey(0))


def copy(tree):
    """The update uses up what goes in."""
    return jax.tree.map(np.array, tree)


def run(state, iterations: int, config: PPOConfig = CONFIG, policy=DIFFUSION, seed: int = 5) -> tuple[PPOState, dict]:
    env, metrics = PointEnv(ENVIRONMENTS), {}
    for _ in range(iterations):
        state, metrics = ppo.iterate(policy, CRITIC, config, copy(state), env, seed=seed)
    return copy(state), metrics


def rollout_of(state: PPOState, config: PPOConfig = CONFIG, policy=DIFFUSION):
    return collect(policy, CRITIC, config, state, PointEnv(config.environments), observe_vector, 5)


def assert_same(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def differs(first, second) -> bool:
    return any(np.abs(a - b).max() > 0 for a, b in zip(*map(jax.tree.leaves, (first, second)), strict=True))


@pytest.mark.parametrize("policy", [DIFFUSION, GAUSSIAN], ids=["diffusion", "gaussian"])
def test_two_and_two_iterations_are_four_to_the_bit(policy):
    unbroken, metrics = run(make_state(policy), 4, policy=policy)
    halfway, _ = run(make_state(policy), 2, policy=policy)
    resumed, _ = run(halfway, 2, policy=policy)
    assert_same(unbroken, resumed)
    assert metrics["control_steps"] > 0
    assert {f"seconds_{name}" for name in ("environment", "sampler", "update", "waiting")} <= set(metrics)
    assert metrics["seconds_accelerator"] == metrics["seconds_sampler"] + metrics["seconds_update"]
    assert metrics["seconds_accelerator"] < metrics["seconds_total"]


def test_the_policy_rests_while_the_critic_warms_up():
    start = make_state()
    after, _ = run(start, 1)
    assert_same(start.net, after.net)
    assert differs(start.critic, after.critic)
    later, _ = run(after, 1)
    assert differs(after.net, later.net)


def test_moments_that_are_warm_make_the_first_step_no_larger_than_later_ones():
    """Adam's first step moves every parameter by the whole learning rate, whatever its gradient."""
    moved = {}
    for warm in (False, True):
        config = dataclasses.replace(CONFIG, warm_moments=warm, critic_warmup=3, epochs=1, batch=10**6)
        start = make_state(config=config)
        rested, _ = run(start, 3, config)
        assert_same(start.net, rested.net)
        after, _ = run(rested, 1, config)
        changes = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)), after.net, rested.net)
        moved[warm] = float(np.mean(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(changes)])))
    assert moved[False] > 0.9 * CONFIG.actor_learning_rate > 1.3 * moved[True] > 0


class SlowEnv(PointEnv):
    """A world in which one part takes its time, in steps that follow from `seed`."""

    def __init__(self, count: int, seed: int):
        super().__init__(count)
        self._random = np.random.default_rng(seed)

    def step(self, chunks, *, reset_states=None):
        time.sleep(0.02 * self._random.random())
        return super().step(chunks, reset_states=reset_states)


def test_groups_take_turns_whatever_the_time_that_each_takes():
    config, state = dataclasses.replace(CONFIG, groups=2), make_state()
    chunks_seen: list[int] = []
    first, second = (
        collect(DIFFUSION, CRITIC, config, state, SlowEnv(ENVIRONMENTS, seed), observe_vector, 5, chunks_seen.append)
        for seed in (0, 1)
    )
    assert_same(first.transitions, second.transitions)
    assert chunks_seen == 2 * list(range(1, CHUNKS + 1))
    together = rollout_of(state).transitions
    # The same reset states, other noise for the second group alone.
    np.testing.assert_array_equal(first.transitions.observation[0], together.observation[0])
    noise = first.transitions.chain[:, :, 0]
    assert len(np.unique(noise.reshape(CHUNKS * ENVIRONMENTS, -1), axis=0)) == CHUNKS * ENVIRONMENTS
    ended = first.transitions.terminated | first.transitions.truncated
    following = first.transitions.value[1:][~ended[:-1]]
    np.testing.assert_array_equal(first.transitions.next_value[:-1][~ended[:-1]], following)


def test_fixtures_of_an_environment_follow_from_its_number_and_the_iteration_alone():
    """And what else is drawn does not depend on them."""
    given: list[list[int]] = []

    class Drawn(PointScene):
        def draw_training_fixtures(self, seed):
            return np.full((1, 7), float(seed))

    class DrawnEnv(PointEnv):
        def reset(self, states, fixtures=None):
            given.append([int(poses[0, 0]) for poses in fixtures])
            return super().reset(states, fixtures)

    def collected(groups: int, iteration: int):
        env = DrawnEnv(ENVIRONMENTS)
        env.scenes = tuple(Drawn(scene.training_states) for scene in env.scenes)
        config = dataclasses.replace(CONFIG, groups=groups)
        state = dataclasses.replace(make_state(), iteration=jnp.int32(iteration))
        return collect(DIFFUSION, CRITIC, config, state, env, observe_vector, 5).transitions

    first = collected(1, 0)
    assert_same(first, rollout_of(make_state()).transitions)
    collected(2, 0), collected(1, 1)
    assert given[0] == given[1] + given[2] and len({*given[0], *given[3]}) == 2 * ENVIRONMENTS


def test_one_group_steps_while_the_other_is_sampled():
    """Each part waits until the other has begun: alone, neither would ever go on."""
    barrier = threading.Barrier(2, timeout=30)

    class MeetingEnv(PointEnv):
        def step(self, chunks, *, reset_states=None):
            barrier.wait()
            return super().step(chunks, reset_states=reset_states)

    config = dataclasses.replace(CONFIG, groups=2)
    rollout = collect(DIFFUSION, CRITIC, config, make_state(), MeetingEnv(ENVIRONMENTS), observe_vector, 5)
    assert rollout.transitions.reward.shape == (CHUNKS, ENVIRONMENTS)


def whole_batch(policy, config: PPOConfig, state: PPOState, samples: Samples):
    """Every chunk with all steps of its chain, as one minibatch."""
    rows = jnp.arange(len(samples.advantage))
    index = jnp.broadcast_to(jnp.arange(policy.num_trained_steps), (len(rows), policy.num_trained_steps))
    return select(policy, config, samples, rows, index)


def loss_at(policy, config: PPOConfig, state: PPOState, samples: Samples, net=None):
    """Total and metrics of a network on all samples."""
    trained = {"net": state.net if net is None else net, "critic": state.critic}
    batch = whole_batch(policy, config, state, samples)
    total, metrics = jax.jit(minibatch_loss, static_argnums=(0, 1, 2))(policy, CRITIC, config, state, trained, batch)
    return float(total), {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize("policy", [DIFFUSION, GAUSSIAN, with_chain(denoising_steps=1)],
                         ids=["diffusion", "gaussian", "one step"])  # fmt: skip
def test_the_ratio_is_one_before_the_first_update(policy):
    state = make_state(policy)
    state, samples = prepare(policy, CONFIG, state, rollout_of(state, policy=policy))
    _, metrics = loss_at(policy, CONFIG, state, samples)
    assert metrics["ratio"] == pytest.approx(1.0, abs=1e-6)
    # A unit in the last place of a ratio near 1.
    assert metrics["approx_kl"] < 1.2e-7
    assert metrics["clip_fraction"] == 0


def test_an_episode_that_ended_is_worth_its_final_observation_and_another_the_next():
    state = make_state()
    rollout = rollout_of(state).transitions
    ended = rollout.terminated | rollout.truncated
    assert ended.any() and not ended.all()
    same_episode = ~ended[:-1]
    np.testing.assert_array_equal(rollout.next_value[:-1][same_episode], rollout.value[1:][same_episode])
    # The final position is beyond what the next episode begins with, and so is its value.
    assert (rollout.next_value[:-1][~same_episode] != rollout.value[1:][~same_episode]).all()
    values = CRITIC.value(state.critic, jnp.clip(rollout.observation, -5, 5))
    np.testing.assert_allclose(values, rollout.value, atol=1e-5)


def test_rewards_have_a_discount_of_their_own_if_there_is_one():
    state = make_state()
    rollout = rollout_of(state)
    # Rewards within episodes: the world's own come at their ends alone, where no discount shows.
    rewards = np.random.default_rng(0).random(rollout.transitions.reward.shape)
    rollout = dataclasses.replace(rollout, transitions=rollout.transitions._replace(reward=rewards))
    reward = jnp.asarray(rollout.transitions.reward, jnp.float32)
    first = np.ones(reward.shape, bool)
    first[1:] = (rollout.transitions.terminated | rollout.transitions.truncated)[:-1]
    deviations = {}
    for own, discount in ((None, CONFIG.gamma), (0.0, 0.0), (0.99, 0.99)):
        scaled, _ = prepare(DIFFUSION, dataclasses.replace(CONFIG, reward_gamma=own), state, rollout)
        assert_same(scaled.scaler, scale_rewards(state.scaler, reward, first, discount)[0])
        deviations[own] = float(scaled.scaler.variance)
    assert len(set(deviations.values())) == 3
    with pytest.raises(UserError, match=r"ppo\.reward-gamma 1\.5"):
        PPOConfig(reward_gamma=1.5)


def test_a_success_within_a_chunk_counts_and_ends_it():
    env = PointEnv(1, horizon=100)
    env.reset(np.array([[0.0, 0.5, 1.0]]))
    result = env.step(np.ones((1, 4, 3)))
    assert result.control_steps[0] == 3 and result.terminated[0] and result.reward[0] == 1
    narrow = GaussianConfig(std=1e-3, std_kind="fixed", std_range=(1e-4, 1.0))
    policy = GaussianPolicy(dataclasses.replace(POLICY_CONFIG, gaussian=narrow), SIZE, 3)
    state = make_state(policy)
    ahead = jax.tree.map(jnp.zeros_like, state.net)
    ahead["mean"]["mean"]["leave"]["bias"] = jnp.full(12, 5.0)
    rollout = rollout_of(state.replace(net=ahead), policy=policy).transitions
    assert (rollout.terminated.sum(axis=0) >= 2).all() and rollout.reward.sum() == rollout.terminated.sum()
    assert rollout.control_steps.sum() < CHUNKS * ENVIRONMENTS * 4
    assert ppo.first_episode_success(rollout.terminated, rollout.truncated) == 1


def test_a_large_divergence_stops_the_epochs():
    config = dataclasses.replace(CONFIG, target_kl=0.0, epochs=5)
    _, metrics = run(make_state(config=config), 2, config)
    assert int(metrics["epochs"]) == 1


def test_parts_of_a_minibatch_give_the_same_update():
    whole, _ = run(make_state(), 2)
    parts, _ = run(make_state(), 2, dataclasses.replace(CONFIG, microbatch=7))
    # Adam divides by the size of a gradient: where that is next to nothing, rounding decides.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), whole.net, parts.net)


@pytest.mark.parametrize(("policy", "rate"), [(DIFFUSION, 3e-3), (GAUSSIAN, 1e-3)], ids=["diffusion", "gaussian"])
def test_the_update_makes_good_actions_likelier(policy, rate):
    """Advantage follows one number of the chunk: after updates the policy commands more of it."""
    config = dataclasses.replace(
        CONFIG, critic_warmup=0, iterations=40, epochs=4, clip=0.2, clip_base=0.2, actor_learning_rate=rate
    )
    state = make_state(policy, config)
    seen = jnp.asarray(np.random.default_rng(0).normal(size=(256, SIZE)), jnp.float32)
    sample = jax.jit(policy.sample)

    def mean_command(state):
        return float(sample(policy_params(state), jax.random.PRNGKey(9), seen).chunk[..., 0].mean())

    before = mean_command(state)
    for iteration in range(20):
        drawn = sample(policy_params(state), jax.random.PRNGKey(iteration), seen)
        advantage = drawn.chunk[..., 0].mean(axis=1)
        zeros = jnp.zeros(256)
        samples = Samples(seen, drawn.chain, drawn.log_prob, advantage, zeros, zeros)
        state, _ = update(policy, CRITIC, config, state, samples)
        state = state.replace(iteration=state.iteration + 1)
    assert mean_command(state) > before + 0.1


def test_the_loss_towards_the_cloned_policy_is_least_there_and_is_weighted():
    weight = 3.0
    config = dataclasses.replace(CONFIG, bc_weight=weight)
    state = make_state(config=config)
    assert_same(state.base, state.net)
    state, samples = prepare(DIFFUSION, config, state, rollout_of(state, config))
    away = jax.tree.map(lambda leaf: leaf + 0.05, state.net)
    total, metrics = loss_at(DIFFUSION, config, state, samples)
    _, further = loss_at(DIFFUSION, config, state, samples, away)
    without, plain = loss_at(DIFFUSION, CONFIG, state, samples.replace(teacher=None))
    assert metrics["bc_loss"] < further["bc_loss"] and "bc_loss" not in plain
    assert total == pytest.approx(without + weight * metrics["bc_loss"], rel=1e-5)


@pytest.mark.parametrize("policy", [DIFFUSION, GAUSSIAN], ids=["diffusion", "gaussian"])
def test_the_loss_for_steadiness_counts_the_last_step_of_each_chain_and_makes_actions_steadier(policy):
    weight = 0.7
    config = dataclasses.replace(
        CONFIG, steadiness_weight=weight, critic_warmup=0, iterations=40, epochs=4, actor_learning_rate=3e-3
    )
    state = make_state(policy, config)
    state, samples = prepare(policy, config, state, rollout_of(state, config, policy=policy))
    total, metrics = loss_at(policy, config, state, samples)
    without, plain = loss_at(policy, CONFIG, state, samples.replace(last=None))
    assert total == pytest.approx(without + weight * metrics["unsteadiness"], rel=1e-5) and "unsteadiness" not in plain
    steps, params = policy.num_trained_steps, policy_params(state)
    index = jnp.full(len(samples.last), steps - 1)
    features = policy.encode(params, samples.observation)
    mean = policy.to_action(params, policy.mean_from(params, features, samples.chain[:, -2], index))
    executed = mean[:, : config.action_steps]
    assert metrics["unsteadiness"] == pytest.approx(
        float(losses.unsteadiness(samples.last, executed, jnp.ones(len(executed)))), rel=1e-4
    )
    for _ in range(10):
        state, after = update(policy, CRITIC, config, state, samples.replace(advantage=0 * samples.advantage))
    assert float(after["unsteadiness"]) < 0.7 * float(metrics["unsteadiness"])


def test_only_the_last_steps_are_trained_and_the_frozen_network_takes_the_others():
    policy = with_chain(num_finetuned_steps=2)
    state = make_state(policy)
    rollout = rollout_of(state, policy=policy).transitions
    assert rollout.chain.shape[2] == 3 and rollout.log_prob.shape[2] == 2
    sample, act = (jax.jit(method, static_argnums=0) for method in (DiffusionPolicy.sample, DiffusionPolicy.act))
    whole = sample(DIFFUSION, policy_params(state), jax.random.PRNGKey(3), jnp.ones((5, SIZE)))
    part = sample(policy, policy_params(state), jax.random.PRNGKey(3), jnp.ones((5, SIZE)))
    np.testing.assert_allclose(part.chain, whole.chain[:, 1:], atol=1e-5)
    cloned = {"net": state.net, "normalizer": state.normalizer}
    np.testing.assert_array_equal(
        act(policy, cloned, None, jnp.ones((5, SIZE))), act(policy, policy_params(state), None, jnp.ones((5, SIZE)))
    )
    trained = state.replace(net=jax.tree.map(lambda leaf: leaf + 0.1, state.net))
    again = sample(policy, policy_params(trained), jax.random.PRNGKey(3), jnp.ones((5, SIZE)))
    np.testing.assert_allclose(again.chain[:, 0], part.chain[:, 0], atol=1e-5)
    assert np.abs(again.chain[:, -1] - part.chain[:, -1]).max() > 1e-3


def test_success_counts_the_first_episode_of_each_environment():
    terminated = np.array([[0, 0, 1, 0], [1, 0, 1, 0], [0, 1, 1, 0]], bool)
    truncated = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    assert ppo.first_episode_success(terminated, truncated) == 0.5
