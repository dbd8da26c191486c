"""Every array of the four reference models: pi0 and pi0.5, with adapters and without."""

import dataclasses
import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vla import openpi
from vla.openpi import FAMILIES, arrays, names, relative

from rlgen.vla import flow, model, presets


@cache
def reference_run(part):
    """All that one pass forward and back computes, compiled once."""
    given, config = arrays("inputs", part), openpi.config(part)

    def run(params, inputs):
        parts = partial(model.apply, config, params)
        noise, t = given["noise"][None], given["time"][None]
        each = model.flow_loss(config, params, inputs, given["actions"], noise, t)
        x = flow.noisy_actions(given["actions"], given["noise"], given["time"])
        extra = {
            "loss": each[0],
            "x_t": x,
            "velocity": model.velocity(config, params, inputs, x, given["time"]),
            "prefix": model.embed_prefix(config, params, inputs),
            "suffix": model.embed_suffix(config, params, inputs.state, x, given["time"]),
            "joint": parts(inputs, x, given["time"], method="joint"),
            "cache": parts(inputs, method="run_prefix").cache,
            "pictures": {name: parts(picture, method=picture_parts) for name, picture in inputs.pictures.items()},
        }
        return jnp.mean(each), extra

    return jax.jit(jax.value_and_grad(run, has_aux=True))(openpi.params(part), openpi.inputs(part))


def picture_parts(net, x):
    return net.PaliGemma.img.embed(x), net.PaliGemma.img.encode(x), net.PaliGemma.img(x)


@cache
def manifest(family):
    return json.loads((openpi.folder() / f"manifest_{family}.json").read_text())


@pytest.mark.parametrize("family", ["pi0", "pi05"])
@pytest.mark.parametrize("variant", [None, (True, True), (True, False), (False, True)])
def test_full_size_has_the_published_names_and_shapes(family, variant):
    told, config, extra = manifest(family), presets.preset(family), {}
    if variant is not None:
        config = presets.with_lora(config, language=variant[0], action=variant[1])
        name = " + ".join(n + "_lora" * on for n, on in zip(("gemma_2b", "gemma_300m"), variant, strict=True))
        extra = told["lora_variants"][name]["extra_params"]
        assert told["lora_variants"][name]["num_leaves"] == len(told["params"]) + len(extra)
    ours = names(jax.eval_shape(partial(model.init, config), jax.random.key(0)))
    theirs = {**told["params"], **extra}
    assert {k: list(v.shape) for k, v in ours.items()} == {k: v["shape"] for k, v in theirs.items()}
    assert {str(v.dtype) for v in ours.values()} == {"float32"} == {v["dtype"] for v in theirs.values()}
    if variant is None:
        assert sum(v.size for v in ours.values()) == told["num_params"]


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_presets_have_the_published_settings(family):
    told, config = manifest(family)["config"], presets.preset(family)
    assert config.action_size == told["action_dim"] and config.horizon == told["action_horizon"]
    assert config.prompt_length == told["max_token_len"] and config.dtype == told["dtype"]
    assert config.image_size == told["image_resolution"][0]
    assert config.state_in_prompt == told.get("discrete_state_input", False)


@pytest.mark.parametrize("part", FAMILIES)
def test_forward_pass_is_the_references(part):
    (_, ours), _ = reference_run(part)
    out = arrays("outputs", part)
    for camera, (embedded, encoded, tokens) in ours["pictures"].items():
        assert relative(tokens, out[f"siglip/{camera}"]) < 1e-5
        if f"siglip_intermediate/{camera}/encoded" in out:
            assert relative(embedded, out[f"siglip_intermediate/{camera}/with_posemb"]) < 1e-5
            assert relative(encoded, out[f"siglip_intermediate/{camera}/encoded"]) < 1e-5
    for name, block in (("embed_prefix", ours["prefix"]), ("embed_suffix", ours["suffix"])):
        assert relative(block.tokens, out[f"{name}/tokens"]) < 1e-5
        np.testing.assert_array_equal(block.mask, out[f"{name}/mask"])
        np.testing.assert_array_equal(block.starts, out[f"{name}/ar_mask"])
    if "embed_suffix/adarms_cond" in out:
        assert relative(ours["suffix"].condition, out["embed_suffix/adarms_cond"]) < 1e-5
    assert relative(ours["x_t"], out["loss/x_t"]) < 1e-6
    given = arrays("inputs", part)
    assert relative(flow.flow_target(given["actions"], given["noise"]), out["loss/u_t"]) < 1e-6
    assert relative(ours["velocity"], out["loss/v_t"]) < 1e-5
    assert relative(ours["loss"], out["loss/per_timestep"]) < 1e-5
    features = flow.time_features(jnp.asarray(given["time"]), openpi.config(part).action.width)
    # Float32 itself is only good for 6e-5 at 250 turns a unit.
    np.testing.assert_allclose(features, out["posemb_sincos"], atol=1e-6)


