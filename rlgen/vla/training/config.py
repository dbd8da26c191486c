"""The settings of a flow VLA's training (`TrainConfig`), recipes of them, and those of a fine-tuning (`FineTune`)."""

import dataclasses
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from rlgen.configs.devices import DeviceConfig
from rlgen.configs.ranges import (
    Batch,
    Chunk,
    Count,
    FractionBelowOne,
    LearningRate,
    Natural,
    Pixels,
    Positive,
    Range,
    Seed,
    Settings,
    Shift,
    Weight,
    Workers,
)
from rlgen.core.errors import UserError
from rlgen.vla.model.config import STORED_AS, Cameras, NormalizationKind, Remat, Trainable
from rlgen.vla.model.presets import SMALL


@dataclass(frozen=True)
class TrainConfig(Settings):
    """The settings of a training; the defaults are pi0's recipe.

    Attributes:
      steps: optimizer steps of the whole run, warm-up included.
      batch: frames a step, of all devices and hosts.
      accumulate: parts that a batch is cut into, one after the other; the gradient is that of the whole batch.
      draws: noises and flow times a frame; its images are encoded once for all of them.
      schedule: after the warm-up: cosine to `end_rate`, or the reciprocal square root of the steps, or constant.
      peak_rate: learning rate after warm-up.
      end_rate: learning rate at the end of the cosine.
      decay_steps: step at which the cosine ends, warm-up included; the last one by default.
      timescale: steps of the reciprocal square root, peak / sqrt(1 + step / timescale).
      warmup: steps of linear warm-up.
      beta1: AdamW.
      beta2: AdamW.
      eps: AdamW.
      weight_decay: AdamW.
      clip: largest global norm of a gradient.
      moments: type of AdamW's first moments.
      ema: decay of the averaged parameters; None keeps no average.
      trainable: which parameters change; the others are kept in bfloat16.
      freeze_vision: leave the image encoder as it is.
      shift: largest random movement of images in pixels, drawn for each camera.
      augment: crop, rotate and recolor images as openpi does, each camera independently.
      state_noise: standard deviation of noise on the normalized state, which makes the policy rely more on images
        and less on the gripper's own position.
      mask_padding: leave actions behind an episode's end out of the loss; pi0 keeps them.
      seed: of the parameters, the order of the data and all noise.
    """

    section: ClassVar[str] = "train."

    steps: Count = 30_000
    batch: Batch = 32
    accumulate: Count = 1
    draws: Annotated[int, Range(1, 1000)] = 1
    schedule: Literal["cosine", "rsqrt", "constant"] = "cosine"
    peak_rate: LearningRate = 2.5e-5
    end_rate: LearningRate = 2.5e-6
    decay_steps: Count | None = None
    timescale: Count = 10_000
    warmup: Natural = 1_000
    beta1: FractionBelowOne = 0.9
    beta2: FractionBelowOne = 0.95
    eps: Positive = 1e-8
    weight_decay: Weight = 1e-10
    clip: Positive = 1.0
    moments: Literal["float32", "bfloat16"] = "float32"
    ema: FractionBelowOne | None = 0.99
    trainable: Trainable = "all"
    freeze_vision: bool = False
    shift: Shift = 0
    augment: bool = False
    state_noise: Weight = 0.0
    mask_padding: bool = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup >= self.steps:
            raise UserError(f"train.warmup {self.warmup}: it must end before the last of {self.steps} steps")
        if self.batch % self.accumulate:
            raise UserError(f"train.accumulate {self.accumulate}: it does not divide the batch of {self.batch}")


def quickstart() -> TrainConfig:
    """Returns the recipe for the model `small` on two CPU cores and a few thousand frames."""
    return TrainConfig(
        steps=600, draws=2, peak_rate=1e-3, end_rate=1e-5, warmup=50, weight_decay=1e-2,
        ema=0.995, shift=2, state_noise=0.3, mask_padding=True,
    )  # fmt: skip


def smoke() -> TrainConfig:
    """Returns a recipe for the model `tiny` that shows that training runs, not that it learns."""
    return replace(quickstart(), steps=20, batch=8, draws=2, warmup=5, ema=0.9)


