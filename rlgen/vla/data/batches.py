"""Batches that a model trains on: frames of the data, noise, flow times and augmentation, all from (seed, step).

Random values come from NumPy on the host: they are the same bits on every device and after every resume, and XLA's CPU
compiler takes about a second for each random draw inside a step. Every process draws them for the whole batch and keeps
its own rows, so that a batch does not depend on the number of processes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from flax import struct
from jaxtyping import Array, Int, UInt8

from rlgen.core.arrays import ReusedMemory
from rlgen.data.frames import CAMERAS, FrameBatch, FrameSource
from rlgen.data.loader import Loader, LoaderOptions, Mixture
from rlgen.vla.data.images import UNIFORMS
from rlgen.vla.data.transforms import LIBERO_CAMERAS, PROMPT, STATE, Pipeline, Sample
from rlgen.vla.model import pi0
from rlgen.vla.model.config import VlaConfig


@struct.dataclass
class Batch:
    """The frames of a step as the model reads them, and the random values of the step.

    Attributes:
      images: camera -> uint8 `[B, h, w, 3]`, shifted.
      image_mask: camera -> `[B]`, whether the robot has this camera.
      state: normalized and padded, `[B, A]`.
      actions: likewise, `[B, H, A]`.
      chunk_mask: `[B, H]`, False behind the end of the episode.
      prompt: token ids, `[B, L]`.
      prompt_mask: `[B, L]`, False on padding.
      noise: R draws a frame, `[B, R, H, A]`.
      time: their flow times, `[B, R]`.
      state_noise: standard normal, `[B, A]`.
      augment: camera -> uniform values `[B, 6]`; empty without augmentation.
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
class BatchOptions(LoaderOptions):
    """The frames of a step, and the random values that are drawn for them.

    Attributes:
      draws: R, noises and flow times a frame.
      shift: largest movement of an image in pixels; each camera is moved independently.
      augment: whether to draw values for `rlgen.vla.data.images.augment`.
    """

    draws: int = 1
    shift: int = 0
    augment: bool = False


def batch_loader(
    config: VlaConfig, frames: FrameSource | Mixture, pipeline: Pipeline, options: BatchOptions
) -> Loader[Batch]:
    """Returns a loader of the batches that a model trains on.

    Args:
      config: the model.
      frames: the data.
      pipeline: the model's transforms.
      options: which frames, and what is drawn for them.
    """
    return Loader(frames, options, partial(make_batch, config, pipeline, options, memory=ReusedMemory()))


def make_batch(
    config: VlaConfig,
    pipeline: Pipeline,
    options: BatchOptions,
    frames: FrameBatch,
    step: int,
    *,
    memory: ReusedMemory | None = None,
) -> Batch:
    """Makes this process's rows of the batch of a step.

    Args:
      config: the model.
      pipeline: the model's transforms.
      options: what is drawn.
      frames: this process's frames of the step.
      step: with the seed it decides all random values.
      memory: of images that are shifted; new by default.
    """
    memory = memory or ReusedMemory()
    rows, count, draws = options.rows, options.batch, options.draws
    random = np.random.default_rng([options.seed, 1, step])
    noise = random.standard_normal((draws, count, config.horizon, config.action_size), np.float32)
    time = pi0.training_time(random.random((draws, count))).astype(np.float32)
    state_noise = random.standard_normal((count, config.action_size), np.float32)
    shift = options.shift
    moves = _per_camera(config, shift > 0, lambda: random.integers(-shift, shift + 1, (count, 2)))
    augment = _per_camera(config, options.augment, lambda: random.random((count, UNIFORMS), np.float32))
    sample = pipeline.inputs(to_sample(frames))
    images = sample["images"]
    # Of a camera that a dataset lacks, whose images are black.
    there = {LIBERO_CAMERAS[f"observation/{name}"]: frames[f"{name}_mask"] for name in CAMERAS}
    return Batch(
        images={
            name: shift_images(x, moves[name][rows], memory.empty(x.shape)) if moves else x
            for name, x in images.items()
        },
        image_mask={name: mask & there.get(name, True) for name, mask in sample["image_mask"].items()},
        state=sample["state"],
        actions=sample["actions"],
        chunk_mask=sample["action_mask"],
        prompt=sample["tokens"],
        prompt_mask=sample["token_mask"],
        noise=noise.swapaxes(0, 1)[rows],
        time=time.swapaxes(0, 1)[rows],
        state_noise=state_noise[rows],
        augment={name: values[rows] for name, values in augment.items()},
    )


def _per_camera(config: VlaConfig, wanted: bool, sample: Callable[[], np.ndarray]) -> dict[str, np.ndarray]:
    return {name: sample() for name in config.cameras} if wanted else {}


def to_sample(frames: FrameBatch) -> Sample:
    """Returns frames by the keys of openpi's LIBERO clients, with the actions that follow."""
    return {
        "observation/image": frames["image"],
        "observation/wrist_image": frames["wrist_image"],
        STATE: frames["state"],
        PROMPT: frames["prompt"],
        "actions": frames["action_chunks"],
        "action_mask": frames["chunk_mask"],
    }


def shift_images(
    images: UInt8[np.ndarray, "B h w 3"], moves: Int[np.ndarray, "B 2"], out: UInt8[np.ndarray, "B h w 3"]
) -> UInt8[np.ndarray, "B h w 3"]:
    """Moves each image up and left, repeating its border.

    Args:
      images: B images.
      moves: pixels up and left.
      out: is filled and returned.
    """
    height, width = images.shape[1:3]
    most = np.array([height - 1, width - 1])
    for image, target, (down, right) in zip(images, out, np.clip(moves, -most, most).tolist(), strict=True):
        # Slices instead of index arrays, which take several times as long.
        top, bottom = max(-down, 0), height - max(down, 0)
        left, end = max(-right, 0), width - max(right, 0)
        target[top:bottom, left:end] = image[top + down : bottom + down, left + right : end + right]
        target[top:bottom, :left] = target[top:bottom, left : left + 1]
        target[top:bottom, end:] = target[top:bottom, end - 1 : end]
        target[:top], target[bottom:] = target[top], target[bottom - 1]
    return out
