"""Properties of models of any size."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from vla import openpi
from vla.openpi import arrays, relative

from rlgen.vla.model import pi0

CONFIG = openpi.config()
# Quick to compile.
MINI = dataclasses.replace(
    CONFIG, vision=dataclasses.replace(CONFIG.vision, depth=1), depth=1, heads=2, cameras=CONFIG.cameras[:2]
)


@cache
def mini():
    """Returns fresh parameters, inputs without the third camera, noisy actions and their time."""
    given, inputs = arrays("inputs"), openpi.inputs()
    return pi0.init(MINI, jax.random.key(0)), inputs, jnp.asarray(given["noise"]), jnp.asarray(given["time"])


def test_sampling_with_the_cached_prefix_equals_whole_passes():
    params, inputs, noise, _ = mini()
    last = params["action_out_proj"]

    @jax.jit
    def whole(x, t):
        (_, out), _ = pi0.apply(MINI, params, inputs, x, jnp.broadcast_to(t, len(x)), method="joint")
        return out[:, -MINI.horizon :] @ last["kernel"] + last["bias"]

    cached = pi0.sample(MINI, params, inputs, noise, 3)
    assert relative(cached, np.asarray(pi0.euler(whole, noise, 3))) < 1e-5


def test_a_masked_image_is_as_good_as_none():
    """Its pixels and positions have no effect, so a camera may be left out of the configuration."""
    params, inputs, x, t = mini()
    absent = "right_wrist_0_rgb"
    masked = inputs.replace(
        image_mask=inputs.image_mask | {absent: jnp.zeros_like(inputs.image_mask[absent])},
        images=inputs.images | {absent: jnp.full_like(inputs.images[absent], 0.7)},
    )
    velocity = jax.jit(pi0.velocity, static_argnums=0)
    more = dataclasses.replace(MINI, cameras=CONFIG.cameras)
    assert relative(velocity(more, params, masked, x, t), np.asarray(velocity(MINI, params, inputs, x, t))) < 1e-5


def test_several_draws_are_single_ones_beside_each_other():
    params, inputs, noise, t = mini()
    actions = jnp.asarray(arrays("inputs")["actions"])
    noises, times = jnp.stack([noise, -2 * noise]), jnp.stack([t, t / 3])
    loss = jax.jit(partial(pi0.flow_loss, MINI))
    each = np.concatenate([loss(params, inputs, actions, noises[i : i + 1], times[i : i + 1]) for i in (0, 1)])
    assert relative(loss(params, inputs, actions, noises, times), each) < 1e-5


def test_unrolled_layers_and_a_convolutional_stem_compute_what_the_loop_does():
    vision = dataclasses.replace(MINI.vision, stem="conv", stem_cell=7, depth=2)
    looped = dataclasses.replace(MINI, vision=vision, depth=2)
    _, inputs, x, t = mini()
    params = pi0.init(looped, jax.random.key(1))
    velocity = jax.jit(pi0.velocity, static_argnums=0)
    unrolled = velocity(dataclasses.replace(looped, unroll=True), params, inputs, x, t)
    assert relative(unrolled, np.asarray(velocity(looped, params, inputs, x, t))) < 1e-5


def test_recomputing_activations_changes_no_gradient():
    params, inputs, noise, t = mini()
    actions = jnp.asarray(arrays("inputs")["actions"])

    def gradient(config):
        loss = lambda p: jnp.mean(pi0.flow_loss(config, p, inputs, actions, noise[None], t[None]))  # noqa: E731
        return jax.jit(jax.grad(loss))(params)

    again = gradient(dataclasses.replace(MINI, remat=True))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), again, gradient(MINI))
