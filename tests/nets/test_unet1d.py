import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dppo import GRADIENTS, OUTPUTS, agree, config, exact, files, in_both, load, near
from nets.torch_weights import flat_paths, unet
from sampling import less

from rlgen.configs.schema import PolicyConfig
from rlgen.core.errors import UserError
from rlgen.nets.unet1d import Unet1d

CASES = files("07_unet1d_*")


def network(numbers, flat: bool | None) -> Unet1d:
    """This project's U-Net with the constructor arguments of the other one."""
    widths = numbers.get("cond_mlp_dims")
    return Unet1d(
        action_size=numbers["action_dim"],
        dim=numbers["dim"],
        mults=tuple(numbers["dim_mults"]),
        time_size=numbers["diffusion_step_embed_dim"],
        width=numbers["kernel_size"],
        groups=numbers.get("n_groups"),
        epsilon=numbers.get("groupnorm_eps", 1e-5),
        film_scale=numbers["cond_predict_scale"],
        film_deep=not numbers.get("smaller_encoder", False),
        condition_widths=None if widths is None else tuple(widths),
        activation=numbers.get("activation_type", "Mish").lower(),
        flat=flat,
    )


class Case:
    """A network with the reference's weights, and its arrays."""

    def __init__(self, name: str, length: int, flat: bool | None):
        self.golden = load(name)
        self.numbers, state = config(self.golden), self.golden.below("sd")
        self.net = network(self.numbers, flat)
        chunk = jnp.zeros((1, length, self.numbers["action_dim"]))
        seen = jnp.zeros((1, self.golden["state"][0].size))
        shapes = jax.eval_shape(self.net.init, jax.random.key(0), chunk, jnp.zeros((), int), seen)["params"]
        self.params, self.to_torch = unet(state, self.numbers, flat_paths(shapes))
        assert set(self.to_torch(self.params)) == set(state)

    def output(self, params, x, timestep, seen):
        return self.net.apply({"params": params}, x, timestep, seen.reshape(len(seen), -1))


def lengths(name: str) -> list[int]:
    """Lengths of the chunks that a case has gradients of."""
    found = {re.fullmatch(r"h(\d+)/mse", key) for key in load(name)}
    return sorted(int(match[1]) for match in found if match)


# Each layout with the chunks that it is for; by default one network in each.
NETWORKS = [(name, layout) for name in CASES for layout in ("flat", "rows")]
DEFAULT = [NETWORKS[3], NETWORKS[4]]


@pytest.mark.parametrize(
    "network", less(NETWORKS, [network for network in NETWORKS if network not in DEFAULT]), ids="-".join
)
def test_output_and_gradients_match_golden(network):
    name, layout = network
    flat, length = layout == "flat", lengths(name)[0 if layout == "flat" else -1]
    case = Case(name, length, flat)
    golden, want = case.golden, case.golden.below(f"h{length}")

    def run(params, x, timestep, seen, target):
        def loss(params, x):
            out = case.output(params, x, timestep, seen)
            return jnp.mean(jnp.square(out - target)), out

        (value, out), (by_params, by_x) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)
        return {"out": out, "mse": value, "grad_x": by_x}, by_params

    inputs = (want["x"], want["t"], golden["state"], want["target"])
    (single, by_params), (precise, exact_by_params) = in_both(run, case.params, *inputs)
    for key, allowed in (("out", OUTPUTS), ("mse", OUTPUTS), ("grad_x", GRADIENTS)):
        agree(single[key], precise[key], want[key], allowed, key, relative=True)
    grads, exact_grads = case.to_torch(by_params), case.to_torch(exact_by_params)
    assert len(want.below("grad"))
    for key, grad in want.below("grad").items():
        agree(grads[key], exact_grads[key], grad, GRADIENTS, key, relative=True)
    for key, norm in zip(golden["param_names_sorted"], want["grad_norms_sorted_names"], strict=True):
        ours = (np.linalg.norm(np.asarray(tree[key], np.float64)) for tree in (grads, exact_grads))
        agree(*ours, norm, GRADIENTS, key, relative=True)


@pytest.mark.parametrize("name", CASES)
def test_one_timestep_for_all_matches_golden(name):
    found = [re.fullmatch(r"h(\d+)_scalar_t(\d+)/out", key) for key in load(name)]
    [(length, timestep)] = [map(int, match.groups()) for match in found if match]
    case = Case(name, length, flat=None)
    inputs = (case.golden[f"h{length}/x"], np.asarray(timestep), case.golden["state"])
    # How it rounds is tested above.
    near(
        exact(case.output, case.params, *inputs),
        case.golden[f"h{length}_scalar_t{timestep}/out"],
        OUTPUTS,
        relative=True,
    )


def test_a_chunk_that_does_not_halve_is_refused():
    net = Unet1d(mults=(1, 2, 4))
    with pytest.raises(ValueError, match="6 actions with 3 levels"):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 6, 7)), jnp.zeros((), int), jnp.zeros((1, 3)))


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "rows"])
def test_without_groups_nothing_is_normalized(flat):
    net = Unet1d(3, dim=6, time_size=8, groups=None, activation="relu", flat=flat)
    x, seen = jax.random.normal(jax.random.key(0), (2, 4, 3)), jnp.ones((2, 5))
    shapes = jax.eval_shape(net.init, jax.random.key(1), x, jnp.zeros((), int), seen)["params"]
    random = np.random.default_rng(0)
    # Without biases; kernels as large as a fresh network's.
    params = jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * (leaf.ndim > 1) / 4, jnp.float32), shapes
    )
    assert not [path for path in flat_paths(params) if path[0].endswith("_norm")]
    # Without a shift by the observation every layer scales with the chunk.
    film = jax.tree.map(jnp.zeros_like, params["film"])
    for name, block in film.items():
        block["bias"] = jnp.concatenate([jnp.ones(len(block["bias"]) // 2), jnp.zeros(len(block["bias"]) // 2)])
        assert name.endswith("_layer_0")
    output = jax.jit(lambda x: net.apply({"params": {**params, "film": film}}, x, jnp.zeros((), int), seen))
    np.testing.assert_allclose(output(4 * x), 4 * output(x), rtol=1e-5, atol=1e-6)
    assert np.abs(output(x)).max() > 1e-3


def test_groups_that_do_not_divide_the_channels_are_refused():
    assert PolicyConfig(norm_groups=4, dim=12).norm_groups == 4
    assert PolicyConfig(norm_groups=None, dim=7).norm_groups is None
    with pytest.raises(UserError, match=r"norm_groups 8 of \[12, 24\] channels: expected a divisor, or None"):
        PolicyConfig(dim=12)
