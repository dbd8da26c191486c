"""The configuration of a flow VLA of any size: `VlaConfig` and its parts."""

from dataclasses import dataclass
from typing import Literal

NormalizationKind = Literal["zscore", "quantile"]
# Fields that are stored under another name.
STORED_AS = {"normalization": "normalisation"}
Trainable = Literal["all", "lora", "expert"]
Cameras = Literal[2, 3]
Remat = Literal[False, True, "products"]
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


@dataclass(frozen=True)
class VisionConfig:
    """The sizes of the image encoder, a SigLIP-style ViT.

    Attributes:
      width: channels of an image token.
      depth: transformer blocks.
      mlp: hidden channels of a block's MLP.
      heads: attention heads; divide `width`.
      patch: side of a patch in pixels; divides the image's side.
      stem: `linear` cuts patches and projects them, as pi0 does; `conv` reaches the same grid of
        tokens through overlapping convolutions, which learn from far fewer images.
      stem_width: channels of the convolutional stem's finest map; unused by `linear`.
      stem_cell: pixels along a side of that map's cells; half the patch or less, a power of two.
    """

    width: int
    depth: int
    mlp: int
    heads: int
    patch: int
    stem: Literal["linear", "conv"] = "linear"
    stem_width: int = 32
    stem_cell: int = 8

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"vision width {self.width} is not a multiple of its {self.heads} heads")
        ratio = self.patch // self.stem_cell
        if self.stem == "conv" and (ratio < 2 or ratio & (ratio - 1) or self.patch % self.stem_cell):
            raise ValueError(f"patch {self.patch} is not stem_cell {self.stem_cell} times 2, 4, 8 ...")


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters of an expert's attention and MLP.

    Attributes:
      rank: inner size.
      alpha: strength in the attention, as a multiple of `rank`; None is `rank`.
    """

    rank: int
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"an adapter of rank {self.rank}: expected 1 or more")

    @property
    def scale(self) -> float:
        """Returns the factor of the adapters' product in the attention."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


@dataclass(frozen=True)
class ExpertConfig:
    """The sizes of one of the two transformers that share their attention.

    Attributes:
      width: channels of a token.
      mlp: hidden channels of the gated MLP.
      lora: its adapters, if it has any.
    """

    width: int
    mlp: int
    lora: LoraConfig | None = None


@dataclass(frozen=True)
class VlaConfig:
    """The sizes of a pi0-style model.

    Attributes:
      family: `pi0` reads the state as a token of its own and mixes the flow time into the action tokens; in
        `pi05` the flow time drives the norms of the action expert and the network reads no state.
      vision: the image encoder.
      language: the expert that reads images and text.
      action: the expert that reads the state and writes actions.
      depth: transformer blocks of both experts.
      heads: query heads of both.
      kv_heads: key and value heads of both; divide `heads`.
      head_size: channels of a head, even.
      vocabulary: number of token ids.
      cameras: images in the order of their tokens; a camera that is not named here is not computed at all.
      image_size: side of the square images in pixels.
      action_size: width of the padded state and action vectors.
      horizon: actions in a chunk.
      prompt_length: text tokens, padding included.
      state_in_prompt: the state is written into the prompt, in 256 bins, as pi0.5 was trained.
      state_limit: normalized states are clipped to [-state_limit, state_limit]; pi0 has no limit. A dimension that
        hardly varies in a small dataset leaves its range by many standard deviations in a rollout.
      dtype: type of activations; trained parameters are float32.
      unroll: unroll the layer loops: slower to compile, faster on a CPU.
      remat: what of a block is computed again in the backward pass: nothing; all of it, so that only its input is
        kept; or, with `products`, all but its products with weights, which are most of the work.
    """

    vision: VisionConfig
    language: ExpertConfig
    action: ExpertConfig
    depth: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    cameras: tuple[str, ...] = CAMERAS
    image_size: int = 224
    action_size: int = 32
    horizon: int = 50
    prompt_length: int = 48
    state_limit: float = float("inf")
    dtype: Literal["float32", "bfloat16"] = "float32"
    unroll: bool = False
    remat: Remat = False
    family: Literal["pi0", "pi05"] = "pi0"
    state_in_prompt: bool = False

    def __post_init__(self) -> None:
        if self.image_size % self.vision.patch:
            raise ValueError(f"images of {self.image_size} pixels do not divide into patches of {self.vision.patch}")
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads do not share {self.kv_heads} key heads evenly")
        if self.head_size % 2:
            raise ValueError(f"head_size {self.head_size} must be even: positions rotate halves of a head")
        if self.family not in ("pi0", "pi05"):
            raise ValueError(f"family {self.family!r}: expected pi0 or pi05")
        if not self.cameras:
            raise ValueError("cameras is empty; name at least one")

    @property
    def image_tokens(self) -> int:
        """Returns the tokens of one image."""
        return (self.image_size // self.vision.patch) ** 2

    @property
    def prefix_tokens(self) -> int:
        """Returns the tokens of all images and the text."""
        return len(self.cameras) * self.image_tokens + self.prompt_length
