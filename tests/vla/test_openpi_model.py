"""Every array of the four reference models, pi0 and pi0.5, with adapters and without, by programs as users run them."""

import dataclasses
import json
import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling import less
from vla import openpi
from vla.openpi import FAMILIES, arrays, names, relative

from rlgen.vla.model import pi0, presets

# One of each family, one with adapters.
PARTS = less(FAMILIES, ("pi0_lora", "pi05"))


@cache
def gradient_run(part):
    """Returns the loss, its gradient and the tokens that it starts from."""
    given, config = arrays("inputs", part), openpi.config(part)

    def run(params, inputs):
        noise, t = given["noise"][None], given["time"][None]
        each = pi0.flow_loss(config, params, inputs, given["actions"], noise, t)
        x = pi0.noisy_actions(given["actions"], given["noise"], given["time"])
        return jnp.mean(each), (each[0], x, pi0.embed_suffix(config, params, inputs.state, x, given["time"]))

    return jax.jit(jax.value_and_grad(run, has_aux=True))(openpi.params(part), openpi.inputs(part))


@cache
def joint_run(part):
    """Images, tokens, and both experts in one pass."""
    given, config, out = arrays("inputs", part), openpi.config(part), arrays("outputs", part)

    def run(params, inputs):
        parts = partial(pi0.apply, config, params)
        images = parts(jnp.concatenate(list(inputs.images.values())), method=image_parts)
        joint = parts(inputs, out["loss/x_t"], given["time"], method="joint")
        return images, parts(inputs, method="prefix"), joint

    return jax.jit(run)(openpi.params(part), openpi.inputs(part))


def sampled(part) -> list[int]:
    """Returns the numbers of Euler steps that the reference sampled with."""
    found = sorted({int(name.split("/")[0].removeprefix("sample")) for name in arrays("outputs", part)
                    if re.match(r"sample\d+/", name)})  # fmt: skip
    assert len(found) > 1
    return found


@cache
def sampling_run(part):
    """Returns the cached prefix, velocities at the loss's point and along both trajectories, and their ends."""
    given, config, out = arrays("inputs", part), openpi.config(part), arrays("outputs", part)
    count = len(given["time"])
    trajectories = [(out[f"sample{n}/x_steps"][:-1], out[f"sample{n}/t_steps"][:-1]) for n in sampled(part)]
    x = np.concatenate([out["loss/x_t"][None], *(x for x, _ in trajectories)])
    t = np.concatenate([given["time"][None], *(t[:, None].repeat(count, 1) for _, t in trajectories)])

    def run(params, inputs):
        parts = partial(pi0.apply, config, params)
        prefix = parts(inputs, method="run_prefix")

        def slope(point):
            block = pi0.embed_suffix(config, params, inputs.state, *point)
            return parts(prefix, block, method="run_suffix")

        trajectory = partial(pi0.sample, config, params, inputs, given["sample_noise"])
        return prefix.cache, jax.lax.map(slope, (x, t)), jax.lax.map(trajectory, jnp.array(sampled(part)))

    return jax.jit(run)(openpi.params(part), openpi.inputs(part))


def image_parts(net, x):
    img = net.PaliGemma.img
    embedded = img.embed(x)
    encoded = img.Transformer(embedded)
    return embedded, encoded, img.head(encoded)


@cache
def manifest(family):
    return json.loads((openpi.folder() / f"manifest_{family}.json").read_text())


