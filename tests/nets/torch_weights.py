"""Carries torch state dictionaries over to this project's parameters, and gradients back."""

import re

import numpy as np

from rlgen.nets.mlp import ResidualMLP


def residual_mlp(state, prefix: str, activation: str = "mish"):
    """A residual perceptron with its weights.

    Returns:
      The module, its parameters, and a function that gives a tree like them torch's names and layouts.
    """
    state = {name: array for name, array in state.items() if name.startswith(f"{prefix}.layers.")}
    last = max(int(re.match(rf"{prefix}\.layers\.(\d+)", name)[1]) for name in state)
    paths = {f"{prefix}.layers.0": ("enter",), f"{prefix}.layers.{last}": ("leave",)}
    for number in range(last - 1):
        for theirs, ours in (("l1", "first"), ("l2", "second")):
            paths[f"{prefix}.layers.{number + 1}.{theirs}"] = (f"block_{number}", ours)
    width, size_out = len(state[f"{prefix}.layers.0.bias"]), len(state[f"{prefix}.layers.{last}.bias"])
    module = ResidualMLP((width,) * (2 * last - 1), size_out, activation)
    params = {}
    for name, path in paths.items():
        put(params, path, dense(state, name))
    return module, params, lambda tree: named(tree, paths)


def dense(state, name: str):
    """A linear layer: torch keeps (out, in)."""
    return {"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]}


def put(params, path, leaf) -> None:
    """Sets a leaf of nested dictionaries."""
    *parents, last = path
    for parent in parents:
        params = params.setdefault(parent, {})
    params[last] = leaf


def get(params, path):
    """A leaf of nested dictionaries."""
    for part in path:
        params = params[part]
    return params


def named(tree, paths):
    """Linear layers under torch's names and in its layout."""
    arrays = {}
    for name, path in paths.items():
        layer = get(tree, path)
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = np.asarray(layer["kernel"]).T, layer["bias"]
    return arrays
