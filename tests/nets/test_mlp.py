import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.goldens import below, config, load
from nets.torch_weights import dense, get, put

from rlgen.nets.mlp import DiffusionMLP, ResidualMLP

PATHS = {
    "time_embedding.1": ("time", "widen"),
    "time_embedding.3": ("time", "narrow"),
    "mlp_mean.layers.0": ("enter",),
}


def paths(state) -> dict[str, tuple[str, ...]]:
    """Where each of torch's linear layers is kept here."""
    last = max(int(name.split(".")[2]) for name in state if name.startswith("mlp_mean"))
    blocks = {
        f"mlp_mean.layers.{number + 1}.{theirs}": (f"block_{number}_{ours}",)
        for number in range(last - 1)
        for theirs, ours in (("l1", "first"), ("l2", "second"))
    }
    return {**PATHS, **blocks, f"mlp_mean.layers.{last}": ("leave",)}


def test_diffusion_mlp_matches_golden():
    golden = load("07_diffusion_mlp")
    numbers, state = config(golden), below(golden, "sd")
    net = DiffusionMLP(numbers["action_dim"], tuple(numbers["mlp_dims"]), numbers["time_dim"])
    names, params = paths(state), {}
    for name, path in names.items():
        put(params, path, dense(state, name))
    x, seen = jnp.asarray(golden["x"]), jnp.asarray(golden["state"]).reshape(len(golden["state"]), -1)

    def loss(params, x):
        out = net.apply({"params": params}, x, jnp.asarray(golden["t"]), seen)
        return jnp.mean(jnp.square(out - golden["target"])), out

    (value, out), (by_params, by_x) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)
    np.testing.assert_allclose(out, golden["out"], atol=2e-6 * np.abs(golden["out"]).max())
    np.testing.assert_allclose(value, golden["mse"], rtol=1e-6)
    np.testing.assert_allclose(by_x, golden["grad_x"], atol=5e-6 * np.abs(golden["grad_x"]).max())
    norms = {}
    for name, path in names.items():
        layer = get(by_params, path)
        norms[f"{name}.weight"], norms[f"{name}.bias"] = np.linalg.norm(layer["kernel"]), np.linalg.norm(layer["bias"])
    ours = [norms[name] for name in golden["param_names_sorted"]]
    np.testing.assert_allclose(ours, golden["grad_norms_sorted_names"], rtol=1e-5)


def test_hidden_widths_must_pair_up():
    with pytest.raises(ValueError, match="odd number of equal"):
        ResidualMLP((16, 16), 1).init(jax.random.key(0), jnp.zeros((1, 3)))
