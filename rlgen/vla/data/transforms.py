"""What lies between a robot and the model, as named pairs: training, evaluation and serving use the same objects.

A sample is a dict of NumPy arrays with any number of leading batch axes, by the keys of openpi's LIBERO clients
on the robot's side. `inputs` brings it to the model, `outputs` brings the model's actions back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from rlgen.core.errors import UserError
from rlgen.vla.data.images import resize_with_pad, to_uint8
from rlgen.vla.data.normalize import Kind, NormStats, add_state, normalize, pad_last, subtract_state, unnormalize
from rlgen.vla.data.tokens import Encode, tokenize

Sample = dict[str, Any]
LIBERO_CAMERAS = {"observation/image": "base_0_rgb", "observation/wrist_image": "left_wrist_0_rgb"}
STATE, PROMPT = "observation/state", "prompt"
# The arm's six numbers; the gripper's is absolute anyway.
LIBERO_DELTA = (True,) * 6 + (False,)


class Transform(Protocol):
    """A pair of functions and its name."""

    name: ClassVar[str]

    def inputs(self, sample: Sample) -> Sample:
        """On the way to the model."""

    def outputs(self, sample: Sample) -> Sample:
        """On the way back: `actions`, and what else the model was given."""


@dataclass(frozen=True)
class Repack:
    """The robot's keys as ours; cameras of the model that the robot lacks are black and masked.

    Attributes:
      cameras: the robot's key -> the model's camera.
      wanted: the model's cameras, in order.
      action_size: numbers of a robot's action; the model's padding is cut on the way back.
    """

    name: ClassVar[str] = "repack"
    wanted: tuple[str, ...]
    action_size: int
    cameras: Mapping[str, str] = field(default_factory=lambda: dict(LIBERO_CAMERAS))

    def inputs(self, sample: Sample) -> Sample:
        for key in (*self.cameras, STATE, PROMPT):
            if key not in sample:
                raise UserError(f"the observation has no {key!r}; expected {', '.join((*self.cameras, STATE, PROMPT))}")
        given = {camera: _image(key, sample[key]) for key, camera in self.cameras.items()}
        state = _numbers(STATE, sample[STATE])
        batch = state.shape[:-1]
        some = next(iter(given.values()))
        packed = {
            "images": {camera: given.get(camera, np.zeros_like(some)) for camera in self.wanted},
            "image_mask": {camera: np.full(batch, camera in given) for camera in self.wanted},
            "state": state,
            "prompt": _prompt(sample[PROMPT], batch),
        }
        for camera, image in packed["images"].items():
            if image.shape[:-3] != batch:
                raise UserError(f"picture {camera} has shape {list(image.shape)}, the state {list(state.shape)}")
        rest = {key: sample[key] for key in ("actions", "action_mask") if key in sample}
        return {**packed, **rest}

    def outputs(self, sample: Sample) -> Sample:
        return {**sample, "actions": sample["actions"][..., : self.action_size]}


@dataclass(frozen=True)
class DeltaActions:
    """Absolute actions as differences from the state, where `mask` says so."""

    name: ClassVar[str] = "delta actions"
    mask: tuple[bool, ...]

    def inputs(self, sample: Sample) -> Sample:
        if "actions" not in sample:
            return sample
        return {**sample, "actions": subtract_state(sample["actions"], sample["state"], self.mask)}

    def outputs(self, sample: Sample) -> Sample:
        return {**sample, "actions": add_state(sample["actions"], sample["state"], self.mask)}


@dataclass(frozen=True)
class Normalize:
    """State and actions by a dataset's statistics, states kept within plus and minus `limit`."""

    name: ClassVar[str] = "normalize"
    stats: NormStats
    kind: Kind = "zscore"
    limit: float = float("inf")

    def inputs(self, sample: Sample) -> Sample:
        size = len(self.stats.state.mean)
        if sample["state"].shape[-1] != size:
            raise UserError(f"the state has {sample['state'].shape[-1]} numbers, the model was trained with {size}")
        state = np.clip(normalize(self.stats.state, sample["state"], self.kind), -self.limit, self.limit)
        out = {**sample, "state": np.asarray(state, np.float32)}
        if "actions" in sample:
            out["actions"] = np.asarray(normalize(self.stats.actions, sample["actions"], self.kind), np.float32)
        return out

    def outputs(self, sample: Sample) -> Sample:
        return {
            **sample,
            "state": unnormalize(self.stats.state, sample["state"], self.kind),
            "actions": unnormalize(self.stats.actions, sample["actions"], self.kind),
        }