def recipe(model: str) -> TrainConfig:
    """Returns openpi's recipe for a published model, and for a small one some tens of minutes on two cores."""
    if model in SMALL:
        return replace(quickstart(), steps=3_000, warmup=100)
    if model.startswith("pi05"):
        base = TrainConfig(
            batch=256, warmup=10_000, peak_rate=5e-5, end_rate=5e-5, decay_steps=1_000_000, ema=0.999, augment=True
        )
    else:
        base = TrainConfig(augment=True)
    return replace(base, trainable="lora", ema=None) if model.endswith("lora") else base


# Settings that may differ when a run is resumed: its machine, and its output.
MAY_DIFFER = (
    "fsdp", "workers", "coordinator", "processes", "process", "overwrite", "log_every", "dry_run", "sheet",
    "keep_best", "mask_cameras",
)  # fmt: skip


@dataclass(frozen=True)
class FineTune(DeviceConfig):
    """The settings of a fine-tuning of a flow VLA on exported datasets."""

    data: tuple[str, ...] = ()
    """Folders of datasets, `<name>/<version>`, or HDF5 files."""
    split: str | None = None
    """Of RLDS datasets of others; train by default, or the only one there is."""
    out: str = "runs/vla"
    """Folder for checkpoints and the model; the same command resumes, also with more steps or data, or moved data."""
    model: str = "pi0"
    """pi0, pi05, pi0_lora, pi05_lora, pi0_libero, pi05_libero, pi0_libero_lora, small or tiny."""
    weights: str | None = None
    """openpi checkpoint folder, or PaliGemma's npz; fresh parameters by default."""
    mix: tuple[Positive, ...] = ()
    """Weight of each dataset; by default its number of steps."""
    tokenizer: str = "words"
    """SentencePiece model file (paligemma_tokenizer.model); `words` needs none, for models trained from scratch."""
    normalization: NormalizationKind | None = None
    """By default z-scores for pi0 and the small models, quantiles for pi05."""
    norm_stats: str | None = None
    """openpi's norm_stats.json to normalize with; by default computed from the data."""
    actions: Literal["relative", "absolute"] | None = None
    """Meaning of the actions in datasets whose card does not say it."""
    delta: bool = False
    """Learn actions minus the state; only for absolute actions."""
    double_delta: bool = False
    """Subtract the state from relative actions on purpose, as openpi's released pi0 for LIBERO."""
    cameras: Cameras | None = None
    """LIBERO's 2, by default; 3 adds the published models' third, black and masked: the same for more work."""
    image_size: Pixels | None = None
    """Pixels along a side; by default the model's."""
    horizon: Chunk | None = None
    """Actions in a chunk; by default the model's."""
    action_size: Annotated[int, Range(1, 1024)] | None = None
    """Room for the numbers of a state or an action, for models trained from scratch; by default the model's."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Type of activations; by default the model's."""
    remat: Remat | None = None
    """Recompute activations: all (True; by default of large models), or all but products with weights (faster)."""
    hold_out: FractionBelowOne = 0.05
    """Fraction of the episodes of each dataset to validate on, 0 for none."""
    validate_every: Count = 1000
    """Steps between two validations."""
    validate_frames: Count = 512
    """Frames of a validation."""
    checkpoint_every: Count = 1000
    """Steps between two checkpoints."""
    log_every: Count = 10
    """Steps between two lines of metrics."""
    keep: Count = 2
    """Checkpoints to keep."""
    fsdp: Count = 1
    """Devices that share each parameter."""
    workers: Workers = 2
    """Threads that read and decode batches."""
    overwrite: bool = False
    """Remove the fine-tuning that is in `out` and start anew."""
    dry_run: bool = False
    """Check settings, data and weights as a training would, show what the model will see, and stop."""
    sheet: str | None = None
    """PNG of examples that a dry run writes; OUT.examples.png by default."""
    mask_cameras: bool = False
    """Train on data that lack a camera of the robot; it is black and masked there."""
    keep_best: bool = True
    """Keep the model of the smallest validation loss in model/best, beside the last one."""
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mix and len(self.mix) != len(self.data):
            raise UserError(f"{len(self.mix)} weights in --mix for {len(self.data)} datasets; give one for each")


def resolved(config: FineTune) -> dict[str, Any]:
    """Returns the settings that a resumed run must share, by the names under which they are stored."""
    return {
        STORED_AS.get(key, key): value for key, value in dataclasses.asdict(config).items() if key not in MAY_DIFFER
    }
