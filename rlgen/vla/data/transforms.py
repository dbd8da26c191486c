"""Transforms between a robot and a model, each with its inverse; training, evaluation and serving share them.

A sample is a dict of NumPy arrays with any number of leading batch axes. On the robot's side it has the keys of
openpi's LIBERO clients (`observation/image`, `observation/wrist_image`, `observation/state`, `prompt`). `inputs`
turns it into what the model reads, `outputs` turns the model's actions into the robot's. `rlgen.vla.data.spec` puts
the transforms of a model together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import LIBERO, Robot
from rlgen.data.resize import resize_with_pad
from rlgen.vla.data.inputs import as_image, as_prompt, as_vector
from rlgen.vla.data.normalize import (
    NormStats,
    Statistics,
    add_state,
    normalize,
    pad_last,
    subtract_state,
    unnormalize,
)
from rlgen.vla.data.tokens import Encode, describe_cut, tokenize
from rlgen.vla.model.config import NormalizationKind

Sample = dict[str, Any]
LIBERO_CAMERAS = {"observation/image": "base_0_rgb", "observation/wrist_image": "left_wrist_0_rgb"}
STATE, PROMPT = "observation/state", "prompt"


class Transform(Protocol):
    """A pair of functions with a name."""

    name: ClassVar[str]

    def inputs(self, sample: Sample) -> Sample:
        """Transforms a sample on its way to the model."""

    def outputs(self, sample: Sample) -> Sample:
        """Transforms the model's `actions`, and the `state` that it read, on their way to the robot."""


@dataclass(frozen=True)
class Repack:
    """A transform that renames the robot's keys; cameras of the model that the robot lacks are black and masked.

    Attributes:
      model_cameras: the model's cameras, in order.
      action_size: dimensions of the robot's action; the model's padding is cut off on the way back.
      cameras: the robot's key -> the model's camera.
    """

    name: ClassVar[str] = "repack"
    model_cameras: tuple[str, ...]
    action_size: int
    cameras: Mapping[str, str] = field(default_factory=lambda: dict(LIBERO_CAMERAS))

    def inputs(self, sample: Sample) -> Sample:
        """Renames images, state and prompt, and adds a mask of the cameras that there are."""
        for key in (*self.cameras, STATE, PROMPT):
            if key not in sample:
                raise UserError(f"the observation has no {key!r}; expected {', '.join((*self.cameras, STATE, PROMPT))}")
        given = {camera: as_image(key, sample[key]) for key, camera in self.cameras.items()}
        state = as_vector(STATE, sample[STATE])
        batch = state.shape[:-1]
        absent = [camera for camera in self.model_cameras if camera not in given]
        black = {camera: np.zeros_like(next(iter(given.values()))) for camera in absent}
        packed = {
            "images": {camera: ({**given, **black})[camera] for camera in self.model_cameras},
            "image_mask": {camera: np.full(batch, camera in given) for camera in self.model_cameras},
            "state": state,
            "prompt": as_prompt(sample[PROMPT], batch),
        }
        for camera, image in packed["images"].items():
            if image.shape[:-3] != batch:
                raise UserError(f"image {camera} has shape {list(image.shape)}, the state {list(state.shape)}")
        rest = {key: sample[key] for key in ("actions", "action_mask") if key in sample}
        return {**packed, **rest}

    def outputs(self, sample: Sample) -> Sample:
        """Cuts actions to the robot's dimensions."""
        return {**sample, "actions": sample["actions"][..., : self.action_size]}


@dataclass(frozen=True)
class DeltaActions:
    """A transform that turns absolute actions into differences from the state, in the dimensions of `mask`."""

    name: ClassVar[str] = "delta actions"
    mask: tuple[bool, ...]

    def inputs(self, sample: Sample) -> Sample:
        """Subtracts the state from actions."""
        if "actions" not in sample:
            return sample
        return {**sample, "actions": subtract_state(sample["actions"], sample["state"], self.mask)}

    def outputs(self, sample: Sample) -> Sample:
        """Adds the state to actions."""
        return {**sample, "actions": add_state(sample["actions"], sample["state"], self.mask)}


