"""Policies on images: what they read, what it costs, and how large they are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.configs.presets import expert_presets
from rlgen.configs.schema import CriticConfig, DiffusionConfig, ImageEncoderConfig, PolicyConfig, PPOConfig
from rlgen.core.types import ImageObservation
from rlgen.pipeline.policy import make_policy
from rlgen.policies.critic import make_critic
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.policies.gaussian import GaussianPolicy
from rlgen.rl.ppo import Samples, minibatch_loss, select
from rlgen.rl.train_state import init_state, minibatch_shape

CONFIG = PolicyConfig(
    observation="images",
    horizon=4,
    network="mlp",
    mlp_widths=(16,),
    time_embedding_size=8,
    image_encoder=ImageEncoderConfig(image_size=32, robot_state_size=2, widths=(8, 16), keypoints=4),
    diffusion=DiffusionConfig(denoising_steps=3),
    critic=CriticConfig(widths=(8,)),
)
VIT = ImageEncoderConfig(image_size=32, robot_state_size=2, backbone="vit", token_size=16, embedding_size=8)
SIZES = {"observation_size": 5, "action_size": 3}
POLICY = DiffusionPolicy(CONFIG, **SIZES)
init = jax.jit(lambda policy, key: policy.init(key), static_argnums=0)
BATCH = 4


def observe(policy=POLICY, batch: int = BATCH) -> ImageObservation:
    random = np.random.default_rng(0)
    size, cameras = policy.config.image_encoder.image_size, policy.config.image_encoder.cameras
    images = random.integers(0, 256, (batch, cameras, size, size, 3), np.uint8)
    return ImageObservation(images, random.normal(size=(batch, policy.observation_size)).astype(np.float32))


class Scene:
    """What of a scene the sizes depend on."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr("rlgen.pipeline.policy.observation_size", lambda _: 31)


def count(tree) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def sizes(preset: str, monkeypatch, **change) -> dict[str, int]:
    """Parameters of a preset's parts."""
    config = expert_presets()[preset]
    config = dataclasses.replace(config, policy=dataclasses.replace(config.policy, **change))
    policy = make_policy(config, Scene(monkeypatch))
    net = jax.eval_shape(policy.init, jax.random.key(0))["net"]
    values = jax.eval_shape(make_critic(policy).init, jax.random.key(0))
    return {"encoder": count(net["encoder"]), "all": count(net) + count(values)}


def test_the_papers_policy_has_twelve_million_parameters(monkeypatch):
    assert 11e6 <= sizes("vision", monkeypatch)["all"] <= 13e6


def test_the_narrow_encoder_has_less_than_a_million(monkeypatch):
    assert sizes("narrow", monkeypatch)["encoder"] < 1e6


def test_the_compact_encoder_is_between_the_others_and_less_than_a_tenth_of_the_papers(monkeypatch):
    narrow, compact, paper = (sizes(name, monkeypatch)["encoder"] for name in ("narrow", "compact", "vision"))
    assert narrow < compact < 0.1 * paper


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        DiffusionPolicy(dataclasses.replace(CONFIG, image_encoder=VIT), **SIZES),
        GaussianPolicy(CONFIG, **SIZES),
    ],
    ids=["resnet", "vit", "gaussian"],
)
def test_both_cameras_and_the_robot_count_and_object_poses_do_not(policy):
    params, seen = init(policy, jax.random.key(0)), observe(policy)
    net = jax.tree.map(lambda leaf: leaf + 0.05 * jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape), params["net"])
    params = {**params, "net": net}
    encode = jax.jit(policy.encode)
    code = encode(params, seen)
    assert code.shape == (BATCH, policy.feature_size) and code.dtype == jnp.float32
    for camera in range(2):
        images = seen.images.copy()
        images[:, camera] = 255 - images[:, camera]
        changed = encode(params, seen._replace(images=images))
        assert (np.abs(changed - code).max(axis=1) > 1e-5).all()
    robot, poses = seen.vector.copy(), seen.vector.copy()
    robot[:, :2] += 1
    poses[:, 2:] += 1
    assert (np.abs(encode(params, seen._replace(vector=robot)) - code).max(axis=1) > 0.1).all()
    np.testing.assert_array_equal(encode(params, seen._replace(vector=poses)), code)