@pytest.mark.parametrize("family", ["pi0", "pi05"])
@pytest.mark.parametrize("variant", [None, (True, True), (True, False), (False, True)])
def test_full_size_has_the_published_names_and_shapes(family, variant):
    reference, config, extra = manifest(family), presets.preset(family), {}
    if variant is not None:
        config = presets.with_lora(config, language=variant[0], action=variant[1])
        name = " + ".join(n + "_lora" * on for n, on in zip(("gemma_2b", "gemma_300m"), variant, strict=True))
        extra = reference["lora_variants"][name]["extra_params"]
        assert reference["lora_variants"][name]["num_leaves"] == len(reference["params"]) + len(extra)
    ours = names(jax.eval_shape(partial(pi0.init, config), jax.random.key(0)))
    theirs = {**reference["params"], **extra}
    assert {k: list(v.shape) for k, v in ours.items()} == {k: v["shape"] for k, v in theirs.items()}
    assert {str(v.dtype) for v in ours.values()} == {"float32"} == {v["dtype"] for v in theirs.values()}
    if variant is None:
        assert sum(v.size for v in ours.values()) == reference["num_params"]


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_presets_have_the_published_settings(family):
    reference, config = manifest(family)["config"], presets.preset(family)
    assert config.action_size == reference["action_dim"] and config.horizon == reference["action_horizon"]
    assert config.prompt_length == reference["max_token_len"] and config.dtype == reference["dtype"]
    assert config.image_size == reference["image_resolution"][0]
    assert config.state_in_prompt == reference.get("discrete_state_input", False)


@pytest.mark.parametrize("part", PARTS)
def test_tokens_are_the_references(part):
    images, prefix, _ = joint_run(part)
    _, (_, x, suffix) = gradient_run(part)[0]
    given, out = arrays("inputs", part), arrays("outputs", part)
    count = len(given["time"])
    for i, camera in enumerate(openpi.config(part).cameras):
        embedded, encoded, tokens = (stage[i * count : (i + 1) * count] for stage in images)
        assert relative(tokens, out[f"siglip/{camera}"]) < 1e-5
        if f"siglip_intermediate/{camera}/encoded" in out:
            assert relative(embedded, out[f"siglip_intermediate/{camera}/with_posemb"]) < 1e-5
            assert relative(encoded, out[f"siglip_intermediate/{camera}/encoded"]) < 1e-5
    for name, block in (("embed_prefix", prefix), ("embed_suffix", suffix)):
        assert relative(block.tokens, out[f"{name}/tokens"]) < 1e-5
        np.testing.assert_array_equal(block.mask, out[f"{name}/mask"])
        np.testing.assert_array_equal(block.starts, out[f"{name}/ar_mask"])
    if "embed_suffix/adarms_cond" in out:
        assert relative(suffix.condition, out["embed_suffix/adarms_cond"]) < 1e-5
    assert relative(x, out["loss/x_t"]) < 1e-6
    assert relative(pi0.flow_target(given["actions"], given["noise"]), out["loss/u_t"]) < 1e-6
    features = pi0.time_features(jnp.asarray(given["time"]), openpi.config(part).action.width)
    # Float32 itself is only good for 6e-5 at 250 turns a unit.
    np.testing.assert_allclose(features, out["posemb_sincos"], atol=1e-6)


@pytest.mark.parametrize("part", PARTS)
def test_both_experts_in_one_pass_are_the_references(part):
    _, _, ((prefix, suffix), cache) = joint_run(part)
    out = arrays("outputs", part)
    exists = out["embed_prefix/mask"]
    both = np.concatenate([exists, np.ones(suffix.shape[:2], bool)], axis=1)
    assert relative(prefix[exists], out["llm/prefix_out"][exists]) < 1e-5
    assert relative(suffix, out["llm/suffix_out"]) < 1e-5
    for joint, name in zip(cache, "kv", strict=True):
        assert relative(joint[:, both], out[f"llm/{name}"][:, both]) < 1e-5


@pytest.mark.parametrize("part", PARTS)
def test_loss_and_gradients_are_the_references(part):
    (mean, (each, *_)), grads = gradient_run(part)
    grads, out, summary = names(grads), arrays("outputs", part), openpi.description("config", part)
    assert relative(each, out["loss/per_timestep"]) < 1e-5
    assert relative(mean, out["loss/mean"]) < 1e-5
    np.testing.assert_array_equal(out["loss/time"], arrays("inputs", part)["time"])
    for name in summary["grad_params"]:
        assert relative(grads[name], out[f"grad/{name}"]) < 1e-5, name
    assert set(grads) == set(summary["grad_l2_norm_all_params"])
    for name, norm in summary["grad_l2_norm_all_params"].items():
        assert np.linalg.norm(grads[name]) == pytest.approx(norm, rel=1e-5, abs=1e-6), name
    total = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in grads.values()))
    assert total == pytest.approx(float(out["grad_norm_global"]), rel=1e-5)


