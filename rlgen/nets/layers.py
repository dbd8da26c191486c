"""Layers that several networks share: activations, linear layers in pieces, the timestep's embedding, FiLM."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlgen.core.arrays import AnyArray

# Of every row, or one for all; a training timestep, or the time of a flow.
Timestep = Int[AnyArray, "*B"] | Float[AnyArray, "*B"]
# Scale and shift of every channel.
Modulation = tuple[Float[Array, "B _"], Float[Array, "B _"]]


@jax.custom_jvp
def mish(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Computes x * tanh(softplus(x)) (Misra, 2019).

    With n = e^x (e^x + 2), tanh(log(1 + e^x)) is n / (n + 2): one exponential and one division, and only x is kept
    for the gradient. Above 20 the factor is 1 in float32.
    """
    n, _ = _mish_terms(x)
    return x * (n / (n + 2))


@mish.defjvp
def _mish_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    n, power = _mish_terms(x)
    inverse = 1 / (n + 2)
    gate = n * inverse
    return x * gate, dx * (gate + x * (4 * power * (power + 1)) * inverse * inverse)


def _mish_terms(x: Array) -> tuple[Array, Array]:
    power = jnp.exp(jnp.minimum(x, 20))
    return power * (power + 2), power


def activation(name: str) -> Callable[[Array], Array]:
    """Returns the function called `name`: `mish` or `relu`."""
    functions = {"mish": mish, "relu": jax.nn.relu}
    if name not in functions:
        raise ValueError(f"activation {name!r}: expected one of {sorted(functions)}")
    return functions[name]


def at_least_single(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Returns half precision as single precision, and anything else as it is."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class Affine(nn.Module):
    """A linear layer whose input comes in pieces, as if these were concatenated.

    It returns its parameters, so that a caller can apply the kernel of each piece where that piece is known.

    Attributes:
      features: size of the result.
    """

    features: int

    @nn.compact
    def __call__(self, *sizes: int) -> tuple[Sequence[Float[Array, "_ features"]], Float[AnyArray, " features"]]:
        """Returns one kernel for each piece of the input, and the bias.

        Args:
          *sizes: number of features of each piece.
        """
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (sum(sizes), self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        ends = [sum(sizes[: count + 1]) for count in range(len(sizes) - 1)]
        return jnp.split(kernel, ends), bias


def affine(layer: Affine, size: int) -> Callable[[Array], Array]:
    """Returns the layer as a function of one input of `size`."""
    (kernel,), bias = layer(size)
    return lambda x: x @ kernel + bias


def apply_network(network: nn.Module, params: Any, *inputs: Any, method: str | None = None) -> Any:
    """Returns the output of a network for given parameters and inputs.

    Args:
      network: the module.
      params: its parameters.
      *inputs: arguments of the method.
      method: name of the method that is called; `__call__` by default.
    """
    return network.apply({"params": params}, *inputs, method=method)


def init_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """Returns a key of the generator that compiles fast, made from a key of JAX's default kind.

    XLA's CPU compiler takes up to a second for every tensor that the default generator fills.
    """
    data = jax.random.key_data(key)
    return jax.random.wrap_key_data(jnp.concatenate([data, data]), impl="rbg")


def sinusoidal_embedding(timestep: Timestep, size: int) -> Float[Array, "*B {size}"]:
    """Returns sines, then cosines, at frequencies from 1 down to 1/10000; `size` is even and 4 or more."""
    count = size // 2
    frequency = jnp.exp(jnp.arange(count) * -(math.log(10000) / (count - 1)))
    angle = jnp.asarray(timestep, jnp.float32)[..., None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class TimeEmbedding(nn.Module):
    """An embedding of the timestep: sines and cosines, then an MLP of two layers with Mish.

    Attributes:
      size: width of the result.
      hidden: width of the hidden layer.
    """

    size: int
    hidden: int

    @nn.compact
    def __call__(self) -> Callable[[Timestep], Float[Array, "*B size"]]:
        """Returns the embedding as a function of the timestep."""
        (kernel,), bias = Affine(self.hidden, name="widen")(self.size)
        narrow = affine(Affine(self.size, name="narrow"), self.hidden)

        def embed(timestep: Timestep) -> Float[Array, "*B size"]:
            # Angles need float32: neighboring timesteps are the same number in bfloat16.
            return narrow(mish(sinusoidal_embedding(timestep, self.size).astype(kernel.dtype) @ kernel + bias))

        return embed


class Film(nn.Module):
    """Feature-wise linear modulation of several blocks by the timestep and the observation (Perez et al., 2018).

    The scale is used as it is, without 1 added. The first layer is linear in the observation: that part is computed
    when the layer is made, once for all timesteps. The first layers of all blocks are one product.

    Attributes:
      channels: channels of each block.
      scale: whether there is a scale beside the shift.
      deep: three layers, the first of which reads its input as it is; otherwise one layer after an activation.
      activation: name of the activation.
    """

    channels: tuple[int, ...]
    scale: bool = True
    deep: bool = True
    activation: str = "mish"

    @nn.compact
    def __call__(
        self, time_size: int, observation: Float[Array, "B O"]
    ) -> Callable[[Float[Array, "*B E"]], list[Modulation]]:
        """Returns the modulation of every block as a function of the timestep's embedding of `time_size`."""
        act = activation(self.activation)
        sizes = [count * (2 if self.scale else 1) for count in self.channels]
        layers = [
            Affine(size, name=f"block_{index}_layer_0")(time_size, observation.shape[-1])
            for index, size in enumerate(sizes)
        ]
        by_time = jnp.concatenate([kernels[0] for kernels, _ in layers], axis=1)
        by_observation = jnp.concatenate([kernels[1] for kernels, _ in layers], axis=1)
        bias = jnp.concatenate([bias for _, bias in layers])
        fixed = (observation if self.deep else act(observation)) @ by_observation + bias
        further = [self._further_layers(index, size) for index, size in enumerate(sizes)] if self.deep else None
        ends = [sum(sizes[: count + 1]) for count in range(len(sizes) - 1)]

        def modulations(time: Float[Array, "*T E"]) -> list[Modulation]:
            pieces = jnp.split(fixed + (time if self.deep else act(time)) @ by_time, ends, axis=-1)
            if further is not None:
                pieces = [layer(act(piece)) for layer, piece in zip(further, pieces, strict=True)]
            return [self._pair(piece, count) for piece, count in zip(pieces, self.channels, strict=True)]

        return modulations

    def _further_layers(self, index: int, size: int) -> Callable[[Array], Array]:
        act = activation(self.activation)
        second = affine(Affine(size, name=f"block_{index}_layer_1"), size)
        third = affine(Affine(size, name=f"block_{index}_layer_2"), size)
        return lambda x: third(act(second(x)))

    def _pair(self, piece: Float[Array, "B N"], channels: int) -> Modulation:
        if not self.scale:
            return jnp.ones_like(piece), piece
        return piece[:, :channels], piece[:, channels:]
