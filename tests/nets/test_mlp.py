import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dppo import GRADIENTS, OUTPUTS, agree, config, in_both, load
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
    numbers, state = config(golden), golden.below("sd")
    act = numbers["activation_type"].lower()
    net = DiffusionMLP(numbers["action_dim"], tuple(numbers["mlp_dims"]), numbers["time_dim"], act)
    names, params = paths(state), {}
    for name, path in names.items():
        put(params, path, dense(state, name))

    def run(params, x, timestep, seen, target):
        def loss(params, x):
            out = net.apply({"params": params}, x, timestep, seen.reshape(len(seen), -1))
            return jnp.mean(jnp.square(out - target)), out

        (value, out), (by_params, by_x) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)
        return {"out": out, "mse": value, "grad_x": by_x}, by_params

    inputs = (golden[name] for name in ("x", "t", "state", "target"))
    (single, by_params), (exact, exact_by_params) = in_both(run, params, *inputs)
    for name, allowed in (("out", OUTPUTS), ("mse", OUTPUTS), ("grad_x", GRADIENTS)):
        agree(single[name], exact[name], golden[name], allowed, name, relative=True)
    single, exact = (norms(tree, names) for tree in (by_params, exact_by_params))
    assert set(single) == set(golden["param_names_sorted"]) == set(state)
    for name, want in zip(golden["param_names_sorted"], golden["grad_norms_sorted_names"], strict=True):
        agree(single[name], exact[name], want, GRADIENTS, name, relative=True)
    for name, want in golden.below("grad").items():
        layer, leaf = name.rsplit(".", 1)
        part = "kernel" if leaf == "weight" else "bias"
        ours = (get(tree, names[layer])[part].T for tree in (by_params, exact_by_params))
        agree(*ours, want, GRADIENTS, name, relative=True)


def norms(tree, names) -> dict[str, np.ndarray]:
    """Norms of layers, by torch's names."""
    layers = {name: get(tree, path) for name, path in names.items()}
    return {
        f"{name}.{theirs}": np.linalg.norm(np.asarray(layer[ours], np.float64))
        for name, layer in layers.items()
        for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
    }


def test_hidden_widths_must_pair_up():
    with pytest.raises(ValueError, match="odd number of equal"):
        ResidualMLP((16, 16), 1).init(jax.random.key(0), jnp.zeros((1, 3)))
