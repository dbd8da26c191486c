import dataclasses
import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from vla import openpi
from vla.openpi import arrays, relative

from rlgen.vla import flow, model
from rlgen.vla.config import pi0

CONFIG = openpi.config()
# For what holds at any size: quick to compile.
MINI = dataclasses.replace(
    CONFIG, vision=dataclasses.replace(CONFIG.vision, depth=1), depth=1, heads=2, cameras=CONFIG.cameras[:2]
)


@cache
def reference_run():
    """All that one pass forward and back computes, compiled once."""
    given = arrays("inputs")

    def run(params, inputs):
        parts = partial(model.apply, CONFIG, params)
        noise, t = given["noise"][None], given["time"][None]
        each = model.flow_loss(CONFIG, params, inputs, given["actions"], noise, t)
        x = flow.noisy_actions(given["actions"], given["noise"], given["time"])
        extra = {
            "loss": each[0],
            "x_t": x,
            "velocity": model.velocity(CONFIG, params, inputs, x, given["time"]),
            "prefix": model.embed_prefix(CONFIG, params, inputs),
            "suffix": model.embed_suffix(CONFIG, params, inputs.state, x, given["time"]),
            "joint": parts(inputs, x, given["time"], method="joint"),
            "cache": parts(inputs, method="run_prefix").cache,
            "pictures": parts(inputs.pictures["base_0_rgb"], method=picture_parts),
        }
        return jnp.mean(each), extra

    return jax.jit(jax.value_and_grad(run, has_aux=True))(openpi.params(), openpi.inputs())


def picture_parts(net, x):
    return net.PaliGemma.img.embed(x), net.PaliGemma.img.encode(x), net.PaliGemma.img(x)


@cache
def mini():
    """Fresh parameters, inputs without the third camera, noisy actions and their time."""
    given, inputs = arrays("inputs"), openpi.inputs()
    return model.init(MINI, jax.random.key(0)), inputs, jnp.asarray(given["noise"]), jnp.asarray(given["time"])


def names(tree) -> dict:
    return {"/".join(key): value for key, value in flatten_dict(tree).items()}


def test_full_size_has_the_published_names_and_shapes():
    manifest = json.loads((openpi.folder() / "manifest_pi0.json").read_text())
    ours = names(jax.eval_shape(partial(model.init, pi0()), jax.random.key(0)))
    assert {k: list(v.shape) for k, v in ours.items()} == {k: v["shape"] for k, v in manifest["params"].items()}
    assert sum(v.size for v in ours.values()) == manifest["num_params"]
    assert {v.dtype for v in ours.values()} == {np.dtype("float32")}


def test_forward_pass_is_the_references():
    (_, ours), _ = reference_run()
    out = arrays("outputs")
    embedded, encoded, tokens = ours["pictures"]
    assert relative(embedded, out["siglip_intermediate/base_0_rgb/with_posemb"]) < 1e-5
    assert relative(encoded, out["siglip_intermediate/base_0_rgb/encoded"]) < 1e-5
    assert relative(tokens, out["siglip/base_0_rgb"]) < 1e-5
    for name, block in (("embed_prefix", ours["prefix"]), ("embed_suffix", ours["suffix"])):
        assert relative(block.tokens, out[f"{name}/tokens"]) < 1e-5
        np.testing.assert_array_equal(block.mask, out[f"{name}/mask"])
        np.testing.assert_array_equal(block.starts, out[f"{name}/ar_mask"])
    assert relative(ours["x_t"], out["loss/x_t"]) < 1e-6
    assert relative(ours["velocity"], out["loss/v_t"]) < 1e-5
    assert relative(ours["loss"], out["loss/per_timestep"]) < 1e-5


def test_both_experts_in_one_pass_are_the_references():
    (_, ours), _ = reference_run()
    out = arrays("outputs")
    (prefix, suffix), cache = ours["joint"]
    seen = out["embed_prefix/mask"]
    both = np.concatenate([seen, np.ones(suffix.shape[:2], bool)], axis=1)
    assert relative(prefix[seen], out["llm/prefix_out"][seen]) < 1e-5
    assert relative(suffix, out["llm/suffix_out"]) < 1e-5
    for joint, alone, name in zip(cache, ours["cache"], "kv", strict=True):
        assert relative(joint[:, both], out[f"llm/{name}"][:, both]) < 1e-5
        assert relative(alone[:, seen], out[f"sample_prefix_cache/{name}"][:, seen]) < 1e-5


