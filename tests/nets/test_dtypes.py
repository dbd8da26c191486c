"""Every layer in both types of activations, forward and backward, alone and mapped over experts."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from rlgen.nets.conv1d import ConvWeights, Flat, NormWeights, Rows
from rlgen.nets.image_encoder import ResNet, SpatialEmbedding, SpatialSoftmax, Vit
from rlgen.nets.layers import Film, TimeEmbedding
from rlgen.nets.mlp import DiffusionMLP, GaussianMLP, ResidualMLP
from rlgen.nets.unet1d import Unet1d

CHUNKS, LENGTH, CHANNELS = 3, 8, 64
HALF, SINGLE = jnp.bfloat16, jnp.float32


def numbers(seed: int, *shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), SINGLE)


def fresh(init: Callable, *inputs: Any) -> Any:
    """Returns parameters of a module, kernels as large as those that `init` draws, which takes long to compile."""
    random = np.random.default_rng(3)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> Array:
        noise = random.normal(size=leaf.shape) / np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        if leaf.ndim < 2:
            noise = (path[-1].key == "scale") + 0.1 * noise
        return jnp.asarray(noise, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init, jax.random.key(3), *inputs)["params"])


def conv_layer(layout: Any, kind: str) -> tuple[Callable, Any, Array]:
    width = {"conv": 5, "down": 3, "up": 4}[kind]
    weights = ConvWeights(0.1 * numbers(1, width, CHANNELS, CHANNELS), numbers(2, CHANNELS))

    def apply(params: ConvWeights, x: Array) -> Array:
        return getattr(layout, kind)(params, LENGTH)(layout.enter(x))

    return apply, weights, numbers(0, CHUNKS, LENGTH, CHANNELS)


def norm_layer(layout: Any) -> tuple[Callable, Any, Array]:
    def apply(params: tuple[Array, Array], x: Array) -> Array:
        return layout.norm(NormWeights(*params, 8, 1e-5), LENGTH)(layout.enter(x))

    return apply, (numbers(1, CHANNELS), numbers(2, CHANNELS)), numbers(0, CHUNKS, LENGTH, CHANNELS)


def modulation(layout: Any) -> tuple[Callable, Any, Array]:
    def apply(params: tuple[Array, Array], x: Array) -> Array:
        return layout.modulate(layout.enter(x), params, LENGTH)

    params = numbers(1, CHUNKS, CHANNELS), numbers(2, CHUNKS, CHANNELS)
    return apply, params, numbers(0, CHUNKS, LENGTH, CHANNELS)


def network(module: Any, *inputs: Array, beside: tuple[Any, ...] = ()) -> tuple[Callable, Any, Any]:
    """A module as a function of parameters and inputs; what is `beside` has no gradient and keeps its type."""

    def apply(params: Any, inputs: tuple[Array, ...]) -> Any:
        return module.apply({"params": params}, *inputs[:1], *beside, *inputs[1:])

    return apply, fresh(module.init, *inputs[:1], *beside, *inputs[1:]), inputs


def film() -> tuple[Callable, Any, Any]:
    module = Film((CHANNELS, 32))

    def apply(params: Any, inputs: tuple[Array, Array]) -> Any:
        observation, time = inputs
        return module.apply({"params": params}, 16, observation, method=lambda m, *a: m(*a)(time))

    observation, time = numbers(0, CHUNKS, 20), numbers(1, CHUNKS, 16)
    params = fresh(lambda key: module.init(key, 16, observation, method=lambda m, *a: m(*a)(time)))
    return apply, params, (observation, time)


def time_embedding() -> tuple[Callable, Any, Array]:
    module = TimeEmbedding(16, 64)

    def apply(params: Any, _: Array) -> Array:
        return module.apply({"params": params}, method=lambda m: m()(jnp.array([0, 1, 99])))

    return apply, fresh(module.init), numbers(0, 1)


STEP = (jnp.zeros((), jnp.int32),)
CHUNK, CONDITION = numbers(4, CHUNKS, LENGTH, 7), numbers(5, CHUNKS, 31)
LAYERS = {
    **{
        f"{kind}-{layout.__name__}": (lambda k=kind, y=layout: conv_layer(y, k))
        for kind in ("conv", "down", "up")
        for layout in (Rows, Flat)
    },
    **{f"norm-{layout.__name__}": (lambda y=layout: norm_layer(y)) for layout in (Rows, Flat)},
    **{f"modulate-{layout.__name__}": (lambda y=layout: modulation(y)) for layout in (Rows, Flat)},
    "film": film,
    "time": time_embedding,
    "mlp": lambda: network(ResidualMLP((64, 64, 64), 7), CONDITION),
    "gaussian-mlp": lambda: network(GaussianMLP(56, (64, 64, 64, 64), std_kind="state"), CONDITION),
    "diffusion-mlp": lambda: network(DiffusionMLP(7, (64, 64, 64)), CHUNK, CONDITION, beside=STEP),
    "unet-64": lambda: network(Unet1d(dim=64, mults=(1,), film_deep=True), CHUNK, CONDITION, beside=STEP),
    "unet-flat": lambda: network(Unet1d(dim=16), CHUNK, CONDITION, beside=STEP),
}
# They take their type as a setting, because their inputs are bytes; positions of features stay float32.
ENCODERS = {
    "softmax": lambda dtype: network(SpatialSoftmax(8, dtype=dtype), numbers(0, 2, 4, 4, 16)),
    "resnet": lambda dtype: network(ResNet((16, 32), dtype=dtype), 255 * jnp.abs(numbers(0, 2, 32, 32, 3))),
    "vit": lambda dtype: network(Vit(16, dtype=dtype), 255 * jnp.abs(numbers(0, 2, 32, 32, 3))),
    "embedding": lambda dtype: network(SpatialEmbedding(16, dtype=dtype), numbers(0, 2, 9, 16), numbers(1, 2, 9)),
}


def cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def run(apply: Callable, params: Any, inputs: Any) -> tuple[Any, Any]:
    """Outputs, and the gradient of their product with numbers of their own type."""
    outputs, back = jax.vjp(apply, params, inputs)

    def slope(leaf: Array) -> Array:
        # Drawn in the program: a constant would be no array of JAX where it is mapped.
        return jax.random.normal(jax.random.key(9), leaf.shape).astype(leaf.dtype)

    return outputs, back(jax.tree.map(slope, outputs))


@cache
def layer(name: str) -> tuple[Callable, Any, Any]:
    """Returns `run` of a layer, compiled once a type for all tests, its parameters and its inputs."""
    apply, params, inputs = LAYERS[name]()
    return jax.jit(lambda p, x: run(apply, p, x)), params, inputs


def assert_near(found: Any, wanted: Any, limit: float) -> None:
    """Compares outputs, and gradients, as one vector each, by the norm of the difference relative to the norm.

    Not number by number: a convolution's bias before a normalization has gradients that nearly cancel.
    """
    for one, other in zip(found, wanted, strict=True):
        one, other = (
            np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(y)]) for y in (one, other)
        )
        assert np.isfinite(one).all()
        assert np.linalg.norm(one - other) <= limit * np.linalg.norm(other)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_keeps_the_type_it_is_given(name):
    compiled, params, inputs = layer(name)
    single = compiled(params, inputs)
    half = compiled(cast(params, HALF), cast(inputs, HALF))
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {jnp.dtype(SINGLE)}
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype(HALF)}
    # 8 bits of mantissa, some ten roundings one behind the other.
    assert_near(half, single, 0.06)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_computes_in_the_type_of_its_setting(name):
    apply, params, inputs = ENCODERS[name](HALF)
    outputs, gradients = jax.jit(lambda p, x: run(apply, p, x))(params, inputs)
    assert outputs.dtype == (SINGLE if name == "softmax" else HALF)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype(SINGLE)}
    wanted = jax.jit(ENCODERS[name](SINGLE)[0])(params, inputs)
    assert_near((outputs,), (wanted,), 0.06)


@pytest.mark.parametrize("dtype", [SINGLE, HALF], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["conv-Rows", "up-Rows", "norm-Rows", "norm-Flat", "diffusion-mlp"])
def test_mapped_over_experts_it_is_each_alone(name, dtype):
    compiled, params, inputs = layer(name)
    experts = [cast((params, inputs), dtype), cast(jax.tree.map(lambda leaf: 0.5 * leaf, (params, inputs)), dtype)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *experts)
    together = jax.jit(jax.vmap(compiled))(*stacked)
    for index, expert in enumerate(experts):
        alone = compiled(*expert)
        mine = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        assert {leaf.dtype for leaf in jax.tree.leaves(mine)} == {jnp.dtype(dtype)}
        assert_near(mine, alone, 1e-5 if dtype == SINGLE else 0.03)


def test_unets_are_mapped_over_experts_in_half_precision():
    """Traced alone: compiling takes a quarter of a minute, and their layers are compared above."""
    for name in ("unet-64", "unet-flat"):
        compiled, params, inputs = layer(name)
        stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]).astype(HALF), (params, inputs))
        found = jax.eval_shape(jax.vmap(compiled), *stacked)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(HALF)}