@dataclass(frozen=True)
class Normalize:
    """A transform that normalizes state and actions, and clips normalized states to [-limit, limit]."""

    name: ClassVar[str] = "normalize"
    stats: NormStats
    kind: NormalizationKind = "zscore"
    limit: float = float("inf")

    def inputs(self, sample: Sample) -> Sample:
        """Normalizes state and actions; where states are clipped, `whole_state` keeps the one that was not."""
        _check_width("the state has", sample["state"], self.stats.state)
        with np.errstate(over="ignore"):
            whole = np.asarray(normalize(self.stats.state, sample["state"], self.kind), np.float32)
        state = np.clip(whole, -self.limit, self.limit)
        if not np.isfinite(state).all():
            raise UserError(f"{STATE} is {np.abs(sample['state']).max():g} at its largest, too large to be normalized")
        out = {**sample, "state": state}
        if np.isfinite(self.limit):
            out["whole_state"] = whole
        if "actions" in sample:
            _check_width("actions have", sample["actions"], self.stats.actions)
            out["actions"] = np.asarray(normalize(self.stats.actions, sample["actions"], self.kind), np.float32)
        return out

    def outputs(self, sample: Sample) -> Sample:
        """Returns state and actions in the robot's units; the state as it was before it was clipped."""
        return {
            **sample,
            "state": unnormalize(self.stats.state, sample.get("whole_state", sample["state"]), self.kind),
            "actions": unnormalize(self.stats.actions, sample["actions"], self.kind),
        }


def _check_width(what: str, vector: np.ndarray, stats: Statistics) -> None:
    if vector.shape[-1] != len(stats.mean):
        raise UserError(f"{what} {vector.shape[-1]} dimensions, the model was trained with {len(stats.mean)}")


@dataclass(frozen=True)
class Resize:
    """A transform that resizes images to squares of `size` pixels, padded with black to keep their aspect ratio."""

    name: ClassVar[str] = "resize"
    size: int

    def inputs(self, sample: Sample) -> Sample:
        """Resizes images."""
        return {**sample, "images": {name: resize_with_pad(x, self.size) for name, x in sample["images"].items()}}

    def outputs(self, sample: Sample) -> Sample:
        """Changes nothing."""
        return sample


@dataclass(frozen=True)
class Tokenize:
    """A transform that encodes the prompt as ids, with the normalized state, of `state_size`, in it if `with_state`."""

    name: ClassVar[str] = "tokenize"
    encode: Encode
    length: int
    with_state: bool = False
    state_size: int = LIBERO.state

    def inputs(self, sample: Sample) -> Sample:
        """Replaces prompts by `tokens` and `token_mask`."""
        prompts, state = sample["prompt"], sample["state"]
        rows = state.reshape(-1, state.shape[-1])
        flat = [prompts] if isinstance(prompts, str) else prompts
        pairs = zip(flat, rows, strict=True)
        done = [tokenize(p, self.encode, self.length, s if self.with_state else None) for p, s in pairs]
        ids, mask = (np.stack(part).reshape(*state.shape[:-1], self.length) for part in zip(*done, strict=True))
        return {**{key: value for key, value in sample.items() if key != "prompt"}, "tokens": ids, "token_mask": mask}

    def outputs(self, sample: Sample) -> Sample:
        """Changes nothing."""
        return sample

    def describe_cut(self, prompts: Iterable[str]) -> str | None:
        """Returns a line about the prompts that are cut, or None, as `tokens.describe_cut`."""
        state = np.zeros(self.state_size) if self.with_state else None
        return describe_cut(prompts, self.encode, self.length, state)


@dataclass(frozen=True)
class Pad:
    """A transform that pads state and actions with zeros up to the model's width."""

    name: ClassVar[str] = "pad"
    size: int
    state_size: int

    def inputs(self, sample: Sample) -> Sample:
        """Pads state and actions."""
        padded = {key: pad_last(sample[key], self.size) for key in ("state", "actions") if key in sample}
        return {**sample, **padded}

    def outputs(self, sample: Sample) -> Sample:
        """Cuts the state to the robot's dimensions; `Repack` cuts the actions."""
        return {**sample, "state": sample["state"][..., : self.state_size]}


@dataclass(frozen=True)
class Pipeline:
    """A sequence of transforms, applied in order to inputs and in reverse order to outputs, and the robot's widths."""

    transforms: Sequence[Transform]
    robot: Robot = LIBERO

    def inputs(self, sample: Sample) -> Sample:
        """Returns the robot's sample as the model reads it."""
        for transform in self.transforms:
            sample = transform.inputs(sample)
        return sample

    def outputs(self, sample: Sample) -> Sample:
        """Returns the model's `actions`, given with the `state` that it read, as the robot executes them."""
        for transform in reversed(self.transforms):
            sample = transform.outputs(sample)
        return sample

    def describe_cut(self, prompts: Iterable[str]) -> str | None:
        """Returns a line about the prompts that are cut, or None, as `tokens.describe_cut`."""
        tokenizers = [transform for transform in self.transforms if isinstance(transform, Tokenize)]
        return tokenizers[0].describe_cut(prompts) if tokenizers else None

    @property
    def names(self) -> list[str]:
        """Returns the names of the transforms, in order."""
        return [transform.name for transform in self.transforms]
