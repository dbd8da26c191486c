"""Text to token ids."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from rlgen.core.errors import UserError

Encode = Callable[[str, bool], list[int]]
"""(text, whether a begin token comes first) -> ids."""
PAD, BEGIN, NEWLINE, RESERVED = 0, 1, 2, 3
STATE_BINS = 256


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


def sentencepiece(path: Path, vocabulary: int) -> Encode:
    """The tokenizer of a SentencePiece model file, PaliGemma's for the published models.

    Args:
      path: such as `paligemma_tokenizer.model`.
      vocabulary: number of ids of the model, at least the file's.

    Raises:
      UserError: no such file, not such a file, or one of more ids.
    """
    from sentencepiece import SentencePieceProcessor

    try:
        model = SentencePieceProcessor(model_proto=Path(path).expanduser().read_bytes())
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: not a readable SentencePiece model; pass paligemma_tokenizer.model") from error
    if model.vocab_size() > vocabulary:
        raise UserError(f"{path} has {model.vocab_size()} ids, the model {vocabulary}; pass the model's own tokenizer")
    return lambda text, begin: model.encode(text, add_bos=begin)


def clean(prompt: str) -> str:
    """The instruction as pi0 reads it: trimmed, underscores and line breaks as spaces."""
    return prompt.strip().replace("_", " ").replace("\n", " ")


def state_bins(state: Float[np.ndarray, " S"]) -> Int[np.ndarray, " S"]:
    """A normalised state in 256 steps from -1 to 1: -1 below, 255 from 1 on."""
    return np.digitize(state, np.linspace(-1, 1, STATE_BINS + 1)[:-1]) - 1


def prompt_ids(prompt: str, encode: Encode, state: Float[np.ndarray, " S"] | None = None) -> list[int]:
    """All ids of a prompt: pi0's, or with a normalised state pi0.5's."""
    if state is None:
        return encode(clean(prompt), True) + encode("\n", False)
    numbers = " ".join(map(str, state_bins(state)))
    return encode(f"Task: {clean(prompt)}, State: {numbers};\nAction: ", True)


def tokenize(
    prompt: str, encode: Encode, length: int, state: Float[np.ndarray, " S"] | None = None
) -> tuple[Int[np.ndarray, " L"], Bool[np.ndarray, " L"]]:
    """Ids of a prompt, cut at its end or padded with 0 to `length`.

    Returns:
      Ids, and a mask that is False on padding.
    """
    ids = prompt_ids(prompt, encode, state)[:length]
    padded = np.full(length, PAD, np.int32)
    padded[: len(ids)] = ids
    return padded, np.arange(length) < len(ids)
