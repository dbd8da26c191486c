"""Learning rates as functions of the step, to be given to optax."""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

LearningRate = Callable[[Int[Array, ""]], Float[Array, ""]]


def constant(rate: float) -> LearningRate:
    """The same at every step."""
    return lambda step: jnp.full((), rate)


def cosine(peak: float, end: float, steps: int, warmup: int = 0) -> LearningRate:
    """A straight line from `end` to `peak` over `warmup` steps, then half a cosine to `end` at `steps`, then `end`."""
    if not 0 <= warmup < steps:
        raise ValueError(f"{warmup} warm-up steps of {steps}: expected fewer than all, and not below 0")

    def rate(step):
        rising = end + (peak - end) * step / max(warmup, 1)
        part = jnp.clip((step - warmup) / (steps - warmup), 0, 1)
        falling = end + (peak - end) * 0.5 * (1 + jnp.cos(math.pi * part))
        return jnp.where(step < warmup, rising, falling)

    return rate


def cosine_restarts(
    peak: float, end: float, first_cycle: int, warmup: int, growth: float, decay: float, steps: int
) -> LearningRate:
    """Cosine cycles with warm-up; each cycle's falling part is `growth` times longer and its peak `decay` times lower.

    Args:
      peak: highest rate of the first cycle.
      end: lowest rate of every cycle.
      first_cycle: steps of the first cycle, its warm-up included.
      warmup: steps of warm-up of every cycle.
      growth: factor on the falling part's length.
      decay: factor on the peak.
      steps: number of steps to prepare for; later steps stay in the last cycle.
    """
    if not 0 <= warmup < first_cycle:
        raise ValueError(f"{warmup} warm-up steps of {first_cycle}: expected fewer than all, and not below 0")
    starts, lengths = [0], [first_cycle]
    while starts[-1] + lengths[-1] <= steps:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(max(int((lengths[-1] - warmup) * growth), 1) + warmup)
    starts, lengths = np.array(starts), np.array(lengths)
    peaks = peak * decay ** np.arange(len(starts))

    def rate(step):
        cycle = jnp.searchsorted(jnp.asarray(starts), step, side="right") - 1
        inside, top = step - jnp.asarray(starts)[cycle], jnp.asarray(peaks)[cycle]
        part = (inside - warmup) / (jnp.asarray(lengths)[cycle] - warmup)
        rising = end + (top - end) * inside / max(warmup, 1)
        falling = end + (top - end) * 0.5 * (1 + jnp.cos(math.pi * jnp.clip(part, 0, 1)))
        return jnp.where(inside < warmup, rising, falling)

    return rate
