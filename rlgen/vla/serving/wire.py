"""openpi's wire format: msgpack with NumPy arrays as maps of bytes. Pickles are not read.

An array is `{b"__ndarray__": True, b"data", b"dtype", b"shape"}`, a NumPy scalar
`{b"__npgeneric__": True, b"data", b"dtype"}`. Objects, complex numbers, records and bfloat16 are refused.

A message is walked before it is unpacked: one that would take much more memory than its bytes, or long to unpack, is
refused by the number of its values, by how deep they are nested, or by the length of a text.
"""

import math
from typing import Any

import msgpack
import numpy as np

from rlgen.core.errors import UserError, first_line

KINDS = "biufUSMm"
ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"
MOST_VALUES = 10_000
"""Values in a message, those in lists and maps included; an array is one value with four fields."""
MOST_LEVELS = 16
LONGEST_TEXT = 2**16
# Python's type of a NumPy scalar's value, by the kind of its type.
_SCALARS = {"b": bool, "i": int, "u": int, "f": (int, float), "U": str, "S": bytes, "M": int, "m": int}
# By the first byte of a value: bytes that follow and, for those that say a length, bytes of the length.
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, **{0xCC + i: 1 << i for i in range(4)}}
_FIXED |= {0xD0 + i: 1 << i for i in range(4)}
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_LISTS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}


def pack(value: Any) -> bytes:
    """Packs dicts, lists, numbers, texts, arrays and NumPy scalars into bytes.

    Raises:
      ValueError: an array of a kind that is not sent.
    """
    return msgpack.packb(value, default=_encode)


def unpack(data: bytes) -> Any:
    """Unpacks what `pack` returns; arrays are read-only.

    Raises:
      UserError: the bytes are no such message, or it holds more than a message may.
    """
    _walk(data)
    try:
        return msgpack.unpackb(data, object_hook=_decode)
    except UserError:
        raise
    except (msgpack.UnpackException, ValueError, TypeError, OverflowError) as error:
        raise UserError(f"not a msgpack message with arrays: {first_line(error)[:200]}") from error


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        if not _is_sent(value.dtype):
            raise ValueError(f"an array of {value.dtype} cannot be sent; send float32 or another plain type")
        dtype = value.dtype.str
        if isinstance(value, np.ndarray):
            return {ARRAY: True, b"data": value.tobytes(), b"dtype": dtype, b"shape": value.shape}
        return {SCALAR: True, b"data": value.item(), b"dtype": dtype}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _is_sent(dtype: np.dtype) -> bool:
    return dtype.kind in KINDS and dtype.isbuiltin != 2  # 2: a type of another library, such as bfloat16


def _decode(value: dict) -> Any:
    if ARRAY in value:
        return _decode_array(_dtype(value), value.get(b"data"), value.get(b"shape"))
    if SCALAR in value:
        dtype, item = _dtype(value), value.get(b"data")
        if not isinstance(item, _SCALARS[dtype.kind]):
            raise UserError(f"a scalar of {dtype} with a value of type {type(item).__name__}")
        return dtype.type(item)
    return value


def _dtype(value: dict) -> np.dtype:
    # NumPy takes much else for a type: lists of fields, and texts with fields or dimensions.
    name = value.get(b"dtype")
    if not isinstance(name, str) or len(name) > 32:
        raise UserError("an array whose dtype is not a short text")
    dtype = np.dtype(name)
    if not _is_sent(dtype):
        raise UserError(f"an array of {name} is not accepted; send float32 or another plain type")
    return dtype


def _decode_array(dtype: np.dtype, data: Any, shape: Any) -> np.ndarray:
    sizes = shape if isinstance(shape, list) and len(shape) <= 32 else [-1]
    if not isinstance(data, bytes) or not all(type(size) is int and size >= 0 for size in sizes):
        raise UserError(f"an array of {dtype} without bytes or without a shape")
    count = math.prod(sizes)
    # Of texts of no length any number would fit.
    if count * dtype.itemsize != len(data) or count > len(data):
        raise UserError(f"an array of {dtype} {sizes} with {len(data)} bytes")
    return np.ndarray(buffer=data, dtype=dtype, shape=tuple(sizes))


def _walk(data: bytes) -> None:
    """Raises `UserError` for a message that is cut off, or that holds more than a message may."""
    position, values, levels = 0, 0, [1]  # values that are still to come at each level
    while levels:
        if not levels[-1]:
            levels.pop()
            continue
        levels[-1] -= 1
        values += 1
        if position >= len(data):
            raise UserError("not a msgpack message: it ends early")
        code = data[position]
        contained, length, position = _head(data, code, position + 1)
        position += length
        if contained > MOST_VALUES - values or len(levels) >= MOST_LEVELS:
            raise UserError(
                f"a message of more than {MOST_VALUES} values, or nested deeper than {MOST_LEVELS}; send arrays"
            )
        if contained:
            levels.append(contained)
    if position != len(data):
        raise UserError(f"not a msgpack message: it ends at byte {position} of {len(data)}")


def _head(data: bytes, code: int, position: int) -> tuple[int, int, int]:
    """Returns the number of values in a value, the bytes of its content, and where the content starts."""
    if code <= 0x7F or code >= 0xE0:
        return 0, 0, position
    if code <= 0x8F:
        return 2 * (code & 0x0F), 0, position
    if code <= 0x9F:
        return code & 0x0F, 0, position
    if code <= 0xBF:
        return 0, code & 0x1F, position
    if code in _FIXED:
        return 0, _FIXED[code], position
    for table in (_TEXTS, _BYTES, _LISTS, _MAPS):
        if code in table:
            end = position + table[code]
            length = int.from_bytes(data[position:end], "big")
            if table is _TEXTS and length > LONGEST_TEXT:
                raise UserError(f"a text of {length} bytes; expected at most {LONGEST_TEXT}")
            if table is _LISTS or table is _MAPS:
                return length * (2 if table is _MAPS else 1), 0, end
            return 0, length, end
    raise UserError(f"not a msgpack message with arrays: byte {code:#x} at {position - 1}")
