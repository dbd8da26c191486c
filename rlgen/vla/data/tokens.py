"""Tokenizers, and the prompts of pi0 and pi0.5 as token ids."""

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from rlgen.core.errors import UserError
from rlgen.core.files import expanded

Encode = Callable[[str, bool], list[int]]
"""(text, whether to put BOS first) -> ids."""
PAD, BOS, NEWLINE, RESERVED = 0, 1, 2, 3
STATE_BINS = 256


def hashed_words(vocabulary: int) -> Encode:
    """Makes a tokenizer that needs no file: the checksum of each word is its id.

    Two words may share an id; with a few dozen words and 2,048 ids that is rare, and harmless unless two
    instructions differ in just these words.

    Args:
      vocabulary: number of ids, more than 3.
    """
    if vocabulary <= RESERVED:
        raise ValueError(f"vocabulary {vocabulary}: hashed words need more than {RESERVED} ids")

    def encode(text: str, bos: bool) -> list[int]:
        ids = [RESERVED + zlib.crc32(word.encode()) % (vocabulary - RESERVED) for word in text.lower().split()]
        newline = [NEWLINE] if text.endswith("\n") else []
        return [BOS] * bos + ids + newline

    return encode


def sentencepiece(path: Path, vocabulary: int) -> Encode:
    """Opens the tokenizer of a SentencePiece model file, PaliGemma's for the published models.

    Args:
      path: such as `paligemma_tokenizer.model`.
      vocabulary: number of ids of the model, at least the file's.

    Raises:
      UserError: no such file, not such a file, or one of more ids.
    """
    from sentencepiece import SentencePieceProcessor

    try:
        model = SentencePieceProcessor(model_proto=expanded(path).read_bytes())
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: not a readable SentencePiece model; pass paligemma_tokenizer.model") from error
    if model.vocab_size() > vocabulary:
        raise UserError(f"{path} has {model.vocab_size()} ids, the model {vocabulary}; pass the model's own tokenizer")
    return lambda text, bos: model.encode(text, add_bos=bos)


def tokenize(
    prompt: str, encode: Encode, length: int, state: Float[np.ndarray, " S"] | None = None
) -> tuple[Int[np.ndarray, " L"], Bool[np.ndarray, " L"]]:
    """Encodes a prompt into exactly `length` ids, truncated at its end or padded with 0.

    Args:
      prompt: the instruction.
      encode: the tokenizer.
      length: L.
      state: normalized, where the prompt contains it (pi0.5).

    Returns:
      Ids, and a mask that is False on padding.
    """
    ids = prompt_ids(prompt, encode, state)[:length]
    padded = np.full(length, PAD, np.int32)
    padded[: len(ids)] = ids
    return padded, np.arange(length) < len(ids)


def prompt_ids(prompt: str, encode: Encode, state: Float[np.ndarray, " S"] | None = None) -> list[int]:
    """Encodes a prompt in pi0's format, or with a state in pi0.5's.

    Args:
      prompt: the instruction.
      encode: the tokenizer.
      state: normalized; None for pi0.
    """
    if state is None:
        return encode(clean(prompt), True) + encode("\n", False)
    bins = " ".join(map(str, state_bins(state)))
    return encode(f"Task: {clean(prompt)}, State: {bins};\nAction: ", True)


def describe_cut(
    prompts: Iterable[str], encode: Encode, length: int, state: Float[np.ndarray, " S"] | None = None
) -> str | None:
    """Returns a line about the prompts of which a model reads only the beginning, or None where it reads all.

    Args:
      prompts: instructions.
      encode: the tokenizer.
      length: tokens that the model reads.
      state: any normalized one, where the prompt contains it.
    """
    distinct = list(dict.fromkeys(prompts))
    counts = {prompt: len(prompt_ids(prompt, encode, state)) for prompt in distinct}
    longest = max(counts, key=lambda prompt: counts[prompt], default="")
    cut = sum(count > length for count in counts.values())
    if not cut:
        return None
    return (
        f"{cut} of {len(distinct)} instructions are longer than the {length} tokens that the model reads, and what is "
        f"behind is cut; the longest has {counts[longest]}: {longest!r}"
    )


def clean(prompt: str) -> str:
    """Returns the instruction trimmed, with spaces for underscores and line breaks, as pi0 reads it."""
    return prompt.strip().replace("_", " ").replace("\n", " ")


def state_bins(state: Float[np.ndarray, " S"]) -> Int[np.ndarray, " S"]:
    """Returns the bins of a normalized state, 256 from -1 to 1; -1 below, 255 from 1 on."""
    return np.digitize(state, np.linspace(-1, 1, STATE_BINS + 1)[:-1]) - 1
