"""A linear layer that is made first and applied later."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class Affine(nn.Module):
    """A linear layer whose input comes in pieces, as if they were concatenated.

    Attributes:
      features: size of the result.
    """

    features: int

    @nn.compact
    def __call__(self, *sizes: int) -> tuple[Sequence[Float[Array, "I features"]], Float[Array, " features"]]:
        """One kernel for each piece of the input, and the bias."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (sum(sizes), self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        ends = [sum(sizes[: count + 1]) for count in range(len(sizes) - 1)]
        return jnp.split(kernel, ends), bias


def affine(layer: Affine, size: int) -> Callable[[Array], Array]:
    """The layer as a function of one input of `size`."""
    (kernel,), bias = layer(size)
    return lambda x: x @ kernel + bias
