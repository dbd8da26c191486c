"""The vision networks of an independent implementation, with its weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.goldens import below, config, load
from nets.torch_vision import encoder_to_torch, image_encoder
from nets.torch_weights import flat_paths, residual_mlp, unet

from rlgen.configs.schema import ImageEncoderConfig
from rlgen.nets.image_encoder import ImageEncoder, Vit
from rlgen.nets.mlp import clamped_sigma
from rlgen.nets.unet1d import Unet1d

CASES = ["07_vision_img1", "07_vision_img2"]


def setting(case: str):
    """The file, its configuration, images of each camera in our layout, and the robot's state."""
    golden = load(case)
    numbers = config(golden)
    cameras = numbers["unet"]["num_img"]
    batch, _, channels, height, width = golden["rgb"].shape
    images = golden["rgb"].reshape(batch, cameras, channels // cameras, height, width).transpose(0, 1, 3, 4, 2)
    return golden, numbers, jnp.asarray(images), jnp.asarray(golden["state"]).reshape(batch, -1)


def encoder(numbers, part: str) -> ImageEncoder:
    vit = numbers["vit"]
    return ImageEncoder(
        ImageEncoderConfig(
            backbone="vit",
            token_size=vit["embed_dim"],
            depth=vit["depth"],
            heads=vit["num_heads"],
            embedding_size=numbers[part]["spatial_emb"],
        )
    )


def network(numbers) -> Unet1d:
    return Unet1d(
        numbers["action_dim"],
        numbers["dim"],
        tuple(numbers["dim_mults"]),
        numbers["diffusion_step_embed_dim"],
        numbers["kernel_size"],
        numbers["n_groups"],
        film_scale=numbers["cond_predict_scale"],
        film_deep=not numbers["smaller_encoder"],
    )


@pytest.mark.parametrize("case", CASES)
def test_unet_on_images_matches_golden(case):
    golden, numbers, images, robot = setting(case)
    cameras, state = numbers["unet"]["num_img"], below(golden, "unet_sd")
    module, net = encoder(numbers, "unet"), network(numbers["unet"])
    want = below(golden, "unet")
    x, timestep = jnp.asarray(want["x"]), jnp.asarray(want["t"])
    encoder_params = image_encoder(state, numbers["vit"], cameras)
    features = jax.jit(module.apply)({"params": encoder_params}, images, robot)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, timestep, features)["params"]
    net_params, to_torch = unet(state, numbers["unet"], flat_paths(shapes))
    params = {"encoder": encoder_params, "net": net_params}

    def loss(params, x):
        features = module.apply({"params": params["encoder"]}, images, robot)
        out = net.apply({"params": params["net"]}, x, timestep, features)
        return jnp.mean(jnp.square(out - want["target"])), out

    (value, out), (by_params, by_x) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, x)
    np.testing.assert_allclose(out, want["out"], atol=3e-6 * np.abs(want["out"]).max())
    np.testing.assert_allclose(value, want["mse"], rtol=2e-6)
    np.testing.assert_allclose(by_x, want["grad_x"], atol=1e-5 * np.abs(want["grad_x"]).max())
    grads = {**to_torch(by_params["net"]), **encoder_to_torch(by_params["encoder"], numbers["vit"]["depth"], cameras)}
    assert set(grads) == set(state)
    norms = [np.linalg.norm(np.asarray(grads[name], np.float64)) for name in golden["unet_param_names_sorted"]]
    np.testing.assert_allclose(norms, want["grad_norms_sorted_names"], rtol=5e-5, atol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_tokens_of_the_first_image_match_golden(case):
    golden, numbers, images, _ = setting(case)
    params = image_encoder(below(golden, "unet_sd"), numbers["vit"], numbers["unet"]["num_img"])["backbone"]
    backbone = Vit(numbers["vit"]["embed_dim"], numbers["vit"]["depth"], numbers["vit"]["num_heads"])
    found = jax.jit(backbone.apply)({"params": params}, images[:, 0])
    want = golden["unet/backbone_feat_img0"]
    np.testing.assert_allclose(found, want, atol=3e-6 * np.abs(want).max())


@pytest.mark.parametrize("case", CASES)
def test_critic_and_gaussian_on_images_match_golden(case):
    golden, numbers, images, robot = setting(case)
    cameras = numbers["unet"]["num_img"]

    def output(part: str, prefix: str, head: str):
        state = below(golden, prefix)
        encoder_params = image_encoder(state, numbers["vit"], cameras)
        features = jax.jit(encoder(numbers, part).apply)({"params": encoder_params}, images, robot)
        network, params, _ = residual_mlp(state, head)
        return network.apply({"params": params}, features)

    np.testing.assert_allclose(output("critic", "critic_sd", "Q1"), golden["critic/out"], atol=2e-6)
    np.testing.assert_allclose(jnp.tanh(output("gaussian", "gauss_sd", "mlp_mean")), golden["gauss/mean"], atol=2e-6)
    spread = numbers["gaussian"]
    sigma = clamped_sigma(golden["gauss_sd/logvar"], spread["std_min"], spread["std_max"])
    wide = np.broadcast_to(np.tile(sigma, spread["horizon_steps"]), golden["gauss/scale"].shape)
    np.testing.assert_allclose(wide, golden["gauss/scale"], rtol=2e-6)
