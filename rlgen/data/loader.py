"""Batches of frames for training, from a stream whose position is a number of steps.

    frames = open_frames(Path("exports/libero_object_no_noops/1.0.0"), size=224)
    loader = Loader(frames, LoaderOptions(batch=32, horizon=16))
    batch = next(loader)  # a `FrameBatch`: images, state, chunks of actions with their mask, prompts
    state = loader.state()  # JSON; `loader.restore(state)` continues with the same batches

Which frames belong to step s follows from the seed and s alone, so a loader resumes at any step, and each of several
processes reads its own rows of the same batch. Row r of step s is slot s * batch + r of the stream. A slot belongs to
one of the datasets by a pattern of 1,000 slots that repeats, in which each dataset has as many as its weight says. How
often a dataset occurred before a slot follows from the slot's index, and with it the position in the dataset's own
sequence of permutations, one for each epoch.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Int

from rlgen.core.arrays import ReusedMemory, keep_freed_memory
from rlgen.core.errors import UserError
from rlgen.data.frames import FrameBatch, FrameSource, read_frames
from rlgen.data.resize import limit_opencv_threads

PERIOD = 1000
BatchT = TypeVar("BatchT")


@dataclass(frozen=True)
class LoaderOptions:
    """The batches that a loader gives.

    Attributes:
      batch: frames a batch, of all processes together.
      horizon: H, actions in a chunk.
      seed: of the order.
      steps: batches in all; None never ends.
      process: index of this process, which gets its share of the rows of every batch.
      processes: their number, which divides `batch`.
      workers: threads that read, each a batch of its own.
      ahead: least number of batches that are read before they are asked for.
    """

    batch: int
    horizon: int
    seed: int = 0
    steps: int | None = None
    process: int = 0
    processes: int = 1
    workers: int = 2
    ahead: int = 2

    def __post_init__(self) -> None:
        if self.batch < 1 or self.horizon < 1:
            raise UserError(f"batches of {self.batch} frames with chunks of {self.horizon} actions: expected 1 or more")
        if not 0 <= self.process < self.processes or self.batch % self.processes:
            raise UserError(
                f"a batch of {self.batch} frames in process {self.process} of {self.processes}: expected processes "
                "counted from 0, and a number of them that divides the batch"
            )

    @property
    def rows(self) -> slice:
        """Returns the rows of a batch that this process reads."""
        size = self.batch // self.processes
        return slice(self.process * size, (self.process + 1) * size)


class Loader(Generic[BatchT]):
    """An iterator over batches of frames, read by threads in advance, whose position can be saved and restored.

    Args:
      frames: a dataset, or several as a `Mixture`.
      options: size, order and number of the batches.
      transform: turns a `FrameBatch` and its step into what the iterator gives, in the threads that read; by default
        the `FrameBatch` is given as it is.

    Attributes:
      mixture: the datasets.
      step: of the next batch.
    """

    def __init__(
        self,
        frames: FrameSource | Mixture,
        options: LoaderOptions,
        transform: Callable[[FrameBatch, int], BatchT] | None = None,
    ):
        self.mixture = frames if isinstance(frames, Mixture) else mix([frames])
        self.options = options
        self.step = 0
        self._transform = transform
        self._threads: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[BatchT]] = deque()
        limit_opencv_threads()
        keep_freed_memory()

    def __iter__(self) -> Iterator[BatchT]:
        return self

    def __next__(self) -> BatchT:
        self._read_ahead()
        if not self._waiting:
            raise StopIteration
        try:
            batch = self._waiting[0].result()
        except BaseException:
            self.seek(self.step)
            raise
        self._waiting.popleft()
        self.step += 1
        self._read_ahead()
        return batch

    def read(self, step: int) -> BatchT:
        """Reads this process's rows of the batch of a step, whatever the position."""
        options = self.options
        rows = self.mixture.select(options.batch, options.seed, step)[options.rows]
        batch: Any = self.mixture.read(rows, options.horizon)
        return batch if self._transform is None else self._transform(batch, step)

    def seek(self, step: int) -> None:
        """Sets the position; the next batch is that of `step`."""
        for future in self._waiting:
            future.cancel()
        self._waiting.clear()
        self.step = step

    def state(self) -> dict[str, Any]:
        """Returns the position and what the order depends on, as JSON for a checkpoint."""
        return {**self._identity(), "step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes to the position of `state`; the batches from there on are the same to the last bit.

        The number of processes and workers may be another one.

        Raises:
          UserError: the state is of other data or of another order.
        """
        mine = self._identity()
        different = [name for name, value in mine.items() if state.get(name) != value]
        if different or "step" not in state:
            raise UserError(
                f"the loader was saved with another {', '.join(different) or 'format'}: "
                f"{[state.get(name) for name in different]}, not {[mine[name] for name in different]}; "
                "restore it with the data and options that it was saved with"
            )
        self.seek(int(state["step"]))

    def _identity(self) -> dict[str, Any]:
        """Returns what the order of the frames depends on."""
        subsets = self.mixture.subsets
        weights = np.array([subset.weight for subset in subsets], float)
        return {
            "frames": [len(subset) for subset in subsets],
            "weights": (weights / weights.sum()).tolist(),
            "batch": self.options.batch,
            "seed": self.options.seed,
        }

    def _read_ahead(self) -> None:
        """Hands the next steps to the threads."""
        options = self.options
        if self._threads is None:
            self._threads = ThreadPoolExecutor(options.workers)
        last = self.step + max(options.workers, options.ahead)
        last = last if options.steps is None else min(last, options.steps)
        for step in range(self.step + len(self._waiting), last):
            self._waiting.append(self._threads.submit(self.read, step))


@dataclass(frozen=True)
class Subset:
    """Some frames of a dataset, and how often they are drawn compared with other subsets of a mixture.

    Attributes:
      frames: the dataset.
      index: indices of the frames that belong to it.
      weight: positive.
    """

    frames: FrameSource
    index: Int[np.ndarray, " F"]
    weight: float

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Mixture:
    """Subsets of datasets with their weights. Raises `UserError` where one is empty or weighs nothing."""

    subsets: tuple[Subset, ...]
    memory: ReusedMemory = field(default_factory=ReusedMemory, repr=False, compare=False)

    def __post_init__(self) -> None:
        for index, subset in enumerate(self.subsets):
            if not len(subset) or not (np.isfinite(subset.weight) and subset.weight > 0):
                raise UserError(
                    f"dataset {index} has {len(subset)} frames and weight {subset.weight}; both must be above 0"
                )

    def __len__(self) -> int:
        return sum(len(subset) for subset in self.subsets)

    @property
    def prompts(self) -> list[str]:
        """Returns the different instructions of the datasets."""
        return list(dict.fromkeys(prompt for subset in self.subsets for prompt in subset.frames.table.prompts))

    def select(self, batch: int, seed: int, step: int) -> list[tuple[int, int]]:
        """Selects the frames of a step.

        Args:
          batch: number of frames.
          seed: of the order.
          step: 0 or more.

        Returns:
          For each row of the batch the index of its subset, and of the frame in that subset's dataset.
        """
        slots = np.arange(step * batch, (step + 1) * batch)
        pattern = self.pattern(seed)
        owner, frames = pattern[slots % PERIOD], np.empty(batch, int)
        for index, subset in enumerate(self.subsets):
            mine = np.flatnonzero(owner == index)
            before = np.concatenate([[0], np.cumsum(pattern == index)])
            positions = slots[mine] // PERIOD * before[-1] + before[slots[mine] % PERIOD]
            frames[mine] = subset.index[_permuted(positions, len(subset), seed, index)]
        return list(zip(owner.tolist(), frames.tolist(), strict=True))

    def pattern(self, seed: int) -> Int[np.ndarray, " 1000"]:
        """Returns the index of the subset that each slot of a period belongs to."""
        if len(self.subsets) == 1:
            return np.zeros(PERIOD, int)
        weights = np.array([subset.weight for subset in self.subsets])
        exact = weights / weights.sum() * PERIOD
        counts = np.floor(exact).astype(int)
        # The slots that rounding left over go to the largest remainders.
        counts[np.argsort(counts - exact, kind="stable")[: PERIOD - counts.sum()]] += 1
        if not counts.all():
            raise UserError(
                f"weights {weights.tolist()}: one is below a thousandth of the rest; leave that dataset out"
            )
        return np.random.default_rng([seed, 4]).permutation(np.repeat(np.arange(len(counts)), counts))

    def read(self, rows: Sequence[tuple[int, int]], horizon: int) -> FrameBatch:
        """Reads the frames that `select` returned, in their order, with chunks of `horizon` actions."""
        owner, frames = np.array(rows).T
        parts, order = [], []
        for index, subset in enumerate(self.subsets):
            mine = np.flatnonzero(owner == index)
            if len(mine):
                parts.append(read_frames(subset.frames, frames[mine], horizon))
                order.append(mine)
        if len(parts) == 1:
            return parts[0]
        return {name: self._joined([part[name] for part in parts], order, name) for name in parts[0]}

    def _joined(self, parts: list, rows: list[Int[np.ndarray, " n"]], name: str) -> np.ndarray | list:
        """Joins a column of several subsets, each of which has some rows of the batch."""
        if isinstance(parts[0], list):
            texts = zip(np.concatenate(rows).tolist(), [text for part in parts for text in part], strict=True)
            return [text for _, text in sorted(texts)]
        if len({part.shape[1:] for part in parts}) > 1:
            raise UserError(f"{name} of the datasets differ in size: {[list(part.shape[1:]) for part in parts]}")
        shape = (sum(map(len, parts)), *parts[0].shape[1:])
        kind = np.result_type(*parts)
        out = self.memory.empty(shape) if kind == np.uint8 else np.empty(shape, kind)
        for part, mine in zip(parts, rows, strict=True):
            out[mine] = part
        return out


def mix(sources: Sequence[FrameSource], weights: Sequence[float] = ()) -> Mixture:
    """Mixes whole datasets.

    Args:
      sources: the datasets.
      weights: how often each is drawn compared with the others; by default as often as it has frames.

    Raises:
      UserError: weights that do not fit.
    """
    chosen = list(weights) or [len(source.table) for source in sources]
    if len(chosen) != len(sources):
        raise UserError(f"{len(chosen)} weights for {len(sources)} datasets; give one for each")
    pairs = zip(sources, chosen, strict=True)
    return Mixture(tuple(Subset(source, np.arange(len(source.table)), float(weight)) for source, weight in pairs))


def hold_out(source: FrameSource, fraction: float, seed: int) -> tuple[Subset, Subset | None]:
    """Splits a dataset by episodes.

    Args:
      source: the dataset.
      fraction: of the episodes to hold out, in [0, 1), rounded, and at least one where it is above 0.
      seed: of the choice.

    Returns:
      The frames to train on and those of the episodes held out, None where there are none; each weighs as many as it
      has frames.

    Raises:
      UserError: no episode would be left to train on.
    """
    episodes = np.unique(source.table.episode)
    count = 0 if fraction == 0 else max(1, round(fraction * len(episodes)))
    if count >= len(episodes):
        raise UserError(f"{fraction} of {len(episodes)} episodes held out leaves none to train on; hold out fewer")
    held = np.random.default_rng([seed, 5]).permutation(episodes)[:count]
    is_held = np.isin(source.table.episode, held)
    kept, apart = np.flatnonzero(~is_held), np.flatnonzero(is_held)
    return Subset(source, kept, float(len(kept))), Subset(source, apart, float(len(apart))) if count else None


def _permuted(positions: Int[np.ndarray, " n"], size: int, seed: int, subset: int) -> Int[np.ndarray, " n"]:
    """Returns the frames at some positions of a sequence of permutations of `size` frames, one for each epoch."""
    epochs, out = positions // size, np.empty_like(positions)
    for epoch in dict.fromkeys(epochs.tolist()):
        key = (seed, 0, epoch) if subset == 0 else (seed, 0, epoch, subset)
        here = epochs == epoch
        out[here] = _permutation(key, size)[positions[here] % size]
    return out


@functools.lru_cache(maxsize=16)
def _permutation(key: tuple[int, ...], size: int) -> Int[np.ndarray, " size"]:
    """Returns the permutation of a key; kept, because the batches of an epoch share it."""
    return np.random.default_rng(list(key)).permutation(size)
