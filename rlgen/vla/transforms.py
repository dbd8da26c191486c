"""What lies between a robot and the model, in pairs: training, evaluation and serving use the same functions.

`jax.numpy` throughout, so that they run inside a jitted step; numpy arrays go in as they are.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from rlgen.errors import UserError
from rlgen.types import ACTION_SIZE
from rlgen.vla.config import VlaConfig
from rlgen.vla.model import Inputs

NUMBERS = ("mean", "std", "q01", "q99")


@struct.dataclass
class Statistics:
    """Of one vector over a dataset, by dimension."""

    mean: Float[np.ndarray, " D"]
    std: Float[np.ndarray, " D"]
    q01: Float[np.ndarray, " D"]
    q99: Float[np.ndarray, " D"]


@struct.dataclass
class NormStats:
    """What a model was normalised with; it belongs to its parameters."""

    state: Statistics
    actions: Statistics

    def to_json(self) -> dict[str, Any]:
        """The content of openpi's `norm_stats.json`."""
        fields = {"state": self.state, "actions": self.actions}
        return {"norm_stats": {k: {n: getattr(v, n).tolist() for n in NUMBERS} for k, v in fields.items()}}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "NormStats":
        """The inverse.

        Raises:
          UserError: if something is missing or is not a list of finite numbers.
        """
        try:
            fields = [{n: value["norm_stats"][k][n] for n in NUMBERS} for k in ("state", "actions")]
            arrays = [{n: np.asarray(x, np.float32) for n, x in field.items()} for field in fields]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"normalisation statistics are damaged ({error!r}); train the model again") from error
        for field in arrays:
            shapes = {x.shape for x in field.values()}
            if len(shapes) != 1 or len(shapes.pop()) != 1 or not all(np.isfinite(x).all() for x in field.values()):
                raise UserError("normalisation statistics must be lists of finite numbers of one length")
        return cls(*(Statistics(**field) for field in arrays))


def statistics(values: Float[np.ndarray, "F D"]) -> Statistics:
    """Mean, standard deviation and the 1 % and 99 % quantiles."""
    values = np.asarray(values, np.float64)
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    return Statistics(*(np.float32(x) for x in (values.mean(0), values.std(0), low, high)))


def normalise(stats: Statistics, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """z-scores; statistics of more dimensions than `x` has are cut."""
    size = x.shape[-1]
    return (x - stats.mean[..., :size]) / (stats.std[..., :size] + 1e-6)


def unnormalise(stats: Statistics, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """The inverse; dimensions beyond the statistics are taken as mean 0 and deviation 1."""
    beyond = x.shape[-1] - stats.mean.shape[-1]
    mean = jnp.pad(jnp.asarray(stats.mean), (0, beyond))
    std = jnp.pad(jnp.asarray(stats.std), (0, beyond), constant_values=1.0)
    return x * (std + 1e-6) + mean


def pad_last(x: Float[Array, "*B D"], size: int) -> Float[Array, "*B size"]:
    """Zeros behind the last axis up to `size`."""
    if x.shape[-1] > size:
        raise ValueError(f"{x.shape[-1]} dimensions do not fit a model of action_size {size}")
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


def upright(pictures: UInt8[np.ndarray, "*B h w 3"]) -> UInt8[np.ndarray, "*B h w 3"]:
    """The benchmark's pictures turned by 180 degrees, as every dataset has them; its own inverse."""
    return pictures[..., ::-1, ::-1, :]


def resize(pictures: UInt8[Array, "B h w 3"], side: int) -> UInt8[Array, "B side side 3"]:
    """Bilinear resize that keeps the aspect ratio and fills with black; nothing where the size fits."""
    h, w = pictures.shape[1:3]
    if h == w == side:
        return pictures
    ratio = max(h, w) / side
    height, width = int(h / ratio), int(w / ratio)
    shape = (len(pictures), height, width, 3)
    small = jax.image.resize(jnp.asarray(pictures, jnp.float32), shape, "linear")
    small = jnp.clip(jnp.round(small), 0, 255).astype(jnp.uint8)
    (top, extra_h), (left, extra_w) = divmod(side - height, 2), divmod(side - width, 2)
    return jnp.pad(small, ((0, 0), (top, top + extra_h), (left, left + extra_w), (0, 0)))


def model_inputs(
    config: VlaConfig,
    stats: NormStats,
    pictures: dict[str, UInt8[Array, "B h w 3"]],
    state: Float[Array, "B 8"],
    prompt: Int[Array, "B L"],
    prompt_mask: Bool[Array, "B L"],
) -> Inputs:
    """Upright pictures of the model's size and a raw state, as the model reads them."""
    limit = config.state_limit
    state = jnp.clip(normalise(stats.state, state), -limit, limit)
    floats = {name: jnp.asarray(pictures[name], jnp.float32) / 255 * 2 - 1 for name in config.cameras}
    return Inputs(
        pictures=floats,
        picture_mask={name: jnp.ones(len(prompt), bool) for name in config.cameras},
        prompt=jnp.asarray(prompt),
        prompt_mask=jnp.asarray(prompt_mask),
        state=pad_last(state, config.action_size),
    )


def model_actions(config: VlaConfig, stats: NormStats, actions: Float[Array, "B H 7"]) -> Float[Array, "B H A"]:
    """Robot actions as the model is trained on them."""
    return pad_last(normalise(stats.actions, actions), config.action_size)


def robot_actions(stats: NormStats, actions: Float[Array, "B H A"]) -> Float[Array, "B H 7"]:
    """The model's actions as the robot takes them: in [-1, 1], the gripper -1 (open) or +1 (close)."""
    raw = unnormalise(stats.actions, actions)[..., :ACTION_SIZE]
    gripper = jnp.where(raw[..., -1:] > 0, 1.0, -1.0)
    return jnp.concatenate([jnp.clip(raw[..., :-1], -1, 1), gripper], axis=-1)
