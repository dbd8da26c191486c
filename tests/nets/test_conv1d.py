"""Convolutions over a chunk, on small whole numbers: float32 adds those exactly, in whatever order a CPU does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.nets.conv1d import Flat, NormWeights, Rows, convolve, convolve_down, convolve_up


def plain(x, kernel):
    """The definition: zeros around, a sum over taps."""
    around = kernel.shape[0] // 2
    padded = jnp.pad(x, ((0, 0), (around, around), (0, 0)))
    taps = [padded[:, tap : tap + x.shape[1]] @ kernel[tap] for tap in range(kernel.shape[0])]
    return sum(taps)


def whole_numbers(seed: int, *shape: int):
    return jax.random.randint(jax.random.key(seed), shape, -9, 10).astype(jnp.float32)


def arrays(width: int = 5, *lead: int):
    """A chunk, a kernel and a slope."""
    return whole_numbers(0, *lead, 3, 6, 4), whole_numbers(1, *lead, width, 4, 7), whole_numbers(2, 3, 6, 7)


@pytest.mark.parametrize("width", [1, 3, 5])
def test_convolution_and_its_gradients_are_those_of_the_definition(width):
    x, kernel, slope = arrays(width)
    ours, back = jax.vjp(convolve, x, kernel)
    theirs, want = jax.vjp(plain, x, kernel)
    np.testing.assert_array_equal(ours, theirs)
    for found, wanted in zip(back(slope), want(slope), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_mapped_over_experts_it_is_each_alone(axes):
    many, one = arrays(5, 4), arrays(5)
    x, kernel = (many[place] if axis == 0 else one[place] for place, axis in enumerate(axes))

    def value_and_slopes(x, kernel):
        out, back = jax.vjp(convolve, x, kernel)
        return out, *back(one[2])

    together = jax.vmap(value_and_slopes, axes)(x, kernel)
    for number in range(4):
        inputs = [array[number] if axis == 0 else array for array, axis in zip((x, kernel), axes, strict=True)]
        for found, want in zip(together, value_and_slopes(*inputs), strict=True):
            np.testing.assert_array_equal(found[number], want)


def test_halving_keeps_every_second_output_and_doubling_is_its_transpose():
    x, kernel, _ = arrays(3)
    np.testing.assert_array_equal(convolve_down(x, kernel), plain(x, kernel)[:, ::2])
    up = whole_numbers(3, 4, 4, 5)
    out = convolve_up(x, up)
    assert out.shape == (3, 12, 5)
    # Output j of input h meets tap j - 2h + 1.
    want = np.zeros((3, 12, 5))
    for place in range(6):
        for tap in range(4):
            if 0 <= 2 * place + tap - 1 < 12:
                want[:, 2 * place + tap - 1] += np.asarray(x[:, place] @ up[tap])
    np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize(("size", "length"), [(1, 2), (2, 1), (2, 4), (3, 3), (7, 5), (7, 10)])
def test_normalization_rounds_alike_in_both_layouts(size, length):
    """Also where one over the number of values in a group is no float32, far from 0, where its rounding shows."""
    groups, random = 4, np.random.default_rng(0)
    x = (random.normal(size=(256, length, groups * size)) + 30).astype(np.float32)
    exact = x.astype(np.float64).reshape(256, length, groups, size)
    deviation = exact.std(axis=(1, 3), keepdims=True)
    exact = (exact - exact.mean(axis=(1, 3), keepdims=True)) / np.sqrt(deviation**2 + 1e-5)
    weights = NormWeights(np.ones(groups * size, np.float32), np.zeros(groups * size, np.float32), groups, 1e-5)

    def error(layout):
        found = layout.leave(layout.norm(weights, length)(layout.enter(jnp.asarray(x))), length)
        return np.sqrt(np.mean((found - exact.reshape(x.shape)) ** 2))

    rows, flat = error(Rows), error(Flat)
    assert 0.7 < rows / flat < 1.4
    # An error of the mean by a unit in its last place.
    assert max(rows, flat) < 30 * 1.2e-7 / deviation.min()
