"""What a training step looks at: frames, noise and augmentation, all from (seed, step).

Drawn by NumPy on the host: the same bits on every device and after every resume, and XLA's CPU compiler takes
about a second for each random draw inside a step.
"""

import numpy as np
from flax import struct
from jaxtyping import Array, Int, UInt8

from rlgen.vla import flow
from rlgen.vla.config import VlaConfig
from rlgen.vla.dataset import VlaData


@struct.dataclass
class Batch:
    """Raw frames of a step, and what is drawn for them.

    Attributes:
      pictures: camera name -> uint8 `[B, h, w, 3]`, shifted.
      state: `[B, 8]`.
      action_chunks: `[B, H, 7]`.
      chunk_mask: `[B, H]`.
      prompt: `[B, L]`.
      prompt_mask: `[B, L]`.
      noise: R draws a frame, `[R, B, H, A]`.
      time: their flow times, `[R, B]`.
      state_noise: standard normal, `[B, A]`.
    """

    pictures: dict[str, Array]
    state: Array
    action_chunks: Array
    chunk_mask: Array
    prompt: Array
    prompt_mask: Array
    noise: Array
    time: Array
    state_noise: Array


def batch_indices(frames: int, batch: int, seed: int, step: int) -> Int[np.ndarray, " B"]:
    """Frames of a step: each epoch a new permutation, one after the other without gaps.

    It depends on its arguments alone, which makes the place in the data part of `step`.
    """
    at = np.arange(step * batch, (step + 1) * batch)
    out = np.empty(batch, np.int64)
    for epoch in np.unique(at // frames):
        order = np.random.default_rng([seed, 0, int(epoch)]).permutation(frames)
        here = at // frames == epoch
        out[here] = order[at[here] % frames]
    return out


def shift(pictures: UInt8[np.ndarray, "B h w 3"], moves: Int[np.ndarray, "B 2"]) -> UInt8[np.ndarray, "B h w 3"]:
    """Moves each picture up and left by `moves` pixels, repeating its border."""
    out = np.empty_like(pictures)
    for picture, target, (down, right) in zip(pictures, out, moves, strict=True):
        rows = np.clip(np.arange(len(picture)) + down, 0, len(picture) - 1)
        columns = np.clip(np.arange(picture.shape[1]) + right, 0, picture.shape[1] - 1)
        target[:] = picture[rows][:, columns]
    return out


def make_batch(
    config: VlaConfig, data: VlaData, step: int, *, batch: int, draws: int, seed: int, most: int = 0
) -> Batch:
    """The batch of a step.

    Args:
      config: sizes of the model.
      data: all frames.
      step: number of the step, from 0.
      batch: B, frames.
      draws: R, noises and flow times a frame.
      seed: of the run.
      most: largest shift of a picture in pixels; each camera is shifted by itself.
    """
    index = batch_indices(len(data), batch, seed, step)
    random = np.random.default_rng([seed, 1, step])
    noise = random.standard_normal((draws, batch, config.horizon, config.action_size), np.float32)
    time = flow.training_time(random.random((draws, batch))).astype(np.float32)
    state_noise = random.standard_normal((batch, config.action_size), np.float32)
    pictures = {name: data.pictures[name][index] for name in config.cameras}
    if most:
        pictures = {n: shift(p, random.integers(-most, most + 1, (batch, 2))) for n, p in pictures.items()}
    return Batch(
        pictures=pictures,
        state=data.state[index],
        action_chunks=data.action_chunks[index],
        chunk_mask=data.chunk_mask[index],
        prompt=data.prompt[index],
        prompt_mask=data.prompt_mask[index],
        noise=noise,
        time=time,
        state_noise=state_noise,
    )
