"""Root-mean-square norms: with a learnt scale, or with scale, shift and gate from a condition (pi0.5)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlgen.vla.linear import Dense

Tokens = Float[Array, "B T W"]
Condition = Float[Array, "B W"]


class RmsNorm(nn.Module):
    """Norm in float32, times 1 + scale.

    With a condition, a dense layer of it gives scale, shift and gate in this order, and the gate comes back
    for the residual that follows; without, the scale is a parameter and there is no gate.
    """

    @nn.compact
    def __call__(self, x: Tokens, condition: Condition | None = None) -> tuple[Tokens, Float[Array, "B 1 W"] | None]:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + 1e-6)
        if condition is None:
            scale = self.param("scale", nn.initializers.zeros, (x.shape[-1],))
            return (y * (1 + scale)).astype(x.dtype), None
        zeros = nn.initializers.zeros
        modulation = Dense([3 * x.shape[-1]], x.dtype, kernel_init=zeros, name="Dense_0")(condition)
        scale, shift, gate = jnp.split(modulation[:, None], 3, axis=-1)
        return (y * (1 + scale) + shift).astype(x.dtype), gate


def gated_sum(x: Tokens, y: Tokens, gate: Array | None) -> Tokens:
    """The residual `x + y`, or `x + gate * y` behind a conditioned norm."""
    return x + y if gate is None else x + y * gate
