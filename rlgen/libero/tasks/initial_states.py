"""A reader of the benchmark's stored initial states that needs no torch and makes nothing that a file asks for."""

import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError, first_line
from rlgen.core.foreign.archives import read_member

# Bytes of the array's file; the benchmark's have some ten thousand.
LARGEST = 64 << 20


class _Parts:
    """The parts of an array or of its type, as a file names them."""

    def __init__(self, *arguments: Any):
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _ArrayClass:
    """The class of arrays in a file, which can make none."""


def _encode(text: str, _encoding: str) -> bytes:
    return text.encode("latin1")


# Everything that a pickled float array names; `numpy.core` is its module in NumPy 1. The file gets none of the real
# ones: of an array's size or type it could ask for any.
_KNOWN = {
    ("numpy", "ndarray"): _ArrayClass,
    ("numpy", "dtype"): _Parts,
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): _Parts,
    ("numpy._core.multiarray", "_reconstruct"): _Parts,
}


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler of one NumPy array that refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array") from None


def read_initial_states(path: Path) -> Float[np.ndarray, "S D"]:
    """Reads a `.pruned_init` file: time, qpos, qvel of each stored state, not yet settled.

    Raises:
      UserError: the file is missing, damaged, or holds anything but an array of finite numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = read_member(archive, "archive/data.pkl", LARGEST)
        states = _array(_ArrayUnpickler(io.BytesIO(data)).load())
    except Exception as error:
        raise UserError(f"initial states {path} cannot be read: {first_line(error)}; reinstall hf-libero") from error
    if not np.isfinite(states).all():
        raise UserError(f"initial states {path} hold numbers that are not finite; reinstall hf-libero")
    return states


def _array(parts: Any) -> Float[np.ndarray, "S D"]:
    """Returns the array that a pickle describes.

    Raises:
      ValueError: it is none of float64 with two axes, or its bytes are not as many as its shape says.
    """
    if not isinstance(parts, _Parts) or len(parts.state) != 5:
        raise ValueError(f"{type(parts).__name__}, expected float64 [states, D]")
    _, shape, dtype, is_fortran, data = parts.state
    is_float64 = isinstance(dtype, _Parts) and dtype.arguments[:1] == ("f8",) and dtype.state[1:2] == ("<",)
    has_shape = isinstance(shape, tuple) and len(shape) == 2 and all(isinstance(size, int) for size in shape)
    if not is_float64 or not has_shape or is_fortran or not isinstance(data, bytes):
        raise ValueError("an array of another type or shape, expected float64 [states, D]")
    if min(shape) < 0 or len(data) != 8 * math.prod(shape):
        raise ValueError(f"{len(data)} bytes for an array of shape {shape}")
    return np.frombuffer(data, "<f8").reshape(shape).copy()
