"""Feature-wise linear modulation (Perez et al., 2018): the condition scales and shifts channels."""

import flax.linen as nn
from jaxtyping import Array, Float

from rlgen.nets.activations import activation


class Film(nn.Module):
    """Scale and shift for every channel, from a condition; the scale is used as it is, without 1 added.

    Attributes:
      channels: number of channels that are modulated.
      scale: whether there is a scale beside the shift.
      deep: three layers, the first reading the condition as it is; otherwise one layer after an activation.
      activation: name of the activation.
    """

    channels: int
    scale: bool = True
    deep: bool = True
    activation: str = "mish"

    @nn.compact
    def __call__(
        self, h: Float[Array, "B H channels"], condition: Float[Array, "B O"]
    ) -> Float[Array, "B H channels"]:
        act = activation(self.activation)
        size = self.channels * (2 if self.scale else 1)
        if self.deep:
            code = nn.Dense(size, name="layer_0")(condition)
            code = nn.Dense(size, name="layer_1")(act(code))
            code = nn.Dense(size, name="layer_2")(act(code))
        else:
            code = nn.Dense(size, name="layer_0")(act(condition))
        code = code[:, None, :]
        if not self.scale:
            return h + code
        return code[..., : self.channels] * h + code[..., self.channels :]
