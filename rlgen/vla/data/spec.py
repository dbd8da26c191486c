"""How a model is fed and what its actions mean: stored beside its parameters, compared with datasets' cards."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.errors import UserError
from rlgen.vla.data.normalize import Kind, NormStats
from rlgen.vla.data.tokens import Encode, hashed_words, sentencepiece
from rlgen.vla.data.transforms import LIBERO_DELTA, DeltaActions, Normalize, Pad, Pipeline, Repack, Resize, Tokenize
from rlgen.vla.model.config import ExpertConfig, LoraConfig, VisionConfig, VlaConfig

Semantics = Literal["relative", "absolute"]
WORDS = "words"


@dataclass(frozen=True)
class InputSpec:
    """The transforms of a model, as data.

    Attributes:
      normalisation: z-scores (pi0) or quantiles (pi0.5).
      actions: what the robot executes: movements relative to where it is, or absolute poses.
      delta: the model learns actions minus the state. Right for absolute actions; of relative ones it makes
        differences of differences, which openpi's released pi0 for LIBERO was trained on and has to be served with.
      tokenizer: `words` for hashed words, or the path of a SentencePiece model.
    """

    normalisation: Kind = "zscore"
    actions: Semantics = "relative"
    delta: bool = False
    tokenizer: str = WORDS

    @property
    def is_double_delta(self) -> bool:
        """Whether the state is subtracted from actions that are relative already."""
        return self.delta and self.actions == "relative"


def released_spec(name: str, tokenizer: str) -> InputSpec:
    """How the released models of a name are fed."""
    kind: Kind = "quantile" if name.startswith("pi05") else "zscore"
    return InputSpec(normalisation=kind, delta=name.startswith("pi0_libero"), tokenizer=tokenizer)


def check_dataset(spec: InputSpec, semantics: Any, where: str, *, double_delta: bool = False) -> None:
    """Compares a model with what a dataset's card says of its actions.

    Args:
      spec: of the model.
      semantics: the card's `action_semantics`, None where it says nothing.
      where: the dataset, for messages.
      double_delta: subtract the state from relative actions on purpose.

    Raises:
      UserError: the card says nothing or something else, or the state would be subtracted twice.
    """
    if semantics not in ("relative", "absolute"):
        raise UserError(
            f"{where} does not say what its actions are (action_semantics {semantics!r}); pass --actions relative for "
            "LIBERO's own, or absolute"
        )
    if semantics != spec.actions:
        raise UserError(f"actions of {where} are {semantics}, the model's are {spec.actions}; use one kind for both")
    if spec.is_double_delta and not double_delta:
        raise UserError(
            f"actions of {where} are relative and the model would subtract the state from them once more; train "
            "without delta, or pass --double-delta to do as openpi's released pi0 for LIBERO"
        )


def make_encoder(spec: InputSpec, config: VlaConfig) -> Encode:
    """The tokenizer; `UserError` where its file cannot be read."""
    if spec.tokenizer == WORDS:
        return hashed_words(config.vocabulary)
    return sentencepiece(Path(spec.tokenizer), config.vocabulary)


def make_pipeline(config: VlaConfig, spec: InputSpec, stats: NormStats, encode: Encode | None = None) -> Pipeline:
    """The transforms of a model on the robot's side of its parameters."""
    encode = encode or make_encoder(spec, config)
    delta = [DeltaActions(LIBERO_DELTA)] if spec.delta else []
    return Pipeline(
        (
            Repack(config.cameras, ACTION_SIZE),
            *delta,
            Normalize(stats, spec.normalisation, config.state_limit),
            Resize(config.image_size),
            Tokenize(encode, config.prompt_length, config.state_in_prompt),
            Pad(config.action_size, len(np.asarray(stats.state.mean))),
        )
    )


def to_json(config: VlaConfig, spec: InputSpec) -> dict[str, Any]:
    """Model and transforms as JSON; a limit of infinity is None."""
    sizes = dataclasses.asdict(config)
    sizes["state_limit"] = None if np.isinf(config.state_limit) else config.state_limit
    return {"format": 1, "model": sizes, "inputs": dataclasses.asdict(spec)}


def from_json(value: dict[str, Any]) -> tuple[VlaConfig, InputSpec]:
    """The inverse.

    Raises:
      UserError: it is damaged, or of another version.
    """
    try:
        if value["format"] != 1:
            raise ValueError(f"format {value['format']}")
        sizes = dict(value["model"])
        vision = VisionConfig(**sizes.pop("vision"))
        experts = {name: _expert(sizes.pop(name)) for name in ("language", "action")}
        limit = sizes.pop("state_limit")
        sizes["cameras"] = tuple(sizes["cameras"])
        config = VlaConfig(
            vision=vision, **experts, state_limit=float("inf") if limit is None else float(limit), **sizes
        )
        return config, InputSpec(**value["inputs"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the model's description is damaged or of another version ({error})") from error


def _expert(value: dict[str, Any]) -> ExpertConfig:
    lora = value["lora"]
    return ExpertConfig(value["width"], value["mlp"], None if lora is None else LoraConfig(**lora))
