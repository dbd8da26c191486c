"""Text to token ids."""

import zlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int

Encode = Callable[[str, bool], list[int]]
"""(text, whether a begin token comes first) -> ids."""

PAD, BEGIN, NEWLINE, RESERVED = 0, 1, 2, 3


def hashed_words(vocabulary: int) -> Encode:
    """A tokenizer without a file: each word's checksum picks its id.

    Two words may share an id; with a few dozen words and 2,048 ids that is rare, and harmless unless two
    instructions differ in just these words.

    Args:
      vocabulary: number of ids, more than 3.
    """
    if vocabulary <= RESERVED:
        raise ValueError(f"vocabulary {vocabulary}: hashed words need more than {RESERVED} ids")

    def encode(text: str, begin: bool) -> list[int]:
        words = [RESERVED + zlib.crc32(w.encode()) % (vocabulary - RESERVED) for w in text.lower().split()]
        newline = [NEWLINE] if text.endswith("\n") else []
        return [BEGIN] * begin + words + newline

    return encode


def clean(prompt: str) -> str:
    """The instruction as pi0 reads it: trimmed, underscores and line breaks as spaces."""
    return prompt.strip().replace("_", " ").replace("\n", " ")


def tokenize(prompt: str, encode: Encode, length: int) -> tuple[Int[np.ndarray, " L"], Bool[np.ndarray, " L"]]:
    """Ids of a prompt and a line break, cut or padded with 0 to `length`.

    Returns:
      Ids, and a mask that is False on padding.
    """
    ids = (encode(clean(prompt), True) + encode("\n", False))[:length]
    padded = np.full(length, PAD, np.int32)
    padded[: len(ids)] = ids
    return padded, np.arange(length) < len(ids)