@pytest.mark.parametrize("part", FAMILIES)
def test_both_experts_in_one_pass_are_the_references(part):
    (_, ours), _ = reference_run(part)
    out = arrays("outputs", part)
    (prefix, suffix), cache = ours["joint"]
    seen = out["embed_prefix/mask"]
    both = np.concatenate([seen, np.ones(suffix.shape[:2], bool)], axis=1)
    assert relative(prefix[seen], out["llm/prefix_out"][seen]) < 1e-5
    assert relative(suffix, out["llm/suffix_out"]) < 1e-5
    for joint, alone, name in zip(cache, ours["cache"], "kv", strict=True):
        assert relative(joint[:, both], out[f"llm/{name}"][:, both]) < 1e-5
        assert relative(alone[:, seen], out[f"sample_prefix_cache/{name}"][:, seen]) < 1e-5


@pytest.mark.parametrize("part", FAMILIES)
def test_gradients_are_the_references(part):
    (mean, _), grads = reference_run(part)
    grads, out, summary = names(grads), arrays("outputs", part), openpi.description("config", part)
    assert relative(mean, out["loss/mean"]) < 1e-5
    for name in summary["grad_params"]:
        assert relative(grads[name], out[f"grad/{name}"]) < 1e-5, name
    assert set(grads) == set(summary["grad_l2_norm_all_params"])
    for name, norm in summary["grad_l2_norm_all_params"].items():
        assert np.linalg.norm(grads[name]) == pytest.approx(norm, rel=1e-5, abs=1e-6), name
    total = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in grads.values()))
    assert total == pytest.approx(float(out["grad_norm_global"]), rel=1e-5)


@pytest.mark.parametrize("part", FAMILIES)
def test_masks_and_positions_are_the_references(part):
    out = arrays("outputs", part)
    mask = np.concatenate([out["embed_prefix/mask"], out["embed_suffix/mask"]], axis=1)
    starts = np.concatenate([out["embed_prefix/ar_mask"], out["embed_suffix/ar_mask"]])
    block = model.Block(jnp.zeros(0), mask, starts)
    np.testing.assert_array_equal(model.attention_mask(block), out["llm/attn_mask"])
    np.testing.assert_array_equal(model.positions(mask), out["llm/positions"])


@pytest.mark.parametrize("part", FAMILIES)
def test_samples_are_the_references(part):
    config, noise, out = openpi.config(part), arrays("inputs", part)["sample_noise"], arrays("outputs", part)
    given, params = openpi.inputs(part), openpi.params(part)
    velocity = jax.jit(partial(model.velocity, config))
    for steps in (4, 10):
        sampled = model.sample(config, params, given, noise, steps)
        assert relative(sampled, out[f"sample{steps}/actions"]) < 1e-5
        # What the walk sees on its way: the slope at each of the reference's points, and where that leads.
        x, t = out[f"sample{steps}/x_steps"], out[f"sample{steps}/t_steps"]
        for i in (0, 1, steps - 1):
            slope = velocity(params, given, x[i], jnp.full(len(noise), t[i]))
            assert relative(slope, out[f"sample{steps}/v_steps"][i]) < 1e-5
            assert relative(x[i] + np.float32(-1 / steps) * np.asarray(slope), x[i + 1]) < 1e-5


@pytest.mark.parametrize("part", FAMILIES)
def test_half_precision_is_near_the_references(part):
    config = dataclasses.replace(openpi.config(part), dtype="bfloat16")
    given, inputs, out = arrays("inputs", part), openpi.inputs(part), arrays("outputs_bf16", part)
    x = flow.noisy_actions(given["actions"], given["noise"], given["time"])
    velocity = jax.jit(partial(model.velocity, config))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), openpi.params(part))
    for name, params in (("f32_params", openpi.params(part)), ("bf16_params", half)):
        slope = velocity(params, inputs, x, given["time"])
        assert relative(slope, out[f"{name}/v_t"]) < 5e-2
        sampled = model.sample(config, params, inputs, given["sample_noise"], 10)
        assert relative(sampled, out[f"{name}/sample10_actions"]) < 5e-2
        if f"{name}/per_timestep" in out:
            each = jnp.mean(jnp.square(slope - (given["noise"] - given["actions"])), axis=-1)
            assert relative(each, out[f"{name}/per_timestep"]) < 5e-2


def test_a_wrong_seed_of_precision_would_be_seen():
    """The bound on half precision is no bound for single precision: what passes there is not float32."""
    part = FAMILIES[0]
    out, half = arrays("outputs", part), arrays("outputs_bf16", part)
    assert relative(half["f32_params/v_t"], out["loss/v_t"]) > 1e-3
