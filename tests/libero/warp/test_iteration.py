"""PPO's iteration as one program on LIBERO's world of MuJoCo Warp, against the same world stepped from the host."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from warp_device import needs_warp

from rlgen.configs.schema import CriticConfig, DiffusionConfig, ImageEncoderConfig, PolicyConfig, PPOConfig
from rlgen.libero.envs.image_observer import make_observe
from rlgen.libero.envs.observations import observation_size
from rlgen.libero.envs.worlds import make_training_world
from rlgen.libero.warp.vector_env import WarpVectorEnv
from rlgen.libero.warp.world import WarpWorld
from rlgen.policies.critic import make_critic
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.rl import ppo
from rlgen.rl.device import collect_on_device, draw_rows
from rlgen.rl.rollout import collect
from rlgen.rl.train_state import init_state

pytestmark = needs_warp
WORLDS, SIZE, SEED = 2, 24, 3
# Episodes of five control steps: they end within the second chunk, and the third begins with new ones.
HORIZON = 5
CONFIG = PPOConfig(
    iterations=2, world="warp", environments=WORLDS, chunks=3, action_steps=3, epochs=1, batch=12, critic_warmup=0,
    random_shift=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def scene(placeholder_scene, tmp_path_factory):
    """The scene with few initial states, so that they settle at once."""
    train, stored = placeholder_scene.training_states[:6], placeholder_scene.stored_states[:2]
    folder = tmp_path_factory.mktemp("bundle")
    scene = replace(placeholder_scene, folder=folder, training_states=train, stored_states=stored)
    scene.__dict__["visual_model"] = placeholder_scene.visual_model  # which is not in that folder
    return scene


def make_policy(scene, *, images: bool = False) -> DiffusionPolicy:
    encoder = ImageEncoderConfig(image_size=SIZE, widths=(8,), keypoints=4, random_shift=2, renderer="warp")
    config = PolicyConfig(
        observation="images" if images else "state", horizon=4, network="mlp", mlp_widths=(16,), image_encoder=encoder,
        diffusion=DiffusionConfig(denoising_steps=2), critic=CriticConfig(widths=(8,)),
    )  # fmt: skip
    return DiffusionPolicy(config, observation_size(scene) + (encoder.robot_state_size if images else 0))


def make_state(policy):
    return init_state(jax.random.PRNGKey(0), policy, make_critic(policy), policy.init(jax.random.PRNGKey(1)), CONFIG)


def test_an_iteration_on_the_device_is_that_of_the_host(scene):
    policy, ends = make_policy(scene), []
    critic = make_critic(policy)
    for env in (WarpWorld(scene, WORLDS, horizon=HORIZON), WarpVectorEnv([scene] * WORLDS, horizon=HORIZON)):
        state, metrics = ppo.iterate(policy, critic, CONFIG, make_state(policy), env, SEED)
        ends.append((state, {key: value for key, value in metrics.items() if not key.startswith("seconds_")}))
    (device, found), (host, expected) = ends
    assert found["control_steps"] == WORLDS * (HORIZON + 3) and "failed_episodes" not in found
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    for part in ("net", "critic", "scaler"):
        for one, other in zip(*(jax.tree.leaves(getattr(state, part)) for state in (device, host)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5, err_msg=part)


@pytest.mark.slow
def test_images_are_drawn_within_the_program(scene):
    policy = make_policy(scene, images=True)
    critic, state = make_critic(policy), make_state(policy)
    world, observe = make_training_world(scene, WORLDS, "warp", SIZE, renderer="warp", threads=1)
    rows = draw_rows(CONFIG, world, SEED, 0)
    compiled = jax.jit(lambda *rest: collect_on_device(policy, critic, CONFIG, world, observe, *rest))
    steps, finite = compiled(state, world.training_states, rows)
    env = WarpVectorEnv([scene] * WORLDS)
    on_host = make_observe([scene] * WORLDS, SIZE, renderer="warp")
    expected = collect(policy, critic, CONFIG, state, env, on_host, SEED).transitions
    assert all(finite) and steps.observation.images.dtype == np.uint8
    # A pixel whose ray meets an edge may fall on either side of it.
    differ = np.abs(np.asarray(steps.observation.images, int) - expected.observation.images) > 1
    assert differ.mean() < 1e-3 and np.asarray(steps.observation.images).std() > 10
    np.testing.assert_allclose(steps.observation.vector, expected.observation.vector, atol=1e-4)
    for name in ("terminated", "truncated", "failed", "control_steps", "reward"):
        np.testing.assert_array_equal(getattr(steps, name), getattr(expected, name), err_msg=name)
