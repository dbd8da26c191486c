"""Several datasets as one stream of steps, whose place is a number: exact after every resume.

Slot n of the stream belongs to a dataset by a pattern of 1,000 slots that repeats, in which each has its share.
How often a dataset came before slot n follows from n, and with it the place in its own permutations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from rlgen.core.errors import UserError
from rlgen.vla.data.frames import Frames, take
from rlgen.vla.data.normalize import NormStats, combine, statistics, subtract_state
from rlgen.vla.data.transforms import LIBERO_DELTA, Sample

PERIOD = 1000


@dataclass(frozen=True)
class Part:
    """Some steps of a dataset, and how often they are drawn compared with other parts.

    Attributes:
      frames: the dataset.
      index: which of its steps.
      weight: positive.
    """

    frames: Frames
    index: Int[np.ndarray, " F"]
    weight: float

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Mixture:
    """Parts with their weights. Raises `UserError` where one is empty or weighs nothing."""

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        for number, part in enumerate(self.parts):
            if not len(part) or not (np.isfinite(part.weight) and part.weight > 0):
                raise UserError(
                    f"dataset {number} has {len(part)} steps and weight {part.weight}; both must be above 0"
                )

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def draw(self, batch: int, seed: int, step: int) -> list[tuple[int, int]]:
        """Part and step number of each row of a batch, from (seed, step) alone."""
        slots = np.arange(step * batch, (step + 1) * batch)
        pattern = self.pattern(seed)
        owner = pattern[slots % PERIOD]
        rows: list[tuple[int, int]] = [(0, 0)] * batch
        for number, part in enumerate(self.parts):
            mine = np.flatnonzero(owner == number)
            before = np.r_[0, np.cumsum(pattern == number)]
            places = slots[mine] // PERIOD * before[-1] + before[slots[mine] % PERIOD]
            for row, place in zip(mine, _permuted(places, len(part), seed, number), strict=True):
                rows[row] = (number, int(part.index[place]))
        return rows

    def pattern(self, seed: int) -> Int[np.ndarray, " 1000"]:
        """Which part each slot of a period belongs to."""
        if len(self.parts) == 1:
            return np.zeros(PERIOD, int)
        weights = np.array([part.weight for part in self.parts])
        exact = weights / weights.sum() * PERIOD
        counts = np.floor(exact).astype(int)
        # The slots that rounding left over go to the largest remainders.
        counts[np.argsort(counts - exact, kind="stable")[: PERIOD - counts.sum()]] += 1
        if not counts.all():
            raise UserError(
                f"weights {weights.tolist()}: one is below a thousandth of the rest; leave that dataset out"
            )
        return np.random.default_rng([seed, 4]).permutation(np.repeat(np.arange(len(counts)), counts))

    def sample(self, rows: Sequence[tuple[int, int]], horizon: int) -> Sample:
        """The steps of rows, in their order."""
        owner = np.array([number for number, _ in rows])
        taken, order = [], []
        for number, part in enumerate(self.parts):
            mine = np.flatnonzero(owner == number)
            if len(mine):
                taken.append(take(part.frames, np.array([rows[row][1] for row in mine]), horizon))
                order.append(mine)
        if len(taken) == 1:
            return taken[0]
        back = np.argsort(np.concatenate(order))
        return {key: _reordered([sample[key] for sample in taken], back, key) for key in taken[0]}


def _reordered(parts: list, back: np.ndarray, key: str) -> np.ndarray | list:
    if isinstance(parts[0], list):
        joined = [text for part in parts for text in part]
        return [joined[row] for row in back]
    if len({part.shape[1:] for part in parts}) > 1:
        raise UserError(f"{key} of the datasets differ in size: {[list(part.shape[1:]) for part in parts]}")
    return np.concatenate(parts)[back]


def _permuted(places: Int[np.ndarray, " n"], size: int, seed: int, part: int) -> Int[np.ndarray, " n"]:
    """Steps at places of a stream that goes through a new permutation in each epoch."""
    out = np.empty_like(places)
    for epoch in np.unique(places // size):
        key = [seed, 0, int(epoch)] if part == 0 else [seed, 0, int(epoch), part]
        here = places // size == epoch
        out[here] = np.random.default_rng(key).permutation(size)[places[here] % size]
    return out


def hold_out(frames: Frames, share: float, seed: int, weight: float = 1.0) -> tuple[Part, Part | None]:
    """Steps to train on and, of whole episodes that are kept from it, to validate on.

    Args:
      frames: the dataset.
      share: of the episodes, in [0, 1), rounded, and at least one where it is above 0.
      seed: which ones.
      weight: of the first part.

    Raises:
      UserError: no episode would be left.
    """
    episodes = np.unique(frames.table.episode)
    count = 0 if share == 0 else max(1, round(share * len(episodes)))
    if count >= len(episodes):
        raise UserError(f"{share} of {len(episodes)} episodes held out leaves none to train on; hold out fewer")
    held = np.random.default_rng([seed, 5]).permutation(episodes)[:count]
    is_held = np.isin(frames.table.episode, held)
    kept = Part(frames, np.flatnonzero(~is_held), weight)
    return kept, Part(frames, np.flatnonzero(is_held), 1.0) if count else None


def mixture_statistics(mixture: Mixture, horizon: int, *, delta: bool) -> NormStats:
    """What to normalise with: of the states and actions that are trained on, delta already taken."""
    parts = [(_part_statistics(part, horizon, delta), part.weight) for part in mixture.parts]
    return parts[0][0] if len(parts) == 1 else combine(parts)


def _part_statistics(part: Part, horizon: int, delta: bool) -> NormStats:
    table = part.frames.table
    state, actions = table.state[part.index], table.action[part.index]
    if delta:
        chunk, _ = table.chunks(part.index, horizon)
        actions = subtract_state(chunk, state, LIBERO_DELTA).reshape(-1, chunk.shape[-1])
    return NormStats(statistics(state), statistics(actions))
