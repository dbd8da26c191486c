"""The reference's arrays that need no model: images, statistics, prompts, schedules, updates, averages."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from vla.openpi import arrays, description, relative

from rlgen.data.resize import resize_with_pad
from rlgen.vla.data import images, normalize, tokens
from rlgen.vla.data.normalize import NormStats, RunningStatistics, Statistics
from rlgen.vla.model.parameters import join
from rlgen.vla.training.config import TrainConfig
from rlgen.vla.training.optimizer import apply_gradients, create_state, kernel_norm, optimizer, schedule


def reference_statistics() -> Statistics:
    given = arrays("normalize", "misc")
    return Statistics(*(given[f"running/{name}"] for name in normalize.FIELDS))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["zscore", "quantile"])
def test_normalizing_and_back_are_the_references(dtype, kind):
    given, stats, compared = arrays("normalize", "misc"), reference_statistics(), 0
    for name, theirs in given.items():
        if name.startswith(f"{dtype}/") and name.endswith(kind):
            function = normalize.unnormalize if "/unnormalize" in name else normalize.normalize
            x = given[f"{dtype}/{name.split('/')[1]}/x"]
            assert relative(function(stats, x, kind), theirs) < 1e-6, name
            assert relative(function(stats, jnp.asarray(x), kind), theirs) < 1e-5, name
            compared += 1
    assert compared == 4


def test_running_statistics_are_the_references():
    given, running = arrays("normalize", "misc"), RunningStatistics()
    batches = [given[name] for name in sorted(given) if name.startswith("running/batch")]
    assert len(batches) > 1
    for batch in batches:
        running.update(batch)
    ours = running.result()
    for name in normalize.FIELDS:
        assert relative(getattr(ours, name), given[f"running/{name}"]) < 1e-9, name
    at_once = normalize.statistics(np.concatenate(batches))
    np.testing.assert_allclose(at_once.mean, ours.mean, rtol=1e-6)
    np.testing.assert_allclose(at_once.std, ours.std, rtol=1e-5)
    with pytest.raises(ValueError, match="of 1 rows"):
        one = RunningStatistics()
        one.update(batches[0][:1])
        one.result()


def test_the_references_file_of_statistics_is_read_and_written():
    reference = description("norm_stats_example")
    stats = NormStats.from_json(reference)
    np.testing.assert_allclose(stats.state.mean, arrays("normalize", "misc")["running/json_roundtrip_mean"], rtol=1e-6)
    again = NormStats.from_json(json.loads(json.dumps(stats.to_json())))
    jax.tree.map(np.testing.assert_array_equal, again, stats)
    assert {k: set(v) for k, v in reference["norm_stats"].items()} == {
        k: set(v) for k, v in stats.to_json()["norm_stats"].items()
    }


def test_delta_actions_and_padding_are_the_references():
    given = arrays("normalize", "misc")
    mask, state, actions = tuple(given["delta/mask"].tolist()), given["delta/state"], given["delta/actions"]
    delta = normalize.subtract_state(actions, state, mask)
    np.testing.assert_allclose(delta, given["delta/delta_actions"], rtol=1e-12)
    np.testing.assert_allclose(normalize.add_state(delta, state, mask), given["delta/absolute_again"], rtol=1e-12)
    for name in ("state", "actions"):
        padded = normalize.pad_last(given[f"delta/{name}"], given[f"pad/{name}"].shape[-1])
        np.testing.assert_array_equal(padded, given[f"pad/{name}"])


IMAGES = sorted({name.split("/")[0] for name in arrays("image_resize", "misc") if name.startswith("img")})


@pytest.mark.parametrize("image", IMAGES)
def test_resizing_is_the_references(image):
    given = arrays("image_resize", "misc")
    source, side = given[f"{image}/input_uint8"], given[f"{image}/pil_uint8"].shape[:2]
    flipped = np.stack([source, source[::-1]])
    np.testing.assert_array_equal(resize_with_pad(source, side), given[f"{image}/pil_uint8"])
    np.testing.assert_array_equal(resize_with_pad(flipped, side), given[f"{image}/pil_uint8_batched"])
    ours = np.asarray(images.resize_on_device(jnp.asarray(source)[None], side))[0]
    assert np.abs(ours.astype(int) - given[f"{image}/jax_uint8"]).max() <= 1
    floats = given[f"{image}/input_float32"]
    both = np.asarray(images.resize_on_device(jnp.asarray(np.stack([floats, floats[::-1]])), side))
    assert relative(both[0], given[f"{image}/jax_float32"]) < 1e-5
    assert relative(both, given[f"{image}/jax_float32_batched"]) < 1e-5


def test_bytes_and_floats_are_the_references():
    given = arrays("image_resize", "misc")
    np.testing.assert_array_equal(images.to_uint8(given["convert_to_uint8/input"]), given["convert_to_uint8/output"])
    floats = images.to_floats(given["observation_from_uint8/input"])
    np.testing.assert_allclose(floats, given["observation_from_uint8/output"], atol=1e-7)


@pytest.mark.parametrize("case", description("prompts")["strings"], ids=lambda case: repr(case["prompt_in"]))
def test_prompts_are_put_together_as_the_references(case):
    calls, state = [], None
    if "state" in case:
        state = np.asarray(case["state"], case["state_dtype"])
        np.testing.assert_array_equal(tokens.state_bins(state), case["discretized"])
    tokens.prompt_ids(case["prompt_in"], lambda text, bos: calls.append([text, bos]) or [], state)
    assert calls == case["encode_calls"]
    assert case.get("full_prompt", calls[0][0]) == calls[0][0]


def test_padding_and_cutting_are_the_references():
    reference = description("prompts")
    assert reference["padding_and_truncation"]["cases"]
    states = {c["prompt_in"]: np.asarray(c["state"], c["state_dtype"]) for c in reference["strings"] if "state" in c}
    for case in reference["padding_and_truncation"]["cases"]:
        state = states[case["prompt_in"]] if case["with_state"] else None
        ids, mask = tokens.tokenize(case["prompt_in"], _bytes, case["max_len"], state)
        np.testing.assert_array_equal(ids, case["tokens"])
        np.testing.assert_array_equal(mask, case["mask"])


def _bytes(text: str, bos: bool) -> list[int]:
    return [2] * bos + [3 + byte for byte in text.encode()]


def train_config(given: dict, **more) -> TrainConfig:
    names = {"warmup_steps": "warmup", "peak_lr": "peak_rate", "decay_steps": "decay_steps", "decay_lr": "end_rate"}
    values = {names.get(key, key): value for key, value in given.items()}
    return TrainConfig(steps=10**6, **values, **more)


def test_learning_rates_are_the_references():
    optim, compared = description("optim"), 0
    for name, reference in optim.items():
        if "lr" in reference and "Schedule" in name:
            kind = "rsqrt" if name.startswith("Rsqrt") else "cosine"
            rate = schedule(train_config(reference["config"], schedule=kind))
            np.testing.assert_allclose([float(rate(step)) for step in optim["steps"]], reference["lr"], rtol=1e-6)
            compared += 1
    assert compared == 3
    constant = schedule(TrainConfig(schedule="constant", peak_rate=0.5, warmup=4))
    assert [float(constant(step)) for step in (0, 4, 9_000)] == pytest.approx([0.1, 0.5, 0.5])


def toy_config(**more) -> TrainConfig:
    reference = description("optim")["AdamW"]
    hyper = reference["config"]
    return train_config(
        reference["trajectory"]["schedule"], beta1=hyper["b1"], beta2=hyper["b2"], eps=hyper["eps"],
        weight_decay=hyper["weight_decay"], clip=hyper["clip_gradient_norm"], **more,
    )  # fmt: skip


def test_updates_are_the_references():
    given, train = arrays("optim", "misc"), toy_config()
    names = [key.removeprefix("adamw/param0/") for key in given if key.startswith("adamw/param0/")]
    start = {name: given[f"adamw/param0/{name}"] for name in names}
    params, state = start, optimizer(train).init(start)
    for step, rate in enumerate(given["adamw/lr"]):
        assert float(schedule(train)(step)) == pytest.approx(float(rate), rel=1e-6)
        grads = {name: given[f"adamw/grad{step}/{name}"] for name in names}
        updates, state = optimizer(train).update(grads, state, params)
        params = optax.apply_updates(params, updates)
        for name in names:
            np.testing.assert_allclose(updates[name], given[f"adamw/update{step}/{name}"], rtol=1e-5, atol=1e-8)
            np.testing.assert_allclose(params[name], given[f"adamw/param{step + 1}/{name}"], rtol=1e-5, atol=1e-7)
    decayed = dataclasses.replace(train, weight_decay=0.1, schedule="constant", peak_rate=0.01, warmup=0)
    grads = {name: given[f"adamw/grad1/{name}"] for name in names}
    updates, _ = optimizer(decayed).update(grads, optimizer(decayed).init(start), start)
    for name in names:
        np.testing.assert_allclose(updates[name], given[f"adamw_wd0.1_lr0.01/update_of_grad1/{name}"], rtol=1e-5)


@pytest.mark.parametrize("run", ["ema", "frozen"])
def test_whole_training_steps_are_the_references(run):
    given, reference = arrays("optim", "misc"), description("optim")[f"train_step {run}"]
    train = toy_config(ema=reference["ema_decay"])
    names = [key.removeprefix(f"{run}/step0/params/") for key in given if key.startswith(f"{run}/step0/params/")]
    start = {name: jnp.asarray(given[f"{run}/step0/params/{name}"]) for name in names}
    frozen = {name: start[name] for name in names if reference["frozen"] and reference["frozen"].startswith(name)}
    target = given["ema/actions"]

    def loss(trained, frozen):
        p = join(trained, frozen)
        return jnp.mean(jnp.square(target @ p["kernel"] + p["offset"] + p["lora_bias"]))

    state = create_state(train, {name: start[name] for name in names if name not in frozen}, frozen)
    steps = len(given[f"{run}/info_loss_gradnorm_paramnorm"])
    assert steps == reference["final_step_counter"] > 1
    for step in range(steps):
        for name, leaf in state.params.items():
            # The start is what was given: from there on it is what an update makes of it.
            if step > 0:
                np.testing.assert_allclose(leaf, given[f"{run}/step{step}/params/{name}"], rtol=1e-5, atol=1e-7)
        if state.ema is not None:
            for name, leaf in state.ema.items():
                np.testing.assert_allclose(leaf, given[f"{run}/step{step}/ema_params/{name}"], rtol=1e-5, atol=1e-7)
        value, grads = jax.value_and_grad(loss)(state.trained, state.frozen)
        state, norms = apply_gradients(train, state, grads)
        info = [float(value), float(norms["grad_norm"]), float(norms["param_norm"])]
        np.testing.assert_allclose(info, given[f"{run}/info_loss_gradnorm_paramnorm"][step], rtol=1e-5)
    assert int(state.step) == reference["final_step_counter"]
    assert bool(state.frozen) == bool(reference["frozen"])
    assert all(leaf.dtype == jnp.bfloat16 for leaf in state.frozen.values())


def test_norms_of_kernels_leave_out_what_is_none():
    params = {
        "a": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.ones((2, 2))},
        "scale": jnp.ones((3, 3)),
        "w": jnp.ones(9),
    }
    assert float(kernel_norm(params)) == pytest.approx(6.0)
