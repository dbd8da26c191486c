"""openpi's wire format: msgpack with NumPy arrays as maps of bytes. Pickles are not read.

An array is `{b"__ndarray__": True, b"data", b"dtype", b"shape"}`, a NumPy scalar
`{b"__npgeneric__": True, b"data", b"dtype"}`. Objects, complex numbers, records and bfloat16 are refused.
"""

from typing import Any

import msgpack
import numpy as np

KINDS = "biufUSMm"
ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"


def pack(value: Any) -> bytes:
    """Packs dicts, lists, numbers, texts, arrays and NumPy scalars into bytes.

    Raises:
      ValueError: an array of a kind that is not sent.
    """
    return msgpack.packb(value, default=_encode)


def unpack(data: bytes) -> Any:
    """Unpacks what `pack` returns; arrays are read-only views of `data`.

    Raises:
      ValueError: the bytes are no such message.
    """
    try:
        return msgpack.unpackb(data, object_hook=_decode, strict_map_key=False)
    except (msgpack.UnpackException, TypeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"not a msgpack message with arrays: {error!r}") from error


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in KINDS or value.dtype.name == "bfloat16":
            raise ValueError(f"an array of {value.dtype} cannot be sent; send float32 or another plain type")
        dtype = value.dtype.str
        if isinstance(value, np.ndarray):
            return {ARRAY: True, b"data": value.tobytes(), b"dtype": dtype, b"shape": value.shape}
        return {SCALAR: True, b"data": value.item(), b"dtype": dtype}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _decode(value: dict) -> Any:
    if ARRAY in value:
        dtype = np.dtype(value[b"dtype"])
        if dtype.kind not in KINDS:
            raise ValueError(f"an array of {dtype} is not accepted")
        return np.ndarray(buffer=value[b"data"], dtype=dtype, shape=tuple(value[b"shape"]))
    if SCALAR in value:
        return np.dtype(value[b"dtype"]).type(value[b"data"])
    return value