@dataclass(frozen=True)
class Resize:
    """Pictures into squares of `side` pixels, with their aspect ratio and black around."""

    name: ClassVar[str] = "resize"
    side: int

    def inputs(self, sample: Sample) -> Sample:
        return {**sample, "images": {name: resize_with_pad(p, self.side) for name, p in sample["images"].items()}}

    def outputs(self, sample: Sample) -> Sample:
        return sample


@dataclass(frozen=True)
class Tokenize:
    """The prompt as ids, with the normalised state in it if `with_state`."""

    name: ClassVar[str] = "tokenize"
    encode: Encode
    length: int
    with_state: bool = False

    def inputs(self, sample: Sample) -> Sample:
        prompts, state = sample["prompt"], sample["state"]
        rows = state.reshape(-1, state.shape[-1])
        flat = [prompts] if isinstance(prompts, str) else prompts
        pairs = zip(flat, rows, strict=True)
        done = [tokenize(p, self.encode, self.length, s if self.with_state else None) for p, s in pairs]
        ids, mask = (np.stack(part).reshape(*state.shape[:-1], self.length) for part in zip(*done, strict=True))
        return {**{key: value for key, value in sample.items() if key != "prompt"}, "tokens": ids, "token_mask": mask}

    def outputs(self, sample: Sample) -> Sample:
        return sample


@dataclass(frozen=True)
class Pad:
    """Zeros behind state and actions up to the model's width."""

    name: ClassVar[str] = "pad"
    size: int
    state_size: int

    def inputs(self, sample: Sample) -> Sample:
        padded = {key: pad_last(sample[key], self.size) for key in ("state", "actions") if key in sample}
        return {**sample, **padded}

    def outputs(self, sample: Sample) -> Sample:
        return {**sample, "state": sample["state"][..., : self.state_size]}


@dataclass(frozen=True)
class Pipeline:
    """Transforms in a row: in order to the model, in the opposite order back."""

    transforms: Sequence[Transform]

    def inputs(self, sample: Sample) -> Sample:
        """The robot's sample as the model reads it."""
        for transform in self.transforms:
            sample = transform.inputs(sample)
        return sample

    def outputs(self, sample: Sample) -> Sample:
        """The model's `actions`, with the `state` that it read, as the robot takes them."""
        for transform in reversed(self.transforms):
            sample = transform.outputs(sample)
        return sample

    @property
    def names(self) -> list[str]:
        """Names in order."""
        return [transform.name for transform in self.transforms]


def _image(key: str, value: Any) -> np.ndarray:
    image = np.asarray(value)
    if image.ndim >= 3 and image.shape[-1] != 3 and image.shape[-3] == 3:
        image = np.moveaxis(image, -3, -1)
    numbers = image.dtype == np.uint8 or np.issubdtype(image.dtype, np.floating)
    if image.ndim < 3 or image.shape[-1] != 3 or not numbers or 0 in image.shape:
        raise UserError(f"{key} is {image.dtype} {list(image.shape)}, expected a picture [h, w, 3] of uint8")
    return to_uint8(image)


def _numbers(key: str, value: Any) -> np.ndarray:
    try:
        numbers = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key} is not an array of numbers: {error}") from error
    if numbers.ndim < 1 or not np.isfinite(numbers).all():
        raise UserError(f"{key} {list(numbers.shape)} holds numbers that are not finite, or is a single one")
    return numbers


def _prompt(value: Any, batch: tuple[int, ...]) -> str | list[str]:
    """One text, or one for each sample; numpy's text scalars count as texts."""
    texts = np.asarray(value)
    if texts.dtype.kind != "U" or texts.size != int(np.prod(batch)):
        raise UserError(f"prompt is {str(value)[:60]!r}, expected a text for each observation")
    return [str(text) for text in texts.reshape(-1)] if batch else str(texts.reshape(-1)[0])