def test_gradients_are_the_references():
    (mean, _), grads = reference_run()
    grads, out, summary = names(grads), arrays("outputs"), openpi.description("config", "pi0")
    assert relative(mean, out["loss/mean"]) < 1e-5
    for name in summary["grad_params"]:
        assert relative(grads[name], out[f"grad/{name}"]) < 1e-5, name
    for name, norm in summary["grad_l2_norm_all_params"].items():
        assert np.linalg.norm(grads[name]) == pytest.approx(norm, rel=1e-5, abs=1e-6), name


def test_masks_and_positions_are_the_references():
    out = arrays("outputs")
    mask = np.concatenate([out["embed_prefix/mask"], out["embed_suffix/mask"]], axis=1)
    starts = np.concatenate([out["embed_prefix/ar_mask"], out["embed_suffix/ar_mask"]])
    block = model.Block(jnp.zeros(0), mask, starts)
    np.testing.assert_array_equal(model.attention_mask(block), out["llm/attn_mask"])
    np.testing.assert_array_equal(model.positions(mask), out["llm/positions"])


@pytest.mark.parametrize("steps", [4, 10])
def test_samples_are_the_references(steps):
    noise, out = arrays("inputs")["sample_noise"], arrays("outputs")
    sampled = model.sample(CONFIG, openpi.params(), openpi.inputs(), noise, steps)
    assert relative(sampled, out[f"sample{steps}/actions"]) < 1e-5


def test_sampling_with_the_cached_prefix_equals_whole_passes():
    params, inputs, noise, _ = mini()
    last = params["action_out_proj"]

    @jax.jit
    def whole(x, t):
        (_, out), _ = model.apply(MINI, params, inputs, x, jnp.broadcast_to(t, 2), method="joint")
        return out[:, -MINI.horizon :] @ last["kernel"] + last["bias"]

    cached = model.sample(MINI, params, inputs, noise, 3)
    assert relative(cached, np.asarray(flow.euler(whole, noise, 3))) < 1e-5


def test_a_masked_picture_is_as_good_as_none():
    """Neither its pixels nor its positions leave a trace, so a camera may be left out of the configuration."""
    params, inputs, x, t = mini()
    absent = "right_wrist_0_rgb"
    masked = inputs.replace(
        picture_mask=inputs.picture_mask | {absent: jnp.zeros(2, bool)},
        pictures=inputs.pictures | {absent: jnp.full((2, 28, 28, 3), 0.7)},
    )
    velocity = jax.jit(model.velocity, static_argnums=0)
    more = dataclasses.replace(MINI, cameras=CONFIG.cameras)
    assert relative(velocity(more, params, masked, x, t), np.asarray(velocity(MINI, params, inputs, x, t))) < 1e-5


def test_several_draws_are_single_ones_beside_each_other():
    params, inputs, noise, t = mini()
    actions = jnp.asarray(arrays("inputs")["actions"])
    noises, times = jnp.stack([noise, -2 * noise]), jnp.stack([t, t / 3])
    loss = jax.jit(partial(model.flow_loss, MINI))
    each = np.concatenate([loss(params, inputs, actions, noises[i : i + 1], times[i : i + 1]) for i in (0, 1)])
    assert relative(loss(params, inputs, actions, noises, times), each) < 1e-5


def test_unrolled_layers_and_a_convolutional_stem_compute_what_the_loop_does():
    vision = dataclasses.replace(MINI.vision, stem="conv", stem_cell=7, depth=2)
    looped = dataclasses.replace(MINI, vision=vision, depth=2)
    _, inputs, x, t = mini()
    params = model.init(looped, jax.random.key(1))
    velocity = jax.jit(model.velocity, static_argnums=0)
    unrolled = velocity(dataclasses.replace(looped, unroll=True), params, inputs, x, t)
    assert relative(unrolled, np.asarray(velocity(looped, params, inputs, x, t))) < 1e-5
