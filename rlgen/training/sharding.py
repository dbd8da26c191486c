"""The placement of a training's arrays: parameters cut over `fsdp`, batches over `data` and `fsdp` together.

Where a function takes `mesh: Mesh | None`, None is one device: arrays are left where they are, and nothing is cut.
Random values are drawn for whole batches and then cut, so that they do not depend on the number of devices.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree, Shaped

from rlgen.core.errors import UserError

Tree = TypeVar("Tree")
_ROWS = PartitionSpec(("data", "fsdp"))
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


def first_devices(count: int) -> list[Any]:
    """Returns the first devices of every process, all processes alike.

    Args:
      count: of each process.

    Raises:
      UserError: a process has fewer.
    """
    by_process: dict[int, list[Any]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    least = min(map(len, by_process.values()))
    if count > least:
        raise UserError(f"--devices {count}: expected at most {least}, those of a process")
    return [device for process in sorted(by_process) for device in by_process[process][:count]]


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


def shard_batch(mesh: Mesh | None, rows: Tree) -> Tree:
    """Makes this process's rows part of a batch whose first axis is cut over all devices of all processes."""
    if mesh is None:
        return rows
    sharding = NamedSharding(mesh, _ROWS)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), rows)


def row_indices(mesh: Mesh | None, count: int) -> Int[np.ndarray, " n"]:
    """Returns which of `count` rows, cut over all devices, are on this process, in the order of `shard_batch`."""
    if mesh is None:
        return np.arange(count)
    places = NamedSharding(mesh, _ROWS).addressable_devices_indices_map((count,))
    starts = sorted({slices[0].indices(count)[:2] for slices in places.values() if slices is not None})
    return np.concatenate([np.arange(start, stop) for start, stop in starts])


def rows_here(tree: Tree) -> Tree:
    """Returns this process's rows of arrays as NumPy arrays, the reverse of `shard_batch`; of others, all of them."""

    def here(array: Any) -> np.ndarray:
        if not isinstance(array, jax.Array) or array.is_fully_addressable:
            return np.asarray(array)
        parts = {shard.index[0].indices(len(array))[0]: shard.data for shard in array.addressable_shards}
        return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])

    return jax.tree.map(here, tree)


def replicate(mesh: Mesh | None, tree: PyTree) -> Any:
    """Puts whole arrays on every device; every process gives the same."""
    return tree if mesh is None else _put(tree, jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), tree))


def place_state(mesh: Mesh | None, state: Tree) -> Tree:
    """Puts a state on the devices of a mesh, each array cut as `state_shardings` says; every process gives the same."""
    return state if mesh is None else _put(state, state_shardings(mesh, state))


def _put(tree: Tree, shardings: PyTree) -> Tree:
    def put(leaf: Any, sharding: NamedSharding) -> Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree, shardings)


def restore_target(mesh: Mesh | None, state: Tree) -> Tree:
    """Returns what `Checkpoints.restore` reads a state of a mesh into, whatever devices it was saved on.

    Args:
      mesh: of the training that goes on.
      state: arrays, or as `jax.eval_shape` gives them.
    """
    return state if mesh is None else abstract_state(state, state_shardings(mesh, state))


def one_copy(mesh: Mesh | None, tree: Tree) -> Tree:
    """Returns arrays of a mesh whole on one device of this process; every process calls it."""
    if mesh is None:
        return tree
    whole = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))(tree)
    return jax.tree.map(lambda array: array.addressable_data(0), whole)


def cut_rows(mesh: Mesh | None, tree: Tree) -> Tree:
    """Returns arrays of a compiled function with their first axis cut over all devices."""
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, _ROWS))


def cut_state(mesh: Mesh | None, state: Tree) -> Tree:
    """Returns a state within a compiled function with every array cut as `state_shardings` says."""
    return state if mesh is None else jax.lax.with_sharding_constraint(state, state_shardings(mesh, state))


def map_rows(mesh: Mesh | None, function: Callable[[Any, Any], Tree]) -> Callable[[Any, Any], Tree]:
    """Returns a function of `(whole, rows)` that every device computes for its own rows.

    For functions that go through rows one after the other, which a compiler does not divide among devices.

    Args:
      mesh: devices.
      function: of a pytree that every device needs whole, and one with a first axis that is cut; returns the latter.
    """
    if mesh is None:
        return function
    specs = (PartitionSpec(), _ROWS)
    # What is replicated is not tracked: nothing is differentiated here.
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=_ROWS, check_vma=False)


def take_rows(mesh: Mesh | None, array: Shaped[Array, "M ..."], index: Int[Array, "b ..."]) -> Shaped[Array, "b ..."]:
    """Returns rows of an array that is cut over devices, which the devices exchange; the result is cut as well.

    Every device receives its share of the rows and nothing else.

    Args:
      mesh: devices.
      array: M rows.
      index: of each wanted row, from 0 to M - 1.
    """
    if mesh is None:
        return array[index]

    def take(index: Array, here: Array) -> Array:
        first = jax.lax.axis_index(_ROWS[0]) * here.shape[0]
        inside = (index >= first) & (index < first + here.shape[0])
        found = here[jnp.where(inside, index - first, 0)]
        # Of each row all but one of the summands are 0.
        mine = jnp.where(inside.reshape(inside.shape + (1,) * (here.ndim - 1)), found, 0)
        return jax.lax.psum_scatter(mine, _ROWS[0], scatter_dimension=0, tiled=True)

    return map_rows(mesh, take)(index, array)


def check_divides(mesh: Mesh | None, setting: str, value: int, count: int, unit: int = 1) -> None:
    """Checks that rows can be cut over the devices of a mesh.

    Args:
      mesh: devices.
      setting: name of the setting that the number of rows follows from.
      value: of the setting.
      count: rows.
      unit: how much of the setting makes a row.

    Raises:
      UserError: there is a rest.
    """
    if mesh is not None and count % mesh.size:
        raise UserError(
            f"{setting} {value} on {mesh.size} devices: expected a multiple of {unit * mesh.size}; "
            "change it, or take another number of devices"
        )
