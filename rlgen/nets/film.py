"""Feature-wise linear modulation (Perez et al., 2018): the condition scales and shifts channels."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlgen.nets.activations import activation
from rlgen.nets.affine import Affine, affine

Codes = list[tuple[Float[Array, "B C"], Float[Array, "B C"]]]


class Film(nn.Module):
    """Scales and shifts for several blocks from the timestep's embedding and the observation.

    The scale is used as it is, without 1 added. The observation's share of the first layer, which is linear in it, is
    computed when the layer is made; the first layers of all blocks are one product.

    Attributes:
      channels: channels of each block.
      scale: whether there is a scale beside the shift.
      deep: three layers, the first reading the condition as it is; otherwise one layer after an activation.
      activation: name of the activation.
    """

    channels: tuple[int, ...]
    scale: bool = True
    deep: bool = True
    activation: str = "mish"

    @nn.compact
    def __call__(self, time_size: int, observation: Float[Array, "B O"]) -> Callable[[Float[Array, "*B E"]], Codes]:
        """The codes of every block as a function of the timestep's embedding."""
        act = activation(self.activation)
        sizes = [count * (2 if self.scale else 1) for count in self.channels]
        layers = [
            Affine(size, name=f"block_{number}_layer_0")(time_size, observation.shape[-1])
            for number, size in enumerate(sizes)
        ]
        by_time = jnp.concatenate([kernels[0] for kernels, _ in layers], axis=1)
        by_observation = jnp.concatenate([kernels[1] for kernels, _ in layers], axis=1)
        bias = jnp.concatenate([bias for _, bias in layers])
        seen = (observation if self.deep else act(observation)) @ by_observation + bias
        further = [self._further(number, size) for number, size in enumerate(sizes)] if self.deep else None
        ends = [sum(sizes[: count + 1]) for count in range(len(sizes) - 1)]

        def codes(time):
            code = seen + (time if self.deep else act(time)) @ by_time
            pieces = jnp.split(code, ends, axis=-1)
            if further is not None:
                pieces = [layer(act(piece)) for layer, piece in zip(further, pieces, strict=True)]
            return [self._pair(piece, count) for piece, count in zip(pieces, self.channels, strict=True)]

        return codes

    def _further(self, number: int, size: int) -> Callable[[Array], Array]:
        act = activation(self.activation)
        second = affine(Affine(size, name=f"block_{number}_layer_1"), size)
        third = affine(Affine(size, name=f"block_{number}_layer_2"), size)
        return lambda code: third(act(second(code)))

    def _pair(self, code: Float[Array, "B C"], channels: int):
        if not self.scale:
            return jnp.ones_like(code), code
        return code[:, :channels], code[:, channels:]
