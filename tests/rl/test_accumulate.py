import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.training.gradients import parts_of, value_and_grad_in_parts


def loss(params, batch):
    out = jnp.tanh(batch["x"] @ params["w"])
    return jnp.mean(jnp.square(out - batch["y"])), {"mean": out.mean()}


def test_parts_give_what_the_whole_gives():
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"w": jax.random.normal(keys[0], (4, 2))}
    batch = {"x": jax.random.normal(keys[1], (12, 4)), "y": jax.random.normal(keys[2], (12, 2))}
    whole = value_and_grad_in_parts(loss, params, batch, 1)
    for parts in (2, 3, 12):
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7),
            value_and_grad_in_parts(loss, params, batch, parts),
            whole,
        )


def test_interleaved_parts_of_a_weighted_sum_give_what_the_whole_gives():
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"w": jax.random.normal(keys[0], (4, 2))}
    weight = jnp.arange(12.0)
    batch = {"x": jax.random.normal(keys[1], (12, 4)), "y": jax.random.normal(keys[2], (12, 2)), "weight": weight}

    def weighted(params, batch):
        error = jnp.square(jnp.tanh(batch["x"] @ params["w"]) - batch["y"])
        return jnp.sum(error * batch["weight"][:, None]), batch["weight"][0]

    total = weight.sum()
    (value, _), gradient = value_and_grad_in_parts(weighted, params, batch, 1, divisor=total)
    expected = jax.grad(lambda params: weighted(params, batch)[0] / total)(params)
    np.testing.assert_allclose(gradient["w"], expected["w"], rtol=1e-5)
    for parts in (2, 3, 12):
        (ours, first), grads = value_and_grad_in_parts(weighted, params, batch, parts, divisor=total, interleaved=True)
        np.testing.assert_allclose(ours, value, rtol=1e-5)
        np.testing.assert_allclose(grads["w"], gradient["w"], rtol=1e-5, atol=1e-7)
        # Part i begins with row i.
        np.testing.assert_allclose(first * total, sum(range(parts)), rtol=1e-5)


def test_unequal_parts_are_refused():
    batch = {"x": jnp.ones((10, 4)), "y": jnp.ones((10, 2))}
    with pytest.raises(ValueError, match="10 in 3 parts"):
        value_and_grad_in_parts(loss, {"w": jnp.ones((4, 2))}, batch, 3)


def test_fewest_parts_that_are_small_enough():
    assert parts_of(3500, 500) == 7
    assert parts_of(3500, 499) == 10
    assert parts_of(64, 100) == 1
    assert parts_of(7, 3) == 7
