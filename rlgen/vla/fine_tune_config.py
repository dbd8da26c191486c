"""The settings of a fine-tuning run. Imports nothing heavy: `--help` is quick."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from rlgen.errors import UserError
from rlgen.vla.train_config import TrainConfig

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
