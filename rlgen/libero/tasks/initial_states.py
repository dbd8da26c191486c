"""A reader of the benchmark's stored initial states that needs no torch and executes nothing from the file."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError


def _encode(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


# Everything that a pickled float array needs; `numpy.core` is its module in NumPy 1.
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
}


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler of NumPy arrays that refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array") from None


def read_initial_states(path: Path) -> Float[np.ndarray, "S D"]:
    """Reads a `.pruned_init` file: time, qpos, qvel of each stored state, not yet settled.

    Raises:
      UserError: the file is missing, damaged, or holds anything but an array of finite numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = archive.read("archive/data.pkl")
        states = _ArrayUnpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise UserError(f"initial states {path} cannot be read: {error}; reinstall hf-libero") from error
    if not isinstance(states, np.ndarray) or states.dtype != np.float64 or states.ndim != 2:
        raise UserError(f"initial states {path} hold {type(states).__name__}, expected float64 [states, D]")
    if not np.isfinite(states).all():
        raise UserError(f"initial states {path} hold numbers that are not finite; reinstall hf-libero")
    return states
