"""Benchmarks and presets of networks at their own widths and types, with few rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling import less

from rlgen.bench import samplers, updates
from rlgen.configs.presets import expert_presets, run_presets
from rlgen.core.types import ImageObservation
from rlgen.pipeline.policy import make_policy
from rlgen.policies.critic import make_critic
from rlgen.rl.ppo import minibatch_loss, run_update, select
from rlgen.rl.samples import Samples
from rlgen.rl.train_state import init_state

# `quickstart` has the networks of `state`, `smoke` and `tiny` those of `few`.
PRESETS = {**run_presets(), **expert_presets()}
CHUNKS, EXPERTS = 4, 2
ALGORITHMS = ("diffusion", "gaussian")


def test_other_presets_have_the_networks_of_these():
    assert PRESETS["quickstart"].policy == PRESETS["state"].policy
    assert PRESETS["smoke"].policy == PRESETS["tiny"].policy == PRESETS["few"].policy


def shapes(policy, *lead: int):
    """The shapes of transitions that a preset's update reads."""

    def floats(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*lead, CHUNKS, *shape), np.float32)

    observation = floats(policy.observation_size)
    if policy.has_images:
        encoder = policy.config.image_encoder
        size = (*lead, CHUNKS, encoder.cameras, encoder.image_size, encoder.image_size, 3)
        observation = ImageObservation(jax.ShapeDtypeStruct(size, np.uint8), observation)
    actions = (policy.horizon, policy.action_size)
    steps = policy.num_trained_steps
    return Samples(observation, floats(steps + 1, *actions), floats(steps, *actions), *(floats() for _ in range(3)))


# In both algorithms, whatever the preset's own.
NETWORKS = [(name, algorithm) for name in ("few", "state", "narrow", "vision", "compact") for algorithm in ALGORITHMS]


@pytest.fixture(params=less(NETWORKS, [n for n in NETWORKS if n[1] == "gaussian" and n[0] != "state"]), ids="-".join)
def preset(request, monkeypatch):
    """Policy, critic and PPO's settings of a preset, with few rows, in both algorithms."""
    name, algorithm = request.param
    config = PRESETS[name]
    config = dataclasses.replace(config, policy=dataclasses.replace(config.policy, algorithm=algorithm))
    monkeypatch.setattr("rlgen.pipeline.policy.observation_size", lambda _: 31)
    policy = make_policy(config, None)
    steps = policy.num_trained_steps
    ppo = dataclasses.replace(config.ppo, environments=2, chunks=2, batch=2 * steps, epochs=2, microbatch=steps)
    return policy, make_critic(policy), ppo


def states(policy, critic, config):
    key = jax.random.PRNGKey(0)
    return jax.eval_shape(lambda: init_state(key, policy, critic, policy.init(key), config))


def test_a_preset_samples_in_its_own_widths_and_types(preset):
    policy, _, _ = preset
    params = jax.eval_shape(policy.init, jax.random.PRNGKey(0))
    sample = jax.eval_shape(policy.sample, params, jax.random.PRNGKey(1), shapes(policy).observation)
    assert sample.chain.shape == (CHUNKS, policy.num_trained_steps + 1, policy.horizon, policy.action_size)
    assert {leaf.dtype for leaf in jax.tree.leaves(sample)} == {jnp.dtype("float32")}


def test_a_preset_is_updated_in_its_own_widths_and_types(preset):
    policy, critic, config = preset
    state = states(policy, critic, config)
    updated, _ = jax.eval_shape(lambda s, x: run_update(policy, critic, config, s, x), state, shapes(policy))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), updated) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )


def test_a_preset_is_differentiated_over_several_experts(preset):
    policy, critic, config = preset
    rows = jnp.arange(2)
    steps = jnp.broadcast_to(jnp.arange(policy.num_trained_steps), (2, policy.num_trained_steps))

    def gradients(state, samples):
        batch = select(policy, config, samples, rows, steps)
        trained = {"net": state.net, "critic": state.critic}
        return jax.grad(lambda x: minibatch_loss(policy, critic, config, state, x, batch)[0])(trained)

    state = states(policy, critic, config)
    many = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((EXPERTS, *leaf.shape), leaf.dtype), state)
    found = jax.eval_shape(jax.vmap(gradients), many, shapes(policy, EXPERTS))
    assert jax.tree.map(jnp.shape, found["net"]) == jax.tree.map(jnp.shape, many.net)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}


def test_samplers_are_timed(monkeypatch):
    for module in (samplers, updates):
        monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(samplers, "time_reference", lambda _: {"seconds": 1.0, "low": 1.0, "high": 1.0, "part": 2})
    lines: list[str] = []
    report = samplers.run(repetitions=1, quick=True, log=lines.append)
    ddim, ddpm = report["rows"]
    assert (ddim["steps"], ddpm["steps"]) == (5, 100) and len(lines) == 5
    # The same network, evaluated twenty times as often.
    assert ddpm["gflops"] * ddpm["seconds"] == pytest.approx(20 * ddim["gflops"] * ddim["seconds"])


def test_an_update_is_timed():
    assert updates.time_update(1, 4, 4)["seconds"] > 0
