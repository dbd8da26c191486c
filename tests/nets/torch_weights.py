"""Carries torch state dictionaries over to this project's parameters, and gradients back."""

import re

import numpy as np

from rlgen.nets.mlp import ResidualMLP


def residual_mlp(state, prefix: str, activation: str = "mish"):
    """A residual MLP with its weights.

    Returns:
      The module, its parameters, and a function that gives a tree like them torch's names and layouts.
    """
    last = max(int(match[1]) for match in (re.match(rf"{prefix}\.layers\.(\d+)", name) for name in state) if match)
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


def flat_paths(tree, prefix=()):
    """Paths of all leaves of nested dictionaries."""
    for name, branch in tree.items():
        if isinstance(branch, dict):
            yield from flat_paths(branch, (*prefix, name))
        else:
            yield (*prefix, name)


def unet(state, config, leaves):
    """A U-Net's weights.

    Args:
      state: torch's state dictionary.
      config: its constructor's arguments.
      leaves: paths of this project's parameters.

    Returns:
      The parameters, and a function that gives a tree like them torch's names and layouts.
    """
    names = {path: unet_name(path, len(config["dim_mults"]), config) for path in leaves}
    params = {}
    for path, name in names.items():
        put(params, path, to_ours(name, path, state[name]))

    def to_torch(tree):
        return {name: to_theirs(name, path, get(tree, path)) for path, name in names.items()}

    return params, to_torch


def unet_name(path, levels: int, config) -> str:
    """Torch's name of a parameter of the U-Net."""
    module, leaf = path[0], {"kernel": "weight", "scale": "weight", "bias": "bias"}[path[-1]]
    if module == "time":
        return f"time_mlp.{ {'widen': 1, 'narrow': 3}[path[1]] }.{leaf}"
    if module == "observation":
        last = len(config["cond_mlp_dims"]) // 2
        inner = {"first": ".l1", "second": ".l2"}.get(path[2], "")
        layer = {"enter": 0, "leave": last}.get(path[1])
        layer = int(path[1].split("_")[1]) + 1 if layer is None else layer
        return f"cond_mlp.layers.{layer}{inner}.{leaf}"
    if module == "film":
        number, layer = map(int, re.match(r"block_(\d+)_layer_(\d+)", path[1]).groups())
        shallow = config.get("smaller_encoder", False) or "cond_mlp_dims" in config
        place = places(levels)[number // 2]
        return f"{place}.{number % 2}.cond_encoder.{1 if shallow else 2 * layer}.{leaf}".replace("..", ".")
    if module.startswith(("downsample", "upsample")):
        kind, level = module.split("_")
        stage = int(level) if kind == "downsample" else levels - 1 - int(level)
        return f"{'down' if kind == 'downsample' else 'up'}_modules.{stage}.2.conv.{leaf}"
    if module.startswith("last"):
        return f"final_conv.0.block.{0 if module.endswith('conv') else 2}.{leaf}"
    if module == "leave":
        return f"final_conv.1.{leaf}"
    place, number, part = re.match(r"(down_\d+|middle|up_\d+)_(\d)_(\w+)", module).groups()
    block = f"{torch_place(place, levels)}.{number}"
    if part == "shortcut":
        return f"{block}.residual_conv.{leaf}"
    which, kind = part.split("_")
    return f"{block}.blocks.{ {'first': 0, 'second': 1}[which] }.block.{0 if kind == 'conv' else 2}.{leaf}"


def places(levels: int) -> list[str]:
    """Torch's places of pairs of residual blocks, in the order in which a chunk meets them."""
    ours = [*(f"down_{level}" for level in range(levels)), "middle"]
    return [torch_place(place, levels) for place in [*ours, *(f"up_{level}" for level in range(levels - 1, 0, -1))]]


def torch_place(place: str, levels: int) -> str:
    if place == "middle":
        return "mid_modules"
    kind, level = place.split("_")
    return f"down_modules.{level}" if kind == "down" else f"up_modules.{levels - 1 - int(level)}"


def to_ours(name: str, path, array):
    """Torch keeps linear layers (out, in), convolutions (out, in, width), transposed ones (in, out, width)."""
    if array.ndim == 3:
        return array.transpose(2, 0, 1) if is_up(path) else array.transpose(2, 1, 0)
    return array.T if array.ndim == 2 else array


def to_theirs(name: str, path, array):
    array = np.asarray(array)
    if array.ndim == 3:
        return array.transpose(1, 2, 0) if is_up(path) else array.transpose(2, 1, 0)
    return array.T if array.ndim == 2 else array


def is_up(path) -> bool:
    return path[0].startswith("upsample")
