"""Activations by name."""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


@jax.custom_jvp
def mish(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """x * tanh(softplus(x)) of Misra (2019).

    With n = e^x (e^x + 2), tanh(log(1 + e^x)) is n / (n + 2): one exponential and one division, and nothing but x is
    kept for the gradient. Above 20 the factor is 1 in float32.
    """
    n, _ = _mish_terms(x)
    return x * (n / (n + 2))


@mish.defjvp
def _mish_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    n, power = _mish_terms(x)
    inverse = 1 / (n + 2)
    gate = n * inverse
    return x * gate, dx * (gate + x * (4 * power * (power + 1)) * inverse * inverse)


def _mish_terms(x):
    power = jnp.exp(jnp.minimum(x, 20))
    return power * (power + 2), power


def activation(name: str) -> Callable[[Array], Array]:
    """The function called `name`: `mish` or `relu`."""
    functions = {"mish": mish, "relu": jax.nn.relu}
    if name not in functions:
        raise ValueError(f"activation {name!r}: expected one of {sorted(functions)}")
    return functions[name]


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


def init_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """A key of the generator that is quick to compile, from a key of JAX's default kind.

    XLA's CPU compiler takes up to a second for every tensor that the default generator fills.
    """
    data = jax.random.key_data(key)
    return jax.random.wrap_key_data(jax.numpy.concatenate([data, data]), impl="rbg")


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
