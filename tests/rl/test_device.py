"""An iteration compiled as one program against the one that steps the same world from the host."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rl.device_worlds import HostEnv, PointWorld, draw

from rlgen.configs.schema import Config, CriticConfig, DiffusionConfig, ImageEncoderConfig, PolicyConfig, PPOConfig
from rlgen.core.errors import UserError
from rlgen.libero.envs.device_world import DeviceWorld
from rlgen.libero.envs.image_observer import observe_vector
from rlgen.policies.critic import make_critic
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.rl import losses, ppo
from rlgen.rl.device import collect_on_device, draw_rows
from rlgen.rl.numerics import NonFiniteError
from rlgen.rl.rollout import collect
from rlgen.rl.samples import prepare, prepare_on_device
from rlgen.rl.train_state import init_state, policy_params

WORLDS, CHUNKS, SIZE, SEED = 8, 6, 3, 5
CHAIN = DiffusionConfig(denoising_steps=2, sigma_min_sample=0.5, sigma_min_logprob=0.5)
VECTORS = DiffusionPolicy(
    PolicyConfig(horizon=4, network="mlp", mlp_widths=(16,), diffusion=CHAIN, critic=CriticConfig(widths=(8,))), SIZE, 3
)
ENCODER = ImageEncoderConfig(image_size=12, widths=(8,), keypoints=4, robot_state_size=2)
IMAGES = dataclasses.replace(
    VECTORS, config=dataclasses.replace(VECTORS.config, observation="images", image_encoder=ENCODER)
)
CONFIG = PPOConfig(
    iterations=4, environments=WORLDS, chunks=CHUNKS, epochs=2, batch=24, critic_warmup=0, action_steps=3,
    random_shift=2, target_kl=None, advantage_quantiles=(0.05, 0.95),
)  # fmt: skip
WORLD = PointWorld(WORLDS)
OBSERVE = {VECTORS: observe_vector, IMAGES: draw}


def make_state(policy, config=CONFIG):
    critic = make_critic(policy)
    return jax.jit(lambda key: init_state(key, policy, critic, policy.init(key), config))(jax.random.PRNGKey(1))


def both_rollouts(policy, config=CONFIG, world=WORLD):
    """Transitions and samples of the host and of the compiled rollout."""
    critic, state, observe = make_critic(policy), make_state(policy, config), OBSERVE[policy]
    rollout = collect(policy, critic, config, state, HostEnv(world), observe, SEED)
    rows = draw_rows(config, world, SEED, 0)

    def on_device(state):
        steps, _ = collect_on_device(policy, critic, config, world, observe, state, world.training_states, rows)
        return steps, prepare_on_device(policy, config, state, steps)[:2]

    steps, (after, samples) = jax.jit(on_device)(state)
    return (rollout.transitions, *prepare(policy, config, state, rollout)), (steps, after, samples)


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def assert_near(found, expected, tolerance: float = 1e-5):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, one), other in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.shape == other.shape, path
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=str(path))


@pytest.mark.parametrize("policy", [VECTORS, IMAGES], ids=["vectors", "images"])
def test_a_compiled_rollout_has_the_transitions_and_samples_of_the_host(policy):
    assert isinstance(WORLD, DeviceWorld) and not isinstance(HostEnv(WORLD), DeviceWorld)
    config = CONFIG if policy.has_images else dataclasses.replace(CONFIG, bc_weight=0.1)
    (expected, state, samples), (found, after, compiled) = both_rollouts(policy, config)
    # Episodes end in each of the three ways, and some twice.
    for name in ("terminated", "truncated", "failed"):
        assert getattr(expected, name).any(), name
    assert (expected.truncated & ~expected.failed).any()
    assert (expected.terminated | expected.truncated).sum(axis=0).max() >= 2
    assert_near(found, expected)
    assert found.observation.images.dtype == np.uint8 if policy.has_images else True
    assert_near(after.scaler, state.scaler)
    assert_near(compiled, samples)
    assert not samples.kept.all() and (samples.teacher is None) == policy.has_images


def test_a_chunk_knows_the_two_actions_before_it_and_begins_from_rest():
    config = dataclasses.replace(CONFIG, steadiness_weight=0.5)
    (steps, state, samples), (_, _, compiled) = both_rollouts(VECTORS, config)
    assert_near(compiled.last, samples.last)
    actions = VECTORS.to_action(policy_params(state), jnp.asarray(steps.chain[..., -1, :, :]))
    last = np.asarray(samples.last).reshape(CHUNKS, WORLDS, 2, VECTORS.action_size)
    ended = steps.terminated | steps.truncated
    assert not last[0].any() and ended[:-1].any() and not ended[:-1].all()
    for chunk in range(1, CHUNKS):
        # Three of four actions are executed.
        expected = np.where(ended[chunk - 1][:, None, None], 0, actions[chunk - 1, :, 1:3])
        np.testing.assert_array_equal(last[chunk], expected)


@pytest.mark.parametrize("policy", [VECTORS, IMAGES], ids=["vectors", "images"])
def test_a_compiled_iteration_learns_what_the_host_learns(policy):
    critic, observe = make_critic(policy), OBSERVE[policy]
    ends = {}
    for name, env in {"host": HostEnv(WORLD), "device": WORLD}.items():
        state, chunks = make_state(policy), []
        for _ in range(2):
            state, metrics = ppo.iterate(policy, critic, CONFIG, state, env, SEED, chunks.append, observe)
        assert chunks == ([*range(1, CHUNKS + 1)] * 2 if name == "host" else [CHUNKS] * 2)
        seconds = {key: metrics.pop(key) for key in list(metrics) if key.startswith("seconds_")}
        assert 0 < seconds["seconds_accelerator"] <= seconds["seconds_total"]
        ends[name] = jax.tree.map(np.array, state), metrics, set(seconds)
    (host, expected, _), (device, found, parts) = ends["host"], ends["device"]
    assert parts == {f"seconds_{part}" for part in ("program", "waiting", "accelerator", "total")}
    assert found["failed_episodes"] > 0 and found.keys() == expected.keys()
    for name in found:
        assert found[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-5), name
    assert_near(device.scaler, host.scaler)
    assert int(device.control_steps) == int(host.control_steps) and int(device.iteration) == 2
    for part, optimizer in (("net", host.actor_optimizer), ("critic", host.critic_optimizer)):
        # Adam divides by the size of a gradient: where that is next to nothing, rounding decides.
        size = np.sqrt(flat(optax.tree.get(optimizer, "nu")))
        trained = size > 1e-5 * size.max()
        assert trained.mean() > 0.5
        np.testing.assert_allclose(*(flat(getattr(state, part))[trained] for state in (device, host)), atol=1e-5)


def test_reset_states_follow_from_seed_and_iteration():
    first = draw_rows(CONFIG, WORLD, SEED, 3)
    np.testing.assert_array_equal(first, draw_rows(CONFIG, WORLD, SEED, 3))
    assert first.shape == (CHUNKS + 1, WORLDS) and first.min() >= 0 and first.max() < len(WORLD.training_states)
    assert all((first != other).any() for other in (draw_rows(CONFIG, WORLD, SEED, 4), draw_rows(CONFIG, WORLD, 6, 3)))


def test_an_episode_is_left_out_from_its_beginning_to_its_failure():
    failed = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0]], bool)
    ended = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]], bool)
    expected = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]], bool)
    np.testing.assert_array_equal(losses.left_out(failed, ended), expected)


@pytest.mark.parametrize("change", [{}, {"normalize_advantage": False}, {"advantage_quantiles": (0.1, 0.9)}])
def test_what_is_left_out_has_no_weight_and_no_effect_on_the_rest(change):
    config = dataclasses.replace(CONFIG, **({"advantage_quantiles": None} | change))
    random = np.random.default_rng(0)
    advantage = jnp.asarray(random.normal(size=12), jnp.float32)
    index, kept = jnp.asarray(random.integers(0, 2, 12)), jnp.arange(12) % 3 > 0
    found = losses.advantage_weights(advantage, index, 2, config, kept)
    expected = losses.advantage_weights(advantage[kept], index[kept], 2, config)
    np.testing.assert_allclose(found[kept], expected, rtol=1e-5)
    assert not np.asarray(found[~kept]).any()
    none = losses.advantage_weights(advantage, index, 2, config, jnp.zeros(12, bool))
    assert not np.asarray(none).any()
    value, old, target = jnp.asarray(random.normal(size=(3, 12)), jnp.float32)
    error = losses.value_loss(value, old, target, config, kept)
    assert float(error) == pytest.approx(
        8 / 12 * float(losses.value_loss(value[kept], old[kept], target[kept], config))
    )


def test_where_nothing_fails_samples_have_no_weights():
    """The update is the same program then, to the bit, as without failures."""
    world = PointWorld(WORLDS, fails_below=-np.inf)
    state, critic = make_state(VECTORS), make_critic(VECTORS)
    rollout = collect(VECTORS, critic, CONFIG, state, HostEnv(world), observe_vector, SEED)
    assert not rollout.has_failures and prepare(VECTORS, CONFIG, state, rollout)[1].kept is None


class Diverging(PointWorld):
    """A world in which rewards are no longer numbers."""

    def step(self, state, actions, active):
        state, step = super().step(state, actions, active)
        return state, step._replace(reward=step.reward * jnp.nan)


def test_what_is_not_finite_is_named():
    state, critic = make_state(VECTORS), make_critic(VECTORS)
    with pytest.raises(NonFiniteError, match=r"^reward is not finite"):
        ppo.iterate(VECTORS, critic, CONFIG, state, Diverging(WORLDS), SEED)
    state = make_state(VECTORS)
    state = state.replace(net=jax.tree.map(lambda leaf: leaf * jnp.nan, state.net))
    with pytest.raises(NonFiniteError, match=r"^sampled_actions"):
        ppo.iterate(VECTORS, critic, CONFIG, state, WORLD, SEED)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"ppo": PPOConfig(world="warp"), "policy": IMAGES.config, "fixtures": "fixed"},
            r"renderer fast with ppo\.world warp",
        ),
        ({"ppo": PPOConfig(world="warp")}, r"fixtures redraw with ppo\.world warp: expected fixed"),
        ({"ppo": {"world": "warp", "groups": 2}}, r"ppo\.groups 2 with ppo\.world warp: expected 1"),
        ({"ppo": {"world": "gpu"}}, r"ppo\.world 'gpu': expected 'cpu' or 'warp'"),
    ],
)
def test_contradictions_are_one_line(change, words):
    with pytest.raises(UserError, match=words) as raised:
        Config(**{name: PPOConfig(**value) if isinstance(value, dict) else value for name, value in change.items()})
    assert "\n" not in str(raised.value)
