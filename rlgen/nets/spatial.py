"""From what an encoder sees at each place to a short vector."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class SpatialEmbedding(nn.Module):
    """Each channel's picture, with the robot's state beside it, is projected; channels are then weighed and summed.

    Attributes:
      size: numbers in the result.
    """

    size: int = 128
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: Float[Array, "B T C"], state: Float[Array, "B P"]) -> Float[Array, "B size"]:
        channels = jnp.swapaxes(tokens, 1, 2)
        beside = jnp.broadcast_to(state[:, None].astype(tokens.dtype), (*channels.shape[:2], state.shape[-1]))
        h = nn.Dense(self.size, dtype=self.dtype, name="project")(jnp.concatenate([channels, beside], axis=-1))
        h = nn.relu(nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(h))
        weight = self.param("weight", nn.initializers.normal(0.02), (channels.shape[1], self.size))
        return (weight.astype(self.dtype) * h).sum(axis=1)


class SpatialSoftmax(nn.Module):
    """Where in the picture each of some learned features is: the mean place under a softmax (Levine et al., 2016).

    Attributes:
      points: number of features; the result has a height and a width of each, in [-1, 1].
    """

    points: int = 32
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, grid: Float[Array, "B h w C"]) -> Float[Array, "B 2*points"]:
        scores = nn.Dense(self.points, dtype=self.dtype, name="project")(grid)
        height, width = scores.shape[1:3]
        flat = scores.reshape(-1, height * width, self.points).astype(jnp.float32)
        weights = jax.nn.softmax(flat, axis=1)
        rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
        places = np.stack([rows.ravel(), columns.ravel()], axis=-1).astype(np.float32)
        return jnp.einsum("bsp,sc->bpc", weights, places).reshape(len(flat), 2 * self.points)
