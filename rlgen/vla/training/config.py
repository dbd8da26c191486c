"""How a flow VLA is trained, as one frozen value; the defaults are pi0's recipe."""

import dataclasses
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rlgen.core.errors import UserError
from rlgen.vla.model.config import Trainable


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


# What may differ when a run goes on: where it runs, and what it says.
FREE = ("fsdp", "threads", "coordinator", "processes", "process", "overwrite", "log_every", "dry_run")


@dataclass(frozen=True)
class FineTune:
    """A fine-tuning of a flow VLA on exported datasets."""

    data: tuple[str, ...] = ()
    """Folders of datasets, `<name>/<version>`."""
    out: str = "runs/vla"
    """Folder for checkpoints, metrics and the finished model; the same command goes on where it was."""
    model: str = "pi0"
    """pi0, pi05, pi0_lora, pi05_lora, pi0_libero, pi05_libero, pi0_libero_lora, small or tiny."""
    weights: str | None = None
    """openpi checkpoint folder, or PaliGemma's npz; fresh parameters by default."""
    mix: tuple[float, ...] = ()
    """How often each dataset is drawn; by default by its number of steps."""
    tokenizer: str = "words"
    """SentencePiece model file (paligemma_tokenizer.model); `words` needs none, for models trained from fresh."""
    normalisation: Literal["zscore", "quantile"] | None = None
    """By default z-scores for pi0 and the small models, quantiles for pi05."""
    norm_stats: str | None = None
    """openpi's norm_stats.json to normalise with; by default taken from the data."""
    actions: Literal["relative", "absolute"] | None = None
    """What the actions of data without a card are."""
    delta: bool = False
    """Learn actions minus the state; only for absolute actions."""
    double_delta: bool = False
    """Subtract the state from relative actions on purpose, as openpi's released pi0 for LIBERO."""
    image_size: int | None = None
    """Pixels along a side; by default the model's."""
    horizon: int | None = None
    """Actions in a chunk; by default the model's."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Activations; by default the model's."""
    remat: bool | None = None
    """Compute activations again in the backward pass; by default where the model is not small."""
    hold_out: float = 0.05
    """Share of the episodes of each dataset to validate on, 0 for none."""
    validate_every: int = 1000
    """Steps between two validations."""
    validate_frames: int = 512
    """Frames of a validation."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints."""
    log_every: int = 10
    """Steps between two lines of metrics."""
    keep: int = 2
    """Checkpoints to keep."""
    fsdp: int = 1
    """Devices that share each parameter."""
    threads: int = 2
    """Threads that decode pictures."""
    coordinator: str | None = None
    """host:port of the first process, where there are several."""
    processes: int = 1
    """How many processes there are."""
    process: int = 0
    """Which one this is."""
    overwrite: bool = False
    """Begin anew."""
    dry_run: bool = False
    """Say what would be done and what memory it takes, and stop."""
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.mix and len(self.mix) != len(self.data):
            raise UserError(f"{len(self.mix)} numbers in --mix for {len(self.data)} datasets; give one for each")
        if min(self.validate_every, self.checkpoint_every, self.log_every, self.keep) < 1:
            raise UserError("--validate-every, --checkpoint-every, --log-every and --keep must be 1 or more")
        if self.processes > 1 and self.coordinator is None:
            raise UserError(f"{self.processes} processes need --coordinator host:port of the first")


def resolved(config: FineTune) -> dict[str, Any]:
    """What a run is, as JSON: everything but where it runs."""
    return {key: value for key, value in dataclasses.asdict(config).items() if key not in FREE}


def difference(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Names of settings that two runs do not share."""
    names = []
    for key in sorted(set(before) | set(now)):
        a, b = before.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            names += difference(a, b, f"{prefix}{key}.")
        elif (list(a) if isinstance(a, tuple) else a) != (list(b) if isinstance(b, tuple) else b):
            names.append(f"{prefix}{key} ({a} -> {b})")
    return names
