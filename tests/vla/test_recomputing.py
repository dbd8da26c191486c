"""What a training step multiplies, and that recomputing, casting and leaving out change none of its results."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vla.toy import CONFIG

from rlgen.bench.timing import operations
from rlgen.cli.common import parse
from rlgen.vla.data.spec import InputSpec, from_json, to_json
from rlgen.vla.model import pi0, presets
from rlgen.vla.training.config import FineTune, TrainConfig
from rlgen.vla.training.fine_tune import log_memory_plan, model_config
from rlgen.vla.training.memory_plan import GIB, activation_bytes, step_flops

LOOPED = dataclasses.replace(
    CONFIG, depth=3, vision=dataclasses.replace(CONFIG.vision, depth=2, stem="linear"), cameras=CONFIG.cameras[:1]
)
ADAPTED = presets.with_lora(LOOPED)


@partial(jax.jit, static_argnums=0)
def example(config):
    keys = jax.random.split(jax.random.key(0), 4)
    params = jax.tree.map(lambda x: x + 0.02, pi0.init(config, keys[0]))
    inputs = pi0.example_inputs(config, 2)
    inputs = inputs.replace(prompt_mask=inputs.prompt_mask.at[1, 2:].set(False))
    inputs = inputs.replace(images=jax.tree.map(lambda x: jax.random.normal(keys[1], x.shape), inputs.images))
    actions, noise = jax.random.normal(keys[2], (2, 2, config.horizon, config.action_size))
    return params, inputs, actions, noise[None], jnp.array([[0.3, 0.8]])


def loss(config, params, *rest):
    return jnp.mean(pi0.flow_loss(config, params, *rest))


gradient = jax.jit(jax.value_and_grad(loss, argnums=1), static_argnums=0)


def difference(ours, theirs):
    ours, theirs = (list(map(np.asarray, jax.tree.leaves(tree))) for tree in (ours, theirs))
    scale = max(float(np.abs(leaf).max()) for leaf in theirs)
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)) / scale


def test_the_prefix_has_keys_and_values_of_every_layer_without_the_rest_of_the_last():
    params, inputs, *_ = example(ADAPTED)

    def whole(net, inputs):
        block = net.prefix(inputs)
        return net.PaliGemma.llm([block.tokens, None], pi0.positions(block.mask), pi0.attention_mask(block))[1]

    def caches(params, inputs):
        call = partial(pi0.apply, ADAPTED, params, inputs)
        prefixes = [call(in_place, method="run_prefix").cache for in_place in (False, True)]
        return call(method=whole), *prefixes

    expected, copied, in_place = jax.jit(caches)(params, inputs)
    assert expected[0].shape[0] == ADAPTED.depth
    assert difference(copied, expected) < 1e-6 and difference(in_place, expected) < 1e-6


def test_keeping_products_alone_changes_no_gradient():
    given = example(LOOPED)
    value, grads = gradient(dataclasses.replace(LOOPED, remat="products"), *given)
    expected, theirs = gradient(LOOPED, *given)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    assert difference(grads, theirs) < 2e-6


def test_products_that_are_cast_before_the_loops_have_the_gradients_of_those_cast_within(monkeypatch):
    config = dataclasses.replace(LOOPED, dtype="bfloat16")
    given = example(LOOPED)
    value, grads = gradient(config, *given)
    monkeypatch.setattr(pi0, "cast_products", lambda config, params: params)
    expected, theirs = jax.jit(jax.value_and_grad(partial(loss, config)))(*given)
    assert float(value) == pytest.approx(float(expected), rel=1e-3)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    # Half precision has three digits.
    assert difference(grads, theirs) < 5e-3


def counted(config):
    return operations(jax.grad(partial(loss, config)), *example_shapes(config))


def example_shapes(config):
    return jax.eval_shape(partial(example, config))


def test_only_what_is_recomputed_is_multiplied_beside_what_utilization_counts():
    big = dataclasses.replace(presets.with_cameras(presets.pi0(), 2))
    useful = step_flops(big, TrainConfig(batch=2))
    kept, products, nothing = (counted(dataclasses.replace(big, remat=remat)) for remat in (False, "products", True))
    assert kept == pytest.approx(useful, rel=0.01)
    # Attention's own products are a few hundredths.
    assert useful < products < 1.06 * useful
    # Of seven products of a layer all but the one that leads out of it are multiplied again.
    assert 1.2 * useful < nothing < 1.34 * useful


def test_keeping_products_needs_less_memory_than_keeping_everything():
    big = presets.pi0()
    kept, products, nothing = (
        activation_bytes(dataclasses.replace(big, remat=remat)) for remat in (False, "products", True)
    )
    assert nothing < products < kept
    # By hand, a frame of two cameras: what 560 and 51 tokens keep of 18 layers, in two bytes each, and of 512 in 27.
    two = presets.with_cameras(big, 2)
    more = [activation_bytes(dataclasses.replace(two, remat=remat)) for remat in ("products", True)]
    language = 18 * 2 * (560 * (10 * 256 + 2048 + 2 * 16384) + 51 * (10 * 256 + 1024 + 2 * 4096))
    assert more[0] - more[1] == language + 27 * 2 * 512 * (4 * 1152 + 4304)


@pytest.mark.parametrize(("word", "remat"), [("False", False), ("True", True), ("products", "products")])
def test_what_is_recomputed_is_chosen_on_the_command_line_and_stored(word, remat):
    chosen = parse(FineTune, ["--model", "pi0", "--remat", word], "rlgen vla train", "")
    config = model_config(chosen)
    assert config.remat is remat or config.remat == remat == "products"
    stored = json.loads(json.dumps(to_json(config, InputSpec())))
    assert from_json(stored)[0] == config


def test_a_device_with_room_is_told_what_would_be_faster(monkeypatch):
    lines = []
    model, settings = model_config(FineTune(cameras=2)), FineTune()
    for gib in (100, 139):
        monkeypatch.setattr("rlgen.vla.training.fine_tune.device_bytes", lambda gib=gib: gib * GIB)
        log_memory_plan(settings, model, 1, lines.append)
    [line] = [line for line in lines if "products" in line]
    assert line.startswith("--remat products would take 99.") and "of 139.0 GiB" in line
