"""How a flow VLA is trained, as one frozen value; the defaults are pi0's recipe."""

from dataclasses import dataclass, replace
from typing import Literal

from rlgen.vla.config import Trainable


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the defaults are pi0's recipe.

    Attributes:
      steps: optimiser steps of the whole run, warm-up included.
      batch: frames a step, of all devices and hosts.
      accumulate: parts that a batch is cut into, one after the other; the gradient is that of the whole batch.
      draws: noise and flow times a frame; the pictures are encoded once for all of them.
      schedule: after the warm-up: cosine to `end_rate`, or the reciprocal root of the steps, or constant.
      peak_rate: learning rate after warm-up.
      end_rate: learning rate at the end of the cosine.
      decay_steps: where the cosine ends, warm-up included; by default at the last step.
      timescale: steps after which the reciprocal root begins to fall.
      warmup: steps of linear warm-up.
      beta1: AdamW.
      beta2: AdamW.
      eps: AdamW.
      weight_decay: AdamW.
      clip: largest global norm of a gradient.
      moments: type of AdamW's first moments.
      ema: decay of the averaged parameters; None keeps no average.
      trainable: which parameters change; the others are kept in bfloat16.
      freeze_vision: leave the picture encoder as it is.
      shift: random movement of pictures in pixels, another one for each camera.
      augment: crop, turn and recolour pictures as openpi does, each camera by itself.
      state_noise: normal noise on the normalised state, so that pictures are trusted more than the hand's
        own position.
      mask_padding: leave actions behind an episode's end out of the loss; pi0 keeps them.
      seed: of the parameters, the order of the data and all noise.
    """

    steps: int = 30_000
    batch: int = 32
    accumulate: int = 1
    draws: int = 1
    schedule: Literal["cosine", "rsqrt", "constant"] = "cosine"
    peak_rate: float = 2.5e-5
    end_rate: float = 2.5e-6
    decay_steps: int | None = None
    timescale: int = 10_000
    warmup: int = 1_000
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-10
    clip: float = 1.0
    moments: Literal["float32", "bfloat16"] = "float32"
    ema: float | None = 0.99
    trainable: Trainable = "all"
    freeze_vision: bool = False
    shift: int = 0
    augment: bool = False
    state_noise: float = 0.0
    mask_padding: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.warmup >= self.steps:
            raise ValueError(f"warmup {self.warmup} must end before the last of {self.steps} steps")
        if min(self.batch, self.draws, self.accumulate) < 1:
            raise ValueError(f"batch {self.batch}, draws {self.draws}, accumulate {self.accumulate} must be 1 or more")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} does not divide the batch of {self.batch}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"ema {self.ema} must lie in [0, 1)")


def quickstart() -> TrainConfig:
    """For the model `small` on two CPU cores and a few thousand frames."""
    return TrainConfig(
        steps=600, draws=2, peak_rate=1e-3, end_rate=1e-5, warmup=50, weight_decay=1e-2,
        ema=0.995, shift=2, state_noise=0.3, mask_padding=True,
    )  # fmt: skip


def smoke() -> TrainConfig:
    """For the model `tiny`: whether it runs, not whether it learns."""
    return replace(quickstart(), steps=20, batch=8, draws=2, warmup=5, ema=0.9)


def recipe(model: str) -> TrainConfig:
    """openpi's recipe for a published model, ours for the small ones, for a few tens of minutes on two cores."""
    if model in ("small", "tiny"):
        return replace(quickstart(), steps=3_000, warmup=100)
    if model.startswith("pi05"):
        base = TrainConfig(
            batch=256, warmup=10_000, peak_rate=5e-5, end_rate=5e-5, decay_steps=1_000_000, ema=0.999, augment=True
        )
    else:
        base = TrainConfig(augment=True)
    return replace(base, trainable="lora", ema=None) if model.endswith("lora") else base
