"""Estimates of a training before it is compiled: bytes a device, and floating-point operations a step."""

from dataclasses import dataclass, replace
from functools import partial
from math import prod

import jax
import numpy as np

from rlgen.training.sharding import cut_spec
from rlgen.vla.checkpoints.weights import expected_params
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.model.parameters import is_action_expert, is_language_model, is_trained, is_vision, tree_shapes
from rlgen.vla.training.config import TrainConfig
from rlgen.vla.training.loop import init_state

GIB = 1 << 30
# Dense bfloat16 operations per second, by a part of the device's name.
PEAK_FLOPS = {
    "H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12, "L40S": 362e12, "RTX 4090": 165e12,
    "TPU v4": 275e12, "TPU v5 lite": 197e12, "TPU v5e": 197e12, "TPU v5p": 459e12, "TPU v5": 459e12,
    "TPU v6 lite": 918e12, "TPU v6e": 918e12,
}  # fmt: skip


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of a training, in bytes on each device.

    Attributes:
      parameters: trained ones in float32, frozen ones in bfloat16.
      average: the averaged parameters.
      moments: AdamW's two.
      gradients: as large as the trained parameters, twice that where a batch is accumulated; of a model that computes
        in bfloat16, its gradients and the copy of its parameters in that type, half of it each.
      activations: an estimate of those kept for the backward pass, and of the largest block while it runs.
    """

    parameters: int
    average: int
    moments: int
    gradients: int
    activations: int

    @property
    def total(self) -> int:
        """Returns the sum, bytes."""
        return self.parameters + self.average + self.moments + self.gradients + self.activations

    def __str__(self) -> str:
        names = ("parameters", "average", "moments", "gradients", "activations")
        parts = ", ".join(f"{name} {getattr(self, name) / GIB:.1f}" for name in names)
        return f"about {self.total / GIB:.2f} GiB a device: {parts}"


def memory_plan(config: VlaConfig, train: TrainConfig, *, devices: int = 1, fsdp: int = 1) -> MemoryPlan:
    """Plans the memory of a training: exact for its state, an estimate for activations.

    Args:
      config: the model.
      train: how to train.
      devices: their number.
      fsdp: devices that share each parameter.
    """
    state = jax.eval_shape(partial(init_state, config, train))

    def size(tree) -> int:
        return sum(_local_bytes(x.shape, x.dtype.itemsize, fsdp) for x in jax.tree.leaves(tree))

    rows = max(1, train.batch // train.accumulate // devices)
    gradients = size(state.trained) * (2 if train.accumulate > 1 else 1)
    return MemoryPlan(
        parameters=size(state.trained) + size(state.frozen),
        average=size(state.ema),
        moments=size(state.opt_state),
        gradients=gradients,
        activations=rows * activation_bytes(config, train.draws),
    )


def _local_bytes(shape: tuple[int, ...], itemsize: int, fsdp: int) -> int:
    """Returns the bytes of an array on each device."""
    cut = fsdp if any(cut_spec(shape, itemsize, fsdp)) else 1
    return prod(shape) * itemsize // cut


def suffix_tokens(config: VlaConfig) -> int:
    """Returns the tokens of the action expert: the actions, and for pi0 the state."""
    return config.horizon + (config.family == "pi0")


def activation_bytes(config: VlaConfig, draws: int = 1) -> int:
    """Estimates the bytes that one frame's forward pass keeps for its gradient; `draws` as in `TrainConfig`."""
    size = 2 if config.dtype == "bfloat16" else 4
    vision, patches = config.vision, config.image_tokens
    prefix, suffix = config.prefix_tokens, draws * suffix_tokens(config)
    heads = config.heads * config.head_size
    # Of a block: its input, what its layers keep, and scores in float32 beside their softmax.
    image_tokens = len(config.cameras) * patches
    v_in = image_tokens * vision.width * size
    v_all = v_in * 8 + 2 * image_tokens * vision.mlp * size + len(config.cameras) * vision.heads * patches**2 * 2 * size
    g_in = (prefix * config.language.width + suffix * config.action.width) * size
    hidden = 3 * (prefix * config.language.mlp + suffix * config.action.mlp) * size
    scores = config.heads * (prefix**2 + suffix * (prefix + suffix)) * (8 + size)
    g_all = 6 * g_in + hidden + scores + (prefix + suffix) * 4 * heads * size
    cache = 2 * draws * prefix * config.kv_heads * config.head_size * size
    if config.remat is False:
        return vision.depth * v_all + config.depth * (g_all + cache)
    kept = vision.depth * v_in + config.depth * (g_in + cache)
    if config.remat == "products":
        # Queries, keys, values and results of both attentions, and what goes into the MLPs' non-linearities.
        kept += vision.depth * image_tokens * (4 * vision.width + vision.mlp) * size
        projected = (prefix + suffix) * (config.heads + 2 * config.kv_heads) * config.head_size * size
        kept += config.depth * (projected + g_in + hidden * 2 // 3)
    return kept + 2 * max(v_all, g_all)


def advice(config: VlaConfig, train: TrainConfig, limit: int, *, devices: int = 1, fsdp: int = 1) -> list[str]:
    """Lists single changes that reduce the memory of a plan, each with what it would then need.

    Args:
      config: the model.
      train: how to train.
      limit: bytes of a device.
      devices: their number.
      fsdp: devices that share each parameter.

    Returns:
      Lines, the smallest need first.
    """
    options: list[tuple[str, VlaConfig, TrainConfig, int]] = [
        ("--remat products", replace(config, remat="products"), train, fsdp),
        ("--remat True", replace(config, remat=True), train, fsdp),
        ("--train.ema None", config, replace(train, ema=None), fsdp),
        ("--train.moments bfloat16", config, replace(train, moments="bfloat16"), fsdp),
        ("--train.trainable expert", config, replace(train, trainable="expert"), fsdp),
        (f"--fsdp {devices}", config, train, devices),
    ]
    for parts in (2, 4, 8, 16, 32):
        if train.batch % (parts * devices) == 0 and parts > train.accumulate:
            options.append((f"--train.accumulate {parts}", config, replace(train, accumulate=parts), fsdp))
    now, found = memory_plan(config, train, devices=devices, fsdp=fsdp).total, []
    for option, other, changed, cut in options:
        total = memory_plan(other, changed, devices=devices, fsdp=cut).total
        if total < 0.98 * now:
            found.append((total, f"{option}: {total / GIB:.1f} GiB{'' if total <= limit else ', still too much'}"))
    return [text for _, text in sorted(found)]


def device_bytes() -> int | None:
    """Returns the memory of a device in bytes; None where it is the host's and has no limit."""
    try:
        stats = jax.local_devices()[0].memory_stats()
    except jax.errors.JaxRuntimeError:
        return None
    return None if not stats else stats.get("bytes_limit")


def tokens_per_frame(config: VlaConfig, draws: int = 1) -> int:
    """Returns the tokens of both experts that a frame of a training step takes."""
    return config.prefix_tokens + draws * suffix_tokens(config)


def step_flops(config: VlaConfig, train: TrainConfig) -> float:
    """Counts the operations of a training step: forward, gradients of activations, gradients of trained weights.

    Recomputed activations do not count, as usual for utilization.
    """
    forward, weights = _forward_flops(config, train)
    return train.batch * (2 * forward + weights)


def forward_flops(config: VlaConfig, draws: int = 1) -> float:
    """Counts the operations of a forward pass of one frame."""
    return _forward_flops(config, TrainConfig(draws=draws))[0]


def _forward_flops(config: VlaConfig, train: TrainConfig) -> tuple[float, float]:
    """Counts the operations of a frame: forward, and of those its products with trained weights and its attention."""
    image_tokens = len(config.cameras) * config.image_tokens
    prefix, suffix = config.prefix_tokens, train.draws * suffix_tokens(config)
    total = trained = 0.0
    for name, shape in tree_shapes(expected_params(config)).items():
        tokens = _tokens(name, image_tokens, prefix, suffix, train.draws)
        if len(shape) < 2 or name.endswith(("pos_embedding", "input_embedding", "bias", "scale")):
            continue
        flops = 2.0 * tokens * float(np.prod(shape)) * _used_fraction(config, name)
        total += flops
        if is_trained(config, name, train.trainable, freeze_vision=train.freeze_vision):
            trained += flops
    span = config.heads * config.head_size * config.depth
    attention = 4.0 * image_tokens * config.image_tokens * config.vision.width * config.vision.depth
    attention += 4.0 * prefix * prefix * (span - span // config.depth)
    attention += 4.0 * suffix * (prefix + suffix // train.draws) * span
    return total + attention, trained + attention


def _used_fraction(config: VlaConfig, name: str) -> float:
    """Returns the fraction of a weight's layers whose result is read.

    Of the last layer's first expert only keys and values are.
    """
    unread = ("q_einsum", "attn_vec_einsum", "mlp")
    return 1 - any(part in unread for part in name.split("/")) / config.depth


def _tokens(name: str, image_tokens: int, prefix: int, suffix: int, draws: int) -> int:
    """Returns the number of vectors that a weight is applied to."""
    if is_vision(name):
        return image_tokens
    if is_action_expert(name):
        # An adaptive norm's layer reads the flow time, once a draw.
        return draws if "Dense_0" in name else suffix
    if is_language_model(name):
        return prefix
    return draws if name.startswith(("state_proj", "time_mlp")) else suffix


def peak_flops(kind: str) -> float | None:
    """Returns the dense bfloat16 operations per second of a device by its name; None for unknown ones and CPUs."""
    return next((peak for name, peak in PEAK_FLOPS.items() if name.lower() in kind.lower()), None)
