import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.nets.conv1d import convolve, convolve_down, convolve_up


def plain(x, kernel):
    """The definition: zeros around, a sum over taps."""
    around = kernel.shape[0] // 2
    padded = jnp.pad(x, ((0, 0), (around, around), (0, 0)))
    taps = [padded[:, tap : tap + x.shape[1]] @ kernel[tap] for tap in range(kernel.shape[0])]
    return sum(taps)


def arrays(width: int = 5, *lead: int):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (*lead, 3, 6, 4))
    return x, jax.random.normal(keys[1], (*lead, width, 4, 7)), jax.random.normal(keys[2], (*lead, 3, 6, 7))


@pytest.mark.parametrize("width", [1, 3, 5])
def test_convolution_and_its_gradients_are_those_of_the_definition(width):
    x, kernel, slope = arrays(width)
    ours, back = jax.vjp(convolve, x, kernel)
    theirs, want = jax.vjp(plain, x, kernel)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for found, wanted in zip(back(slope), want(slope), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_mapped_over_experts_it_is_each_alone(axes):
    many, one = arrays(5, 4), arrays(5)
    x, kernel = (many[place] if axis == 0 else one[place] for place, axis in enumerate(axes))

    def value_and_slopes(x, kernel):
        out, back = jax.vjp(convolve, x, kernel)
        return out, *back(jnp.cos(out))

    together = jax.vmap(value_and_slopes, axes)(x, kernel)
    for number in range(4):
        inputs = [array[number] if axis == 0 else array for array, axis in zip((x, kernel), axes, strict=True)]
        for found, want in zip(together, value_and_slopes(*inputs), strict=True):
            np.testing.assert_allclose(found[number], want, atol=1e-5)


def test_halving_keeps_every_second_output_and_doubling_is_its_transpose():
    x, kernel, _ = arrays(3)
    np.testing.assert_allclose(convolve_down(x, kernel), plain(x, kernel)[:, ::2], atol=1e-5)
    up = jax.random.normal(jax.random.key(1), (4, 4, 5))
    out = convolve_up(x, up)
    assert out.shape == (3, 12, 5)
    # Output j of input h meets tap j - 2h + 1.
    want = np.zeros((3, 12, 5))
    for place in range(6):
        for tap in range(4):
            if 0 <= 2 * place + tap - 1 < 12:
                want[:, 2 * place + tap - 1] += np.asarray(x[:, place] @ up[tap])
    np.testing.assert_allclose(out, want, atol=1e-5)
