"""The processes of a training that runs on several hosts: how they find each other, wait and exchange small arrays."""

from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from rlgen.configs.devices import DeviceConfig

Tree = TypeVar("Tree", bound=PyTree)


def connect(devices: DeviceConfig) -> None:
    """Connects this process with the others of a training, before anything is computed; does nothing for one."""
    if devices.processes == 1:
        return
    # It would take SIGTERM for itself and only make a note of it.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(devices.coordinator, devices.processes, devices.process)


def is_first() -> bool:
    """Returns whether this is the process that writes what all have computed, the only one where there is one."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Waits until every process of a training has called it with this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def exchange(tree: Tree) -> Tree:
    """Returns arrays of every process behind each other; their shapes are the same everywhere.

    Args:
      tree: NumPy arrays `[n, ...]` of this process.

    Returns:
      NumPy arrays `[P n, ...]` of all P processes, the same in each of them.
    """
    if jax.process_count() == 1:
        return tree
    gathered = multihost_utils.process_allgather(tree)
    return jax.tree.map(lambda array: np.asarray(array).reshape(-1, *array.shape[2:]), gathered)
