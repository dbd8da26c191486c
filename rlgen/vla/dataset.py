"""An exported dataset in memory, cut into what training looks at."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from rlgen.errors import UserError
from rlgen.vla.config import VlaConfig
from rlgen.vla.tokens import Encode, hashed_words, tokenize
from rlgen.vla.transforms import NormStats, resize, statistics


class RldsEpisode(Protocol):
    """What is used of an episode of an RLDS export; pictures are upright."""

    image: UInt8[np.ndarray, "T h w 3"]
    wrist_image: UInt8[np.ndarray, "T h w 3"]
    state: Float[np.ndarray, "T 8"]
    action: Float[np.ndarray, "T 7"]
    language_instruction: str


@dataclass(frozen=True)
class VlaData:
    """F frames, each with the chunk of actions that begins there.

    Attributes:
      image: upright pictures of the fixed camera, of the model's size.
      wrist_image: the same of the camera at the hand.
      state: raw.
      action_chunks: raw; behind an episode's end its last action is repeated.
      chunk_mask: False on those repeats.
      prompt: token ids.
      prompt_mask: False on padding.
      stats: of all states and all actions.
    """

    image: UInt8[np.ndarray, "F h w 3"]
    wrist_image: UInt8[np.ndarray, "F h w 3"]
    state: Float[np.ndarray, "F 8"]
    action_chunks: Float[np.ndarray, "F H 7"]
    chunk_mask: Bool[np.ndarray, "F H"]
    prompt: Int[np.ndarray, "F L"]
    prompt_mask: Bool[np.ndarray, "F L"]
    stats: NormStats

    def __len__(self) -> int:
        return len(self.state)

    @property
    def pictures(self) -> dict[str, UInt8[np.ndarray, "F h w 3"]]:
        """Pictures by the model's camera names."""
        return {"base_0_rgb": self.image, "left_wrist_0_rgb": self.wrist_image}


def chunks(actions: Float[np.ndarray, "T 7"], horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """The `horizon` actions from each step on, `[T, H, 7]`, and which of them exist, `[T, H]`."""
    index = np.arange(len(actions))[:, None] + np.arange(horizon)
    return actions[np.minimum(index, len(actions) - 1)], index < len(actions)


def from_rlds(episodes: Iterable[RldsEpisode], config: VlaConfig, encode: Encode | None = None) -> VlaData:
    """Reads every episode once and keeps all of it in memory.

    Args:
      episodes: as `rlgen.data.rlds.read_rlds` yields them.
      config: sizes of the model.
      encode: tokenizer; hashed words by default.

    Raises:
      UserError: if there is no episode.
    """
    encode = encode or hashed_words(config.vocabulary)
    columns: dict[str, list] = {name: [] for name in ("image", "wrist", "state", "chunk", "mask", "ids", "seen")}
    actions = []
    for episode in episodes:
        chunk, mask = chunks(np.asarray(episode.action, np.float32), config.horizon)
        ids, seen = tokenize(episode.language_instruction, encode, config.prompt_length)
        steps = len(chunk)
        values = (
            np.asarray(resize(episode.image, config.image_size)),
            np.asarray(resize(episode.wrist_image, config.image_size)),
            np.asarray(episode.state, np.float32),
            chunk,
            mask,
            np.tile(ids, (steps, 1)),
            np.tile(seen, (steps, 1)),
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
        actions.append(chunk[:, 0])
    if not actions:
        raise UserError("the dataset holds no episode; export at least one before training on it")
    image, wrist, state, chunk, mask, ids, seen = (np.concatenate(column) for column in columns.values())
    stats = NormStats(statistics(state), statistics(np.concatenate(actions)))
    return VlaData(image, wrist, state, chunk, mask, ids, seen, stats)