@pytest.mark.parametrize("part", PARTS)
def test_masks_and_positions_are_the_references(part):
    out = arrays("outputs", part)
    mask = np.concatenate([out["embed_prefix/mask"], out["embed_suffix/mask"]], axis=1)
    starts = np.concatenate([out["embed_prefix/ar_mask"], out["embed_suffix/ar_mask"]])
    block = pi0.Block(jnp.zeros(0), mask, starts)
    np.testing.assert_array_equal(pi0.attention_mask(block), out["llm/attn_mask"])
    np.testing.assert_array_equal(pi0.positions(mask), out["llm/positions"])


@pytest.mark.parametrize("part", PARTS)
def test_samples_and_all_their_steps_are_the_references(part):
    cache, slopes, trajectories = sampling_run(part)
    out = arrays("outputs", part)
    exists = out["embed_prefix/mask"]
    for ours, name in zip(cache, "kv", strict=True):
        assert relative(ours[:, exists], out[f"sample_prefix_cache/{name}"][:, exists]) < 1e-5
    assert relative(slopes[0], out["loss/v_t"]) < 1e-5
    start = 1
    for trajectory, steps in zip(trajectories, sampled(part), strict=True):
        reference, ours = out.below(f"sample{steps}"), slopes[start : start + steps]
        assert relative(trajectory, reference["actions"]) < 1e-5
        assert relative(ours[0], reference["v_first"]) < 1e-5
        assert relative(ours, reference["v_steps"]) < 1e-5
        # From each of its points our slope leads to its next.
        assert relative(reference["x_steps"][:-1] - ours / steps, reference["x_steps"][1:]) < 1e-5
        start += steps


@pytest.mark.parametrize("part", PARTS)
def test_eulers_points_and_times_are_the_references(part):
    given = arrays("inputs", part)
    for steps in sampled(part):
        reference, points, times = arrays("outputs", part).below(f"sample{steps}"), [], []

        def velocity(x, t, slopes=iter(reference["v_steps"]), points=points, times=times):  # noqa: B008
            points.append(x)
            times.append(t)
            return next(slopes)

        with jax.disable_jit():
            end = pi0.euler(velocity, jnp.asarray(given["sample_noise"]), steps)
        assert relative(np.stack([*points[1:], end]), reference["x_steps"][1:]) < 1e-6
        np.testing.assert_array_equal(points[0], reference["x_steps"][0])
        # Summed in single precision, so that the last is not quite 0.
        np.testing.assert_array_equal([*times, times[-1] - np.float32(1 / steps)], reference["t_steps"])


@pytest.mark.parametrize("part", less(FAMILIES, set(FAMILIES) - {"pi05_lora"}))
def test_half_precision_is_near_the_references(part):
    config = dataclasses.replace(openpi.config(part), dtype="bfloat16")
    given, inputs, out = arrays("inputs", part), openpi.inputs(part), arrays("outputs_bf16", part)
    bfloat16_params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), openpi.params(part))
    for name, params in (("f32_params", openpi.params(part)), ("bf16_params", bfloat16_params)):
        slope = partial(jax.jit(partial(pi0.velocity, config)), params, inputs)
        v = slope(arrays("outputs", part)["loss/x_t"], given["time"])
        assert relative(v, out[f"{name}/v_t"]) < 5e-2
        # Single precision would not be as far away as half precision has to be.
        assert relative(v, arrays("outputs", part)["loss/v_t"]) > 1e-3
        [steps] = {int(found[1]) for found in (re.match(rf"{name}/sample(\d+)_actions", key) for key in out) if found}
        x, dt = jnp.asarray(given["sample_noise"]), np.float32(1 / steps)
        for i in range(steps):
            x = x - dt * slope(x, jnp.full(len(x), 1 - dt * i))
        assert relative(x, out[f"{name}/sample{steps}_actions"]) < 5e-2
        if f"{name}/per_timestep" in out:
            each = jnp.mean(jnp.square(v - (given["noise"] - given["actions"])), axis=-1)
            assert relative(each, out[f"{name}/per_timestep"]) < 5e-2
