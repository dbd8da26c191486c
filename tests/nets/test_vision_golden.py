"""The vision networks of an independent implementation, with its weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dppo import GRADIENTS, OUTPUTS, agree, config, files, in_both, load
from nets.torch_vision import encoder_to_torch, image_encoder
from nets.torch_weights import flat_paths, residual_mlp, unet
from sampling import less

from rlgen.configs.schema import ImageEncoderConfig
from rlgen.nets.image_encoder import ImageEncoder, Vit
from rlgen.nets.mlp import clamped_sigma
from rlgen.nets.unet1d import Unet1d

CASES = files("07_vision_*")


class Case:
    """The file, its configuration, images of each camera in our layout, and the robot's state."""

    def __init__(self, name: str):
        self.golden = load(name)
        self.numbers = config(self.golden)
        self.cameras = self.numbers["unet"]["num_img"]
        batch, _, channels, height, width = self.golden["rgb"].shape
        images = self.golden["rgb"].reshape(batch, self.cameras, channels // self.cameras, height, width)
        self.images = images.transpose(0, 1, 3, 4, 2)
        self.robot = self.golden["state"].reshape(batch, -1)

    def encode(self, part: str, params, images, robot):
        """The features of one network's encoder, in the precision of its parameters."""
        vit = self.numbers["vit"]
        settings = ImageEncoderConfig(
            backbone="vit",
            token_size=vit["embed_dim"],
            depth=vit["depth"],
            heads=vit["num_heads"],
            embedding_size=self.numbers[part]["spatial_emb"],
        )
        return ImageEncoder(settings, params["backbone"]["position"].dtype).apply({"params": params}, images, robot)

    def network(self) -> Unet1d:
        numbers = self.numbers["unet"]
        return Unet1d(
            numbers["action_dim"],
            numbers["dim"],
            tuple(numbers["dim_mults"]),
            numbers["diffusion_step_embed_dim"],
            numbers["kernel_size"],
            numbers.get("n_groups"),
            film_scale=numbers["cond_predict_scale"],
            film_deep=not numbers["smaller_encoder"],
        )


# By default with the most cameras.
@pytest.fixture(params=less(CASES, CASES[:-1]))
def case(request) -> Case:
    return Case(request.param)


def test_unet_on_images_matches_golden(case):
    golden, numbers, net = case.golden, case.numbers, case.network()
    state, want = golden.below("unet_sd"), golden.below("unet")
    encoder_params = image_encoder(state, numbers["vit"], case.cameras)
    chunk, encode = jnp.zeros(want["x"].shape), partial(case.encode, "unet")
    features = jax.eval_shape(encode, encoder_params, case.images, case.robot)
    shapes = jax.eval_shape(net.init, jax.random.key(0), chunk, jnp.zeros((), int), features)["params"]
    net_params, to_torch = unet(state, numbers["unet"], flat_paths(shapes))

    def run(params, images, robot, x, timestep, target):
        def loss(params, x):
            features = encode(params["encoder"], images, robot)
            out = net.apply({"params": params["net"]}, x, timestep, features)
            return jnp.mean(jnp.square(out - target)), out

        (value, out), (by_params, by_x) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)
        return {"out": out, "mse": value, "grad_x": by_x}, by_params

    params = {"encoder": encoder_params, "net": net_params}
    inputs = (case.images, case.robot, want["x"], want["t"], want["target"])
    (single, by_params), (exact, exact_by_params) = in_both(run, params, *inputs)
    for key, allowed in (("out", OUTPUTS), ("mse", OUTPUTS), ("grad_x", GRADIENTS)):
        agree(single[key], exact[key], want[key], allowed, key, relative=True)
    single, exact = (
        to_torch(tree["net"]) | encoder_to_torch(tree["encoder"], numbers["vit"]["depth"], case.cameras)
        for tree in (by_params, exact_by_params)
    )
    assert set(single) == set(state) == set(golden["unet_param_names_sorted"])
    for key, norm in zip(golden["unet_param_names_sorted"], want["grad_norms_sorted_names"], strict=True):
        ours = (np.linalg.norm(np.asarray(tree[key], np.float64)) for tree in (single, exact))
        agree(*ours, norm, GRADIENTS, key, relative=True)


def test_tokens_of_the_first_image_match_golden(case):
    vit = case.numbers["vit"]
    params = image_encoder(case.golden.below("unet_sd"), vit, case.cameras)["backbone"]

    def tokens(params, images):
        backbone = Vit(vit["embed_dim"], vit["depth"], vit["num_heads"], params["position"].dtype)
        return backbone.apply({"params": params}, images)

    found = in_both(tokens, params, case.images[:, 0])
    agree(*found, case.golden["unet/backbone_feat_img0"], OUTPUTS, relative=True)


@pytest.mark.parametrize(
    ("part", "prefix", "head", "key"),
    [("critic", "critic_sd", "Q1", "critic/out"), ("gaussian", "gauss_sd", "mlp_mean", "gauss/mean")],
)
def test_mlps_on_images_match_golden(case, part, prefix, head, key):
    state = case.golden.below(prefix)
    encoder_params = image_encoder(state, case.numbers["vit"], case.cameras)
    network, params, _ = residual_mlp(state, head, case.numbers[part].get("activation_type", "Mish").lower())

    def output(encoder, params, images, robot):
        out = network.apply({"params": params}, case.encode(part, encoder, images, robot))
        return jnp.tanh(out) if part == "gaussian" else out

    found = in_both(output, encoder_params, params, case.images, case.robot)
    agree(*found, case.golden[key], OUTPUTS, relative=True)


def test_standard_deviations_on_images_match_golden(case):
    numbers, state = case.numbers["gaussian"], case.golden.below("gauss_sd")
    limits = numbers["std_min"], numbers["std_max"]
    np.testing.assert_allclose([state["logvar_min"], state["logvar_max"]], 2 * np.log(limits), rtol=1e-6)
    want = case.golden["gauss/scale"]

    def scale(log_variance):
        return jnp.broadcast_to(jnp.tile(clamped_sigma(log_variance, *limits), numbers["horizon_steps"]), want.shape)

    agree(*in_both(scale, state["logvar"]), want, OUTPUTS, relative=True)
