"""The parameters of a model from any source: a checkpoint folder, PaliGemma's own npz, or fresh.

PaliGemma's npz has names such as `params/llm/layers/attn/q_einsum/w`.
"""

import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from rlgen.core.errors import UserError
from rlgen.core.files import expanded
from rlgen.vla.checkpoints.openpi import check_leaf, check_params, read_params
from rlgen.vla.model import pi0
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.model.parameters import compare, flat_names, is_action_expert, is_lora, nested, tree_shapes

PREFIX, OURS = "params/", "PaliGemma/"


def expected_params(config: VlaConfig) -> PyTree:
    """Returns names, shapes and types of a model's parameters, without any array."""
    return jax.eval_shape(partial(pi0.init, config), jax.random.key(0))


def load_params(config: VlaConfig, path: Path, *, dtype: Any = None) -> PyTree:
    """Reads a whole model's parameters from a checkpoint folder, as NumPy arrays.

    Args:
      config: the model; a checkpoint that differs from it is refused with what differs.
      path: openpi's or ours.
      dtype: of the result; as stored by default.
    """
    return read_params(path, expected_params(config), dtype=dtype)


def start_params(config: VlaConfig, source: Path | None, key: Array) -> PyTree:
    """Returns float32 parameters to fine-tune from.

    Args:
      config: the model.
      source: a checkpoint folder, which may lack the adapters; PaliGemma's npz; None for fresh parameters.
      key: of what is fresh.
    """
    if source is None:
        return pi0.init(config, key)
    expected = expected_params(config)
    if Path(source).suffix == ".npz":
        read = read_paligemma(source, expected)
    else:
        read = read_params(source, expected, optional=is_lora, dtype=jnp.float32)
    found = {name: jnp.asarray(leaf, jnp.float32) for name, leaf in flat_names(read).items()}
    missing = set(flat_names(expected)) - set(found)
    if missing:
        found |= _fresh(config, key, missing)
    return nested({name: found[name] for name in flat_names(expected)})


def check_weights(config: VlaConfig, source: Path) -> None:
    """Checks that weights are a model's, by their names and shapes, as `start_params` does before it reads them.

    Args:
      config: the model.
      source: a checkpoint folder, or PaliGemma's npz.

    Raises:
      UserError: they are not, or cannot be read.
    """
    expected = expected_params(config)
    if source.suffix == ".npz":
        _paligemma_names(expanded(source), expected)
    else:
        check_params(source, expected, optional=is_lora)


def _fresh(config: VlaConfig, key: Array, names: set[str]) -> dict[str, Array]:
    """Returns fresh values of some parameters; the others are not kept."""
    make = jax.jit(lambda key: {n: v for n, v in flat_names(pi0.init(config, key)).items() if n in names})
    return make(key)


def backbone_names(expected: PyTree) -> dict[str, tuple[int, ...]]:
    """Returns names and shapes of PaliGemma's part of a model: the image encoder and the first expert, no adapters."""
    shapes = tree_shapes(expected)
    theirs = [n for n in shapes if n.startswith(OURS) and not (is_action_expert(n) or is_lora(n))]
    return {name: shapes[name] for name in theirs}


def read_paligemma(path: Path, expected: PyTree) -> PyTree:
    """Reads the leaves that `backbone_names` lists, strictly; shapes are checked before anything is read.

    Raises:
      UserError: no such file, another model, or damaged data; names the leaves.
    """
    path = expanded(path)
    renamed = _paligemma_names(path, expected)
    flat: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as archive:
        for ours, theirs in renamed.items():
            try:
                flat[ours] = archive[theirs]
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                raise UserError(f"{path}: {theirs} cannot be read ({error}); fetch the file again") from error
            check_leaf(flat[ours], f"{path}: {theirs}")
    return nested(flat)


def _paligemma_names(path: Path, expected: PyTree) -> dict[str, str]:
    """Returns the npz's name of each leaf by ours; `UserError` where it is not of this model."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = {info.filename.removesuffix(".npy"): _shape(archive, info) for info in archive.infolist()}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable npz ({error}); fetch PaliGemma's weights again") from error
    renamed = {OURS + name.removeprefix(PREFIX): name for name in found if name.startswith(PREFIX)}
    difference = compare({ours: found[theirs] for ours, theirs in renamed.items()}, backbone_names(expected))
    if difference:
        raise UserError(f"{path} does not hold this model's PaliGemma: {difference}")
    return renamed


def _shape(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[int, ...]:
    """Reads the shape of an array from the first bytes of its entry."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(file)[0]