def test_an_observation_is_encoded_once_for_all_its_denoising_steps():
    """In sampling, and in the update, whose minibatches have whole chains: as many images as chunks."""
    seen_shapes = []

    class Spy(DiffusionPolicy):
        def encode(self, params, observation):
            seen_shapes.append(observation.images.shape[0])
            return super().encode(params, observation)

    policy = Spy(**{field.name: getattr(POLICY, field.name) for field in dataclasses.fields(POLICY)})
    critic, config = make_critic(policy), PPOConfig(environments=1, chunks=BATCH, batch=6)
    seen = observe()
    state = jax.jit(lambda params: init_state(jax.random.PRNGKey(0), policy, critic, params, config))(
        init(POLICY, jax.random.key(0))
    )
    drawn = jax.jit(policy.sample)({"net": state.net, "normalizer": state.normalizer}, jax.random.key(1), seen)
    assert seen_shapes == [BATCH]
    assert minibatch_shape(config, policy, BATCH) == (2, 2, 3)
    none = jnp.zeros(BATCH)
    samples = Samples(jax.tree.map(jnp.asarray, seen), drawn.chain, drawn.log_prob, jnp.arange(BATCH) * 1.0, none, none)
    rows, index = jnp.array([3, 1]), jnp.broadcast_to(jnp.arange(3), (2, 3))
    batch = jax.jit(select, static_argnums=(0, 1))(policy, config, samples, rows, index)
    seen_shapes.clear()
    loss = jax.jit(minibatch_loss, static_argnums=(0, 1, 2))
    _, metrics = loss(policy, critic, config, state, {"net": state.net, "critic": state.critic}, batch)
    assert seen_shapes == [2]
    assert float(metrics["ratio"]) == pytest.approx(1.0, abs=1e-5)
    assert batch.observation.images.dtype == jnp.uint8


def test_half_precision_is_near_single_and_parameters_stay_single():
    config = dataclasses.replace(CONFIG, compute_dtype="bfloat16", network="unet", dim=8, dim_mults=(1,))
    half = dataclasses.replace(POLICY, config=config)
    single = dataclasses.replace(POLICY, config=dataclasses.replace(config, compute_dtype="float32"))
    params, seen = init(half, jax.random.key(0)), observe()
    assert {leaf.dtype for leaf in jax.tree.leaves(params["net"])} == {jnp.dtype("float32")}
    x = jax.random.normal(jax.random.key(1), (BATCH, 4, 3))
    outputs = {}
    for policy in (half, single):

        @jax.jit
        def output(params, policy=policy):
            return policy.predictor(params["net"], policy.encode(params, seen))(x, jnp.zeros((), int))

        outputs[policy.config.compute_dtype] = output(params)
        assert outputs[policy.config.compute_dtype].dtype == jnp.float32
    scale = np.abs(outputs["float32"]).max()
    difference = np.abs(outputs["bfloat16"] - outputs["float32"]).max()
    assert 0 < difference < 0.05 * scale


def test_cloning_shifts_images_and_acting_does_not():
    seen = observe()
    moved = POLICY.augment(jax.random.key(0), seen, 3)
    assert moved.images.dtype == jnp.uint8 and (np.asarray(moved.images) != seen.images).any()
    np.testing.assert_array_equal(moved.vector, seen.vector)
    params = init(POLICY, jax.random.key(0))
    still = dataclasses.replace(CONFIG, image_encoder=dataclasses.replace(CONFIG.image_encoder, random_shift=0))
    acts = [jax.jit(policy.act) for policy in (POLICY, DiffusionPolicy(still, **SIZES))]
    np.testing.assert_array_equal(*(act(params, None, seen) for act in acts))
    assert (acts[0](params, None, moved) != acts[0](params, None, seen)).any()
