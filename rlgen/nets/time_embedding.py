"""A timestep of the diffusion process as a vector."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlgen.nets.activations import mish
from rlgen.nets.affine import Affine, affine


def sinusoidal_embedding(timestep: Int[Array, "*B"], size: int) -> Float[Array, "*B size"]:
    """Sines, then cosines, at frequencies from 1 down to 1/10000; `size` is even and 4 or more."""
    half = size // 2
    frequency = jnp.exp(jnp.arange(half) * -(math.log(10000) / (half - 1)))
    angle = jnp.asarray(timestep, jnp.float32)[..., None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class TimeEmbedding(nn.Module):
    """Sines and cosines through a two-layer perceptron with Mish.

    Attributes:
      size: width of the result.
      hidden: width in between.
    """

    size: int
    hidden: int

    @nn.compact
    def __call__(self) -> Callable[[Int[Array, "*B"]], Float[Array, "*B size"]]:
        """The embedding as a function of the timestep."""
        widen = affine(Affine(self.hidden, name="widen"), self.size)
        narrow = affine(Affine(self.size, name="narrow"), self.hidden)
        return lambda timestep: narrow(mish(widen(sinusoidal_embedding(timestep, self.size))))
