import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vla.toy import CONFIG, train_like

from rlgen.vla.model import pi0, presets
from rlgen.vla.training import memory_plan
from rlgen.vla.training.config import TrainConfig
from rlgen.vla.training.loop import init_state

GIB = memory_plan.GIB


def test_the_state_is_counted_to_the_byte():
    train = train_like(trainable="expert", moments="bfloat16")
    plan = memory_plan.memory_plan(CONFIG, train)
    state = init_state(CONFIG, train)

    def size(tree):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))

    assert plan.parameters == size(state.trained) + size(state.frozen)
    assert plan.average == size(state.ema)
    assert plan.moments == size(state.opt_state)
    assert plan.gradients == size(state.trained)


def test_full_pi0_needs_what_its_parameters_say():
    config, train = dataclasses.replace(presets.pi0(), remat=True), TrainConfig()
    plan = memory_plan.memory_plan(config, train)
    billion = 3_238_048_528 * 4
    assert plan.parameters == plan.average == plan.gradients == billion
    assert plan.moments == pytest.approx(2 * billion, rel=1e-6)
    cut = memory_plan.memory_plan(config, train, devices=8, fsdp=8)
    assert cut.parameters < billion / 7.5 and cut.activations < plan.activations / 7
    lora = memory_plan.memory_plan(presets.preset("pi0_lora"), TrainConfig(trainable="lora", ema=None))
    assert lora.total - lora.activations < 0.3 * (plan.total - plan.activations)
    assert memory_plan.memory_plan(presets.pi0(), train).activations > 3 * plan.activations


def test_advice_names_what_helps_and_what_it_would_need():
    config, train, limit = presets.pi0(), TrainConfig(), 80 * GIB
    lines = memory_plan.advice(config, train, limit, devices=8)
    assert any(line.startswith("--remat") for line in lines)
    assert any(line.startswith("--fsdp 8") for line in lines)
    needs = [float(line.split(": ")[1].split()[0]) for line in lines]
    assert needs == sorted(needs)
    now = memory_plan.memory_plan(config, train, devices=8).total / GIB
    assert all(need < now for need in needs)
    assert all(("still too much" in line) == (need > 80) for line, need in zip(lines, needs, strict=True))


MIDDLE = dataclasses.replace(
    CONFIG,
    vision=dataclasses.replace(presets.pi0().vision, width=64, depth=2, mlp=128, heads=2, patch=16, stem="linear"),
    language=dataclasses.replace(CONFIG.language, width=128, mlp=512),
    action=dataclasses.replace(CONFIG.action, width=64, mlp=256),
    image_size=64,
    horizon=16,
    depth=2,
    unroll=True,
)


@pytest.fixture(scope="module")
def compiled():
    """Returns the compiled loss of four frames, and its compiled gradient."""
    inputs = pi0.example_inputs(MIDDLE, 4)
    params = jax.eval_shape(partial(pi0.init, MIDDLE), jax.random.key(0))
    actions = jnp.zeros((4, MIDDLE.horizon, MIDDLE.action_size))

    def loss(params):
        return jnp.mean(pi0.flow_loss(MIDDLE, params, inputs, actions, actions[None], jnp.ones((1, 4))))

    options = {"xla_backend_optimization_level": 0}
    return [jax.jit(f, compiler_options=options).lower(params).compile() for f in (loss, jax.grad(loss))]


def test_operations_are_those_that_the_compiler_counts(compiled):
    forward, backward = (each.cost_analysis()["flops"] for each in compiled)
    # Norms, softmax and activations come on top of the products.
    assert 4 * memory_plan.forward_flops(MIDDLE) == pytest.approx(forward, rel=0.1)
    step = memory_plan.step_flops(MIDDLE, TrainConfig(batch=4))
    assert step == pytest.approx(3 * 4 * memory_plan.forward_flops(MIDDLE))
    # Only products are counted, so that utilization is never overstated.
    assert step < backward
    expert = memory_plan.step_flops(MIDDLE, TrainConfig(batch=4, trainable="expert"))
    assert 2 / 3 * step < expert < step


def test_activations_are_estimated_within_a_factor_of_two(compiled):
    needed = compiled[1].memory_analysis().temp_size_in_bytes
    estimate = 4 * memory_plan.activation_bytes(MIDDLE)
    assert 0.5 < estimate / needed < 2.5


def test_devices_are_known_by_a_part_of_their_name():
    assert memory_plan.peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert memory_plan.peak_flops("TPU v5 lite") == 197e12
    assert memory_plan.peak_flops("cpu") is None
    assert np.isfinite(list(memory_plan.PEAK_FLOPS.values())).all()
