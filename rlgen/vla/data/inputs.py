"""Checks of a model's images, vectors, noise and prompts, before NumPy converts them.

Training, evaluation and serving all read observations through these functions. A value that is not what it should be
is refused with its key and what is wrong with it; it costs no more memory than it has already.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from rlgen.core.errors import UserError, first_line
from rlgen.vla.data.images import to_uint8

LARGEST_SIDE = 4096  # pixels
LONGEST_PROMPT = 4096  # characters
LARGEST_NOISE = 100.0  # normal noise stays below 10


def as_image(key: str, value: Any) -> UInt8[np.ndarray, "*B h w 3"]:
    """Returns images as bytes, channels last; floats in [0, 1] become bytes.

    Args:
      key: of the observation, for messages.
      value: an array of uint8 or floats, channels last or first.

    Raises:
      UserError: it is no image, is too large, or has floats outside [0, 1].
    """
    if not _is_array(value):
        raise UserError(f"{key} is {describe(value)}, expected an image [h, w, 3] of uint8")
    image = np.asarray(value)
    if image.ndim >= 3 and image.shape[-1] != 3 and image.shape[-3] == 3:
        image = np.moveaxis(image, -3, -1)
    is_float = np.issubdtype(image.dtype, np.floating)
    if image.ndim < 3 or image.shape[-1] != 3 or not (image.dtype == np.uint8 or is_float) or 0 in image.shape:
        raise UserError(f"{key} is {describe(image)}, expected an image [h, w, 3] of uint8")
    height, width = image.shape[-3:-1]
    if max(height, width) > LARGEST_SIDE:
        raise UserError(f"{key} has {height} x {width} pixels, expected at most {LARGEST_SIDE} a side; send it smaller")
    if is_float:
        smallest, largest = image.min(), image.max()
        # Also false of NaN.
        if not (smallest >= 0 and largest <= 1):
            raise UserError(f"{key} has values from {smallest:g} to {largest:g}, expected uint8, or floats in [0, 1]")
    return to_uint8(image)


def as_vector(key: str, value: Any) -> Float[np.ndarray, "*B n"]:
    """Returns vectors of finite numbers as float32.

    Args:
      key: of the observation, for messages.
      value: an array of numbers, or lists of them.

    Raises:
      UserError: it is no vector, or not finite.
    """
    vector = _as_numbers(key, value)
    if vector.ndim < 1 or not np.isfinite(vector).all():
        raise UserError(f"{key} {list(vector.shape)} is not a vector of finite numbers")
    return vector


def as_noise(value: Any, shape: tuple[int, ...]) -> Float[np.ndarray, "*B H A"]:
    """Returns the noise that answers start from as float32.

    Args:
      value: an array of numbers, or lists of them.
      shape: horizon and action size of the model, behind the number of answers if it is for several.

    Raises:
      UserError: it has another shape, or is nothing that a normal distribution gives.
    """
    noise = _as_numbers("noise", value)
    if noise.shape != shape:
        raise UserError(f"noise of shape {list(noise.shape)}, expected {list(shape)}")
    smallest, largest = noise.min(), noise.max()
    if not (smallest >= -LARGEST_NOISE and largest <= LARGEST_NOISE):
        raise UserError(f"noise has values from {smallest:g} to {largest:g}, expected a standard normal's")
    return noise


def as_prompt(value: Any, batch: tuple[int, ...]) -> str | list[str]:
    """Returns one text, or one for each sample; NumPy's text scalars count as texts.

    Args:
      value: a text, or an array or lists of them.
      batch: leading axes of the samples.

    Raises:
      UserError: it is not one text for each sample, or one is too long.
    """
    texts = _texts(value)
    if texts is None or len(texts) != math.prod(batch):
        raise UserError(f"prompt is {describe(value)}, expected a text for each observation")
    longest = max(texts, key=len, default="")
    if len(longest) > LONGEST_PROMPT:
        raise UserError(f"prompt {longest[:40]!r}... has {len(longest)} characters, expected at most {LONGEST_PROMPT}")
    return texts if batch else texts[0]


def describe(value: Any) -> str:
    """Returns a value in a few words, whatever its size."""
    if _is_array(value):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, str | bytes):
        return f"{value[:40]!r}{'...' if len(value) > 40 else ''}"
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value) if isinstance(value, int | float | None) else f"a {type(value).__name__}"


def is_numeric(value: Any) -> bool:
    """Returns whether a value is a number, an array of numbers, or lists of them."""
    if _is_array(value):
        return np.asarray(value).dtype.kind in "iuf"
    if isinstance(value, list | tuple):
        return all(map(is_numeric, value))
    # A truth value is an integer to Python.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_array(value: Any) -> bool:
    """Returns whether a value is an array of NumPy's, JAX's or another library's."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _as_numbers(key: str, value: Any) -> Float[np.ndarray, "..."]:
    if not is_numeric(value):
        raise UserError(f"{key} is not an array of numbers but {describe(value)}")
    try:
        # What float32 cannot hold becomes infinite, and is refused as such.
        with np.errstate(over="ignore"):
            return np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{key} is not an array of numbers: {first_line(error)[:100]}") from error


def _texts(value: Any) -> list[str] | None:
    """Returns the texts in a value, in order; None if there is anything else in it."""
    if isinstance(value, str):
        return [str(value)]
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return value.reshape(-1).tolist()
    if not isinstance(value, list | tuple):
        return None
    parts = [_texts(each) for each in value]
    return None if None in parts else [text for part in parts if part is not None for text in part]
