"""What a training step looks at: frames, noise and augmentation, all from (seed, step).

Drawn by NumPy on the host: the same bits on every device and after every resume, and XLA's CPU compiler takes
about a second for each random draw inside a step. Every process draws for the whole batch and keeps its rows,
so that nothing depends on how many processes there are.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from flax import struct
from jaxtyping import Array, Int, UInt8

from rlgen.vla.data.images import NUMBERS
from rlgen.vla.data.mixture import Mixture
from rlgen.vla.data.transforms import Pipeline
from rlgen.vla.model import pi0
from rlgen.vla.model.config import VlaConfig

AHEAD = 2


@struct.dataclass
class Batch:
    """Frames of a step as the model reads them, and what is drawn for them.

    Attributes:
      pictures: camera name -> uint8 `[B, h, w, 3]`, shifted.
      picture_mask: camera name -> `[B]`.
      state: normalised and padded, `[B, A]`.
      actions: likewise, `[B, H, A]`.
      chunk_mask: `[B, H]`.
      prompt: `[B, L]`.
      prompt_mask: `[B, L]`.
      noise: R draws a frame, `[B, R, H, A]`.
      time: their flow times, `[B, R]`.
      state_noise: standard normal, `[B, A]`.
      augment: camera name -> uniform numbers `[B, 6]`; empty without augmentation.
    """

    images: dict[str, Array]
    image_mask: dict[str, Array]
    state: Array
    actions: Array
    chunk_mask: Array
    prompt: Array
    prompt_mask: Array
    noise: Array
    time: Array
    state_noise: Array
    augment: dict[str, Array]


@dataclass(frozen=True)
class BatchOptions:
    """What a step draws.

    Attributes:
      batch: B, frames of all processes together.
      draws: R, noises and flow times a frame.
      seed: of the run.
      shift: largest movement of a picture in pixels; each camera is moved by itself.
      augment: draw numbers for `rlgen.vla.data.images`.
      process: this one of `processes`, which divide B.
      processes: how many there are.
    """

    batch: int
    draws: int
    seed: int
    shift: int = 0
    augment: bool = False
    process: int = 0
    processes: int = 1

    @property
    def rows(self) -> slice:
        """Rows of the batch that this process makes."""
        size = self.batch // self.processes
        return slice(self.process * size, (self.process + 1) * size)


def shift(images: UInt8[np.ndarray, "B h w 3"], moves: Int[np.ndarray, "B 2"]) -> UInt8[np.ndarray, "B h w 3"]:
    """Moves each picture up and left by `moves` pixels, repeating its border."""
    out = np.empty_like(images)
    height, width = images.shape[1:3]
    most = np.array([height - 1, width - 1])
    for image, target, (down, right) in zip(images, out, np.clip(moves, -most, most).tolist(), strict=True):
        # Blocks instead of numbered rows and columns, which take several times as long.
        top, bottom = max(-down, 0), height - max(down, 0)
        left, end = max(-right, 0), width - max(right, 0)
        target[top:bottom, left:end] = image[top + down : bottom + down, left + right : end + right]
        target[top:bottom, :left] = target[top:bottom, left : left + 1]
        target[top:bottom, end:] = target[top:bottom, end - 1 : end]
        target[:top], target[bottom:] = target[top], target[bottom - 1]
    return out


def make_batch(config: VlaConfig, mixture: Mixture, pipeline: Pipeline, options: BatchOptions, step: int) -> Batch:
    """This process's rows of the batch of a step."""
    rows, count, draws = options.rows, options.batch, options.draws
    random = np.random.default_rng([options.seed, 1, step])
    noise = random.standard_normal((draws, count, config.horizon, config.action_size), np.float32)
    time = pi0.training_time(random.random((draws, count))).astype(np.float32)
    state_noise = random.standard_normal((count, config.action_size), np.float32)
    moves = _for_cameras(config, options.shift, lambda: random.integers(-options.shift, options.shift + 1, (count, 2)))
    augment = _for_cameras(config, options.augment, lambda: random.random((count, NUMBERS), np.float32))
    drawn = mixture.draw(count, options.seed, step)[rows]
    sample = pipeline.inputs(mixture.sample(drawn, config.horizon))
    images = sample["images"]
    return Batch(
        images={name: shift(p, moves[name][rows]) if moves else p for name, p in images.items()},
        image_mask=sample["image_mask"],
        state=sample["state"],
        actions=sample["actions"],
        chunk_mask=sample["action_mask"],
        prompt=sample["tokens"],
        prompt_mask=sample["token_mask"],
        noise=noise.swapaxes(0, 1)[rows],
        time=time.swapaxes(0, 1)[rows],
        state_noise=state_noise[rows],
        augment={name: numbers[rows] for name, numbers in augment.items()},
    )


def _for_cameras(config: VlaConfig, wanted: bool | int, draw) -> dict[str, np.ndarray]:
    return {name: draw() for name in config.cameras} if wanted else {}


def batches(
    config: VlaConfig, mixture: Mixture, pipeline: Pipeline, options: BatchOptions, first: int, count: int
) -> Iterator[Batch]:
    """The batches of `count` steps from `first` on, made by a thread a little ahead of where they are used."""
    with ThreadPoolExecutor(1) as pool:
        steps = iter(range(first, first + count))

        def begin():
            step = next(steps, None)
            return None if step is None else pool.submit(make_batch, config, mixture, pipeline, options, step)

        waiting = [begin() for _ in range(AHEAD)]
        while waiting[0] is not None:
            batch = waiting.pop(0).result()
            waiting.append(begin())
            yield batch
