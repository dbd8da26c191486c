"""Convolutions of images against the library's, gradients included."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.nets.conv2d import Conv, convolve, max_pool


def library(x, kernel, stride):
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("extent", [(8, 8), (11, 6), (3, 2)])
@pytest.mark.parametrize(("size", "stride"), [(7, 2), (3, 1), (3, 2), (1, 1), (1, 2)])
def test_values_and_gradients_are_the_librarys(extent, size, stride):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(4, *extent, 5)), rng.normal(size=(size, size, 5, 3))
    x, kernel = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    expected, back = jax.vjp(lambda x, kernel: library(x, kernel, stride), x, kernel)
    found, our_back = jax.vjp(lambda x, kernel: convolve(x, kernel, stride), x, kernel)
    np.testing.assert_array_equal(found, expected)
    slope = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    for ours, theirs in zip(our_back(slope), back(slope), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_several_kernels_at_once_have_each_its_own_gradients():
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(3, 2, 6, 6, 4)), jnp.float32)
    kernels = jnp.asarray(rng.normal(size=(3, 3, 3, 4, 2)), jnp.float32)
    slopes = jax.grad(lambda x, kernel: jnp.sum(convolve(x, kernel, 2) ** 2), argnums=(0, 1))
    together = jax.vmap(slopes)(x, kernels)
    for one in range(3):
        for ours, alone in zip(together, slopes(x[one], kernels[one]), strict=True):
            np.testing.assert_allclose(ours[one], alone, rtol=1e-4, atol=1e-4)


def test_half_precision_stays_half_and_the_kernel_single():
    layer = Conv(4, 3, 2, dtype=jnp.bfloat16)
    x = jnp.ones((1, 6, 6, 3))
    params = layer.init(jax.random.PRNGKey(0), x)
    assert params["params"]["kernel"].dtype == jnp.float32
    assert layer.apply(params, x).dtype == jnp.bfloat16
    slope = jax.grad(lambda params: layer.apply(params, x).astype(jnp.float32).sum())(params)
    assert slope["params"]["kernel"].dtype == jnp.float32


@pytest.mark.parametrize("extent", [(42, 42), (21, 10), (1, 2)])
def test_pooling_is_the_librarys(extent):
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, *extent, 3)), jnp.float32)

    def theirs(x):
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))

    np.testing.assert_array_equal(max_pool(x), theirs(x))
    weight = jnp.asarray(np.random.default_rng(3).normal(size=theirs(x).shape), jnp.float32)
    ours, expected = (jax.grad(lambda x, f=f: jnp.sum(f(x) * weight))(x) for f in (max_pool, theirs))
    np.testing.assert_allclose(ours, expected, atol=1e-6)
