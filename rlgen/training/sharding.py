"""The placement of a training's arrays: parameters cut over `fsdp`, batches over `data` and `fsdp` together."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from rlgen.core.errors import UserError

Tree = TypeVar("Tree")
MIN_BYTES = 4 << 20
"""Smaller arrays stay whole on every device."""


def make_mesh(fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Makes a mesh `(data, fsdp)`.

    Args:
      fsdp: devices that share each parameter.
      devices: of JAX; all of all processes by default.

    Raises:
      UserError: `fsdp` does not divide the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    if fsdp < 1 or len(devices) % fsdp:
        raise UserError(f"--fsdp {fsdp} does not divide {len(devices)} devices; choose one that does")
    shape = (len(devices) // fsdp, fsdp)
    return Mesh(np.array(devices).reshape(shape), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def cut_spec(shape: tuple[int, ...], itemsize: int, fsdp: int) -> PartitionSpec:
    """Cuts the longest axis that `fsdp` divides; small arrays, and those without such an axis, stay whole.

    Args:
      shape: of the array.
      itemsize: bytes of an element.
      fsdp: number of pieces.
    """
    if fsdp == 1 or int(np.prod(shape)) * itemsize < MIN_BYTES:
        return PartitionSpec()
    fitting = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if not fitting:
        return PartitionSpec()
    longest = max(fitting, key=lambda axis: shape[axis])
    return PartitionSpec(*("fsdp" if axis == longest else None for axis in range(len(shape))))


def state_shardings(mesh: Mesh, state: PyTree) -> PyTree:
    """Returns a sharding for each leaf of a state, given as arrays or as `jax.eval_shape` gives them."""

    def sharding(leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, cut_spec(leaf.shape, leaf.dtype.itemsize, mesh.shape["fsdp"]))

    return jax.tree.map(sharding, state)


def abstract_state(state: Tree, shardings: PyTree) -> Tree:
    """Returns shapes, types and shardings of a state, to restore into; `state` as `jax.eval_shape` gives it."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)


def shard_batch(mesh: Mesh, rows: PyTree) -> PyTree:
    """Makes this process's rows part of a batch whose first axis is cut over all devices of all processes."""
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), rows)
