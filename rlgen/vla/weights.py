"""Where a model's parameters begin: fresh, a checkpoint, or PaliGemma with a fresh action expert."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from rlgen.vla import model
from rlgen.vla.config import VlaConfig
from rlgen.vla.openpi_params import read_params
from rlgen.vla.paligemma import read_paligemma
from rlgen.vla.param_groups import is_lora
from rlgen.vla.tree_diff import flat_names, nested


def expected_params(config: VlaConfig) -> PyTree:
    """Names, shapes and types of a model's parameters, without any array."""
    return jax.eval_shape(partial(model.init, config), jax.random.key(0))


def load_params(config: VlaConfig, path: Path, *, dtype: Any = None) -> PyTree:
    """A whole model's parameters from a checkpoint folder, as NumPy arrays.

    Args:
      config: the model; a checkpoint that differs from it is refused with what differs.
      path: openpi's or ours.
      dtype: of the result; serving uses bfloat16.
    """
    return read_params(path, expected_params(config), dtype=dtype)


def start_params(config: VlaConfig, source: Path | None, key: Array) -> PyTree:
    """float32 parameters to fine-tune from.

    Args:
      config: the model.
      source: a checkpoint folder, which may lack the adapters; PaliGemma's npz; None for fresh parameters.
      key: of what is fresh.
    """
    if source is None:
        return model.init(config, key)
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


def _fresh(config: VlaConfig, key: Array, names: set[str]) -> dict[str, Array]:
    """Fresh values of some parameters; the others are not kept."""
    make = jax.jit(lambda key: {n: v for n, v in flat_names(model.init(config, key)).items() if n in names})
    return make(key)
