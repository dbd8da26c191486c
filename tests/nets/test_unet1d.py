import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.goldens import below, config, load
from nets.torch_weights import flat_paths, unet

from rlgen.nets.unet1d import Unet1d

CASES = ["film_large", "bias_small", "condmlp_relu"]


def network(numbers, flat: bool | None) -> Unet1d:
    """This project's U-Net with the constructor arguments of the other one."""
    widths = numbers.get("cond_mlp_dims")
    return Unet1d(
        action_size=numbers["action_dim"],
        dim=numbers["dim"],
        mults=tuple(numbers["dim_mults"]),
        time_size=numbers["diffusion_step_embed_dim"],
        width=numbers["kernel_size"],
        groups=numbers["n_groups"],
        epsilon=numbers.get("groupnorm_eps", 1e-5),
        film_scale=numbers["cond_predict_scale"],
        film_deep=not numbers.get("smaller_encoder", False),
        condition_widths=None if widths is None else tuple(widths),
        activation=numbers.get("activation_type", "Mish").lower(),
        flat=flat,
    )


def quickly(function, *inputs):
    """The compiled function, at the lowest effort: compilation is most of a test's time."""
    return jax.jit(function).lower(*inputs).compile(compiler_options={"xla_backend_optimization_level": 0})


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "rows"])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_match_golden(case, flat):
    golden = load(f"07_unet1d_{case}")
    numbers, state = config(golden), below(golden, "sd")
    net, seen = network(numbers, flat), jnp.asarray(golden["state"]).reshape(len(golden["state"]), -1)
    lengths = sorted(int(key[1:-2]) for key in golden if key.startswith("h") and key.endswith("/x"))
    want = below(golden, f"h{lengths[0] if flat else lengths[-1]}")
    x, timestep = jnp.asarray(want["x"]), jnp.asarray(want["t"])
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, timestep, seen)["params"]
    params, to_torch = unet(state, numbers, flat_paths(shapes))
    assert set(to_torch(params)) == set(state)

    def loss(params, x):
        out = net.apply({"params": params}, x, timestep, seen)
        return jnp.mean(jnp.square(out - want["target"])), out

    gradient = jax.value_and_grad(loss, (0, 1), has_aux=True)
    (value, out), (by_params, by_x) = quickly(gradient, params, x)(params, x)
    np.testing.assert_allclose(out, want["out"], atol=2e-6 * np.abs(want["out"]).max())
    np.testing.assert_allclose(value, want["mse"], rtol=1e-6)
    np.testing.assert_allclose(by_x, want["grad_x"], atol=1e-5 * np.abs(want["grad_x"]).max())
    grads = to_torch(by_params)
    for name, grad in below(want, "grad").items():
        np.testing.assert_allclose(grads[name], grad, atol=1.2e-5 * np.abs(grad).max(), err_msg=name)
    norms = [np.linalg.norm(grads[name].astype(np.float64)) for name in golden["param_names_sorted"]]
    np.testing.assert_allclose(norms, want["grad_norms_sorted_names"], rtol=2e-5)


@pytest.mark.parametrize("case", CASES[:1])
def test_one_timestep_for_all_matches_golden(case):
    golden = load(f"07_unet1d_{case}")
    numbers, state = config(golden), below(golden, "sd")
    seen = jnp.asarray(golden["state"]).reshape(len(golden["state"]), -1)
    [key] = [key for key in golden if "_scalar_t" in key]
    length, timestep = map(int, re.match(r"h(\d+)_scalar_t(\d+)/", key).groups())
    x, net = jnp.asarray(golden[f"h{length}/x"]), network(numbers, flat=None)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, jnp.asarray(timestep), seen)["params"]
    params, _ = unet(state, numbers, flat_paths(shapes))

    def output(params):
        return net.apply({"params": params}, x, jnp.asarray(timestep), seen)

    out = quickly(output, params)(params)
    np.testing.assert_allclose(out, golden[key], atol=2e-6 * np.abs(golden[key]).max())


def test_a_chunk_that_does_not_halve_is_refused():
    net = Unet1d(mults=(1, 2, 4))
    with pytest.raises(ValueError, match="6 actions with 3 levels"):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 6, 7)), jnp.zeros((), int), jnp.zeros((1, 3)))
