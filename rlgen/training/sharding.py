"""Where arrays of a training lie: parameters cut over `fsdp`, batches over `data` and `fsdp` together."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from rlgen.core.errors import UserError

MIN_BYTES = 4 << 20


def make_mesh(fsdp: int = 1) -> Mesh:
    """All devices of all processes as `(data, fsdp)`.

    Raises:
      UserError: `fsdp` does not divide the number of devices.
    """
    devices = jax.devices()
    if fsdp < 1 or len(devices) % fsdp:
        raise UserError(f"--fsdp {fsdp} does not divide {len(devices)} devices; choose one that does")
    shape = (len(devices) // fsdp, fsdp)
    return Mesh(np.array(devices).reshape(shape), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def cut_spec(shape: tuple[int, ...], itemsize: int, fsdp: int) -> PartitionSpec:
    """Cuts the longest axis that `fsdp` divides; small arrays and odd ones stay whole on every device."""
    if fsdp == 1 or int(np.prod(shape)) * itemsize < MIN_BYTES:
        return PartitionSpec()
    fitting = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if not fitting:
        return PartitionSpec()
    longest = max(fitting, key=lambda axis: shape[axis])
    return PartitionSpec(*("fsdp" if axis == longest else None for axis in range(len(shape))))


def state_shardings(mesh: Mesh, state: PyTree) -> PyTree:
    """A sharding for each leaf of a state, given as arrays or as `jax.eval_shape` gives them."""

    def place(leaf) -> NamedSharding:
        spec = cut_spec(leaf.shape, leaf.dtype.itemsize, mesh.shape["fsdp"])
        return NamedSharding(mesh, spec)

    return jax.tree.map(place, state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def place_batch(mesh: Mesh, rows: PyTree) -> PyTree:
    """This process's rows as part of a batch over all devices of all processes."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), rows)
