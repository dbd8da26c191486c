"""Batches for training, in an order that is a function of the seed, from any place in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.data.frames import FrameSource, use_own_threads_only

if TYPE_CHECKING:
    import grain

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class LoaderOptions:
    """How batches are drawn.

    Attributes:
      batch: frames a batch, of this process.
      seed: of the order; the same in all processes.
      epochs: passes over the data; None never ends.
      process, processes: which share of the frames this process reads, of how many. Shares are disjoint and equally
        long; what is left over after dividing changes from epoch to epoch.
      threads: that read and decode; all cores by default.
      ahead: batches that are made ready before they are asked for.
    """

    batch: int
    seed: int = 0
    epochs: int | None = None
    process: int = 0
    processes: int = 1
    threads: int | None = None
    ahead: int = 4

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 <= self.process < self.processes:
            raise UserError(
                f"a batch of {self.batch} frames in process {self.process} of {self.processes}: "
                "expected at least one frame, and processes counted from 0"
            )


class Loader:
    """Batches of frames from one dataset or from several with weights; an iterator that can be put back.

    A batch has what `FrameSource` gives, with a leading axis, and `prompt` numbered through `prompts` of this loader.
    Where several sources have weights, each frame comes from one of them, as often as its weight says.
    """

    def __init__(
        self, sources: FrameSource | Sequence[FrameSource], options: LoaderOptions, weights: Sequence[float] = ()
    ):
        """Weights are positive, one for each source; by default the numbers of their frames.

        Raises:
          UserError: weights that do not fit, or fewer frames in this process's share than a batch has.
        """
        self.sources = [sources] if isinstance(sources, FrameSource) else list(sources)
        self.options = options
        self.prompts = tuple(dict.fromkeys(prompt for source in self.sources for prompt in source.prompts))
        self._weights = _weights(self.sources, weights)
        self._starts = np.cumsum([0, *(len(source) for source in self.sources[:-1])])
        use_own_threads_only()
        self._batches = iter(self._pipeline())

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    def state(self) -> dict[str, Any]:
        """Where the loader stands, as JSON, for a checkpoint: the next batch is the one after the last given."""
        return {**self._identity(), "position": self._batches.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes to where `state` was taken; the batches from there on are the same to the last bit.

        Raises:
          UserError: the state is of other data or other options, whose order would be another one.
        """
        mine = self._identity()
        different = [name for name, value in mine.items() if state.get(name) != value]
        if different or "position" not in state:
            raise UserError(
                f"the loader was saved with another {', '.join(different) or 'format'}: "
                f"{[state.get(name) for name in different]}, not {[mine[name] for name in different]}; "
                "restore it with the data and options that it was saved with"
            )
        self._batches.set_state(state["position"])

    def _identity(self) -> dict[str, Any]:
        """What the order of the batches depends on."""
        options = self.options
        return {
            "frames": [len(source) for source in self.sources],
            "weights": self._weights,
            **{name: getattr(options, name) for name in ("batch", "seed", "epochs", "process", "processes")},
        }

    def _pipeline(self) -> grain.IterDataset:
        import grain

        options = self.options
        parts = [self._order(number) for number in range(len(self.sources))]
        frames = parts[0] if len(parts) == 1 else grain.MapDataset.mix(parts, weights=self._weights)
        share = frames[options.process :: options.processes]
        if len(share) < options.batch:
            raise UserError(f"{len(share)} frames for this process, fewer than a batch of {options.batch}")
        batches = share.batch(options.batch, drop_remainder=True).map(self._read)
        threads = options.threads or os.cpu_count() or 1
        reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(options.ahead, threads))
        return batches.to_iter_dataset(reading)

    def _order(self, number: int) -> grain.MapDataset:
        """Frames of a source by their numbers in all sources together; pictures come when a batch is known."""
        import grain

        first = int(self._starts[number])
        frames = grain.MapDataset.range(first, first + len(self.sources[number]))
        return frames.seed(self.options.seed).shuffle().repeat(self.options.epochs)

    def _read(self, frames: np.ndarray) -> Batch:
        """The batch of these frames."""
        if len(self.sources) == 1:
            return self.sources[0].batch(frames)
        of = np.searchsorted(self._starts, frames, side="right") - 1
        rows = [np.flatnonzero(of == number) for number in range(len(self.sources))]
        parts = [
            source.batch(frames[mine] - first)
            for source, mine, first in zip(self.sources, rows, self._starts, strict=True)
        ]
        for part, source in zip(parts, self.sources, strict=True):
            numbers = np.array([self.prompts.index(prompt) for prompt in source.prompts], np.int32)
            part["prompt"] = numbers[part["prompt"]]
        back = np.argsort(np.concatenate(rows))
        return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}


def _weights(sources: Sequence[FrameSource], weights: Sequence[float]) -> list[float]:
    chosen = list(weights) or [len(source) for source in sources]
    if len(chosen) != len(sources) or not all(np.isfinite(w) and w > 0 for w in chosen):
        raise UserError(f"weights {chosen} for {len(sources)} datasets: expected a positive one for each")
    return [weight / sum(chosen) for weight in chosen]
