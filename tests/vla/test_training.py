import dataclasses
from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vla.toy import CONFIG, TRAIN, dot_episodes, pipeline_for, train_like

from rlgen.core.errors import UserError
from rlgen.data.frames import frames_from_episodes, read_frames
from rlgen.data.loader import Mixture, hold_out, mix
from rlgen.vla.data.batches import to_sample
from rlgen.vla.model import pi0, presets
from rlgen.vla.model.parameters import flat_names
from rlgen.vla.serving.actor import legal_actions
from rlgen.vla.serving.policy import VlaPolicy
from rlgen.vla.training.config import TrainConfig
from rlgen.vla.training.loop import (
    HeldOutLoss,
    Trainer,
    batch_inputs,
    compile_step,
    init_state,
    loss_and_gradients,
    run_blocks,
    run_steps,
)


@pytest.fixture(scope="module")
def frames():
    return frames_from_episodes(dot_episodes(400, seed=0), size=CONFIG.image_size)


@pytest.fixture(scope="module")
def trainer(frames):
    return Trainer(CONFIG, TRAIN, pipeline_for(CONFIG, mix([frames])), mix([frames]))


@partial(jax.jit, static_argnums=(0, 1))
def fresh_state(config, train):
    return init_state(config, train)


def host(tree):
    """Copies a state to NumPy, because the next step consumes it."""
    return jax.tree.map(lambda x: np.array(x), tree)


def test_it_learns_from_images_and_two_and_two_steps_are_four(trainer):
    # One test for both, since compiling the step takes most of its time.
    step = compile_step(CONFIG, TRAIN)

    def run(state, count):
        loader = trainer.loader()
        loader.seek(int(state.step))
        return run_steps(step, state, islice(loader, count))

    two, first = run(fresh_state(CONFIG, TRAIN), 2)
    saved = jax.tree.map(jnp.asarray, host(two))
    four, _ = run(two, 2)
    again, _ = run(saved, 2)
    jax.tree.map(np.testing.assert_array_equal, host(four), host(again))
    assert int(four.step) == 4

    state, _ = run(four, 276)
    state, last = run(state, 20)
    assert last["loss"] < 0.3 * first["loss"]
    assert last["step_s"] > 0 and 0 <= last["data_wait_share"] < 1

    others = frames_from_episodes(dot_episodes(40, seed=1), size=CONFIG.image_size)
    sample = to_sample(read_frames(others, np.arange(120), CONFIG.horizon))
    policy = VlaPolicy(CONFIG, state.inference_params, trainer.pipeline, sampling_steps=5, batch=40)
    robot = {key: value for key, value in sample.items() if not key.startswith("action")}
    acted = legal_actions(policy.act(policy.prepare(robot), policy.sample_noise(list(range(120)))))[:, 0]
    wanted = sample["actions"][:, 0]
    for axis in (0, 1):
        assert np.corrcoef(acted[:, axis], wanted[:, axis])[0, 1] > 0.8
    assert np.mean(acted[:, 6] == wanted[:, 6]) > 0.9


def test_masked_actions_do_not_count_and_parts_of_a_batch_add_up_to_it(trainer):
    """Compared with the loss computed by hand, with and without actions behind the episodes' ends."""
    params, batch = fresh_state(CONFIG, TRAIN).params, trainer.loader().read(0)
    assert not batch.chunk_mask.all()

    @jax.jit
    def run(batch):
        inputs = jax.tree.map(jnp.asarray, batch)
        noise, t = inputs.noise.swapaxes(0, 1), inputs.time.swapaxes(0, 1)
        each = pi0.flow_loss(CONFIG, params, batch_inputs(CONFIG, TRAIN, inputs), inputs.actions, noise, t)
        settings = [train_like(mask_padding=m, accumulate=a) for m in (True, False) for a in (1, 4)]
        return each, [loss_and_gradients(CONFIG, train, params, {}, inputs) for train in settings]

    each, ((masked, g1), (masked_parts, g2), (plain, g3), (plain_parts, g4)) = run(batch)
    real = np.asarray(each)[:, batch.chunk_mask]
    np.testing.assert_allclose([masked, masked_parts], real.mean(), rtol=1e-5)
    np.testing.assert_allclose([plain, plain_parts], np.mean(each), rtol=1e-5)
    assert abs(float(masked) - float(plain)) > 1e-4
    for whole_batch, parts in ((g1, g2), (g3, g4)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), whole_batch, parts)


def test_adapters_alone_are_trained_and_the_rest_stays(frames):
    config = presets.with_lora(CONFIG)
    mixture = mix([frames])
    train = train_like(trainable="lora", freeze_vision=True, ema=None, batch=4, draws=1, warmup=0)
    trainer = Trainer(config, train, pipeline_for(config, mixture), mixture)
    before = host(fresh_state(config, train))
    state, _ = run_steps(
        compile_step(config, train),
        fresh_state(config, train),
        islice(trainer.loader(), 2),
    )
    trained, params = set(flat_names(before.trained)), flat_names(host(state.params))
    assert state.ema is None and set(flat_names(state.inference_params)) == set(params)
    assert len(jax.tree.leaves(state.opt_state)) == 2 * len(trained) + 2
    for name, leaf in flat_names(before.params).items():
        # Of a single layer's first expert only keys and values are read.
        if name in trained and ("_1/lora_b" in name or "kv_einsum/lora_b" in name or name.startswith("action_")):
            assert not np.array_equal(leaf, params[name]), name
        if name not in trained:
            np.testing.assert_array_equal(leaf, params[name], err_msg=name)
            assert leaf.dtype == jnp.bfloat16
    assert not [n for n in trained if n.startswith("PaliGemma/") and "lora" not in n]


def test_blocks_end_at_checkpoints_and_the_loss_on_held_out_episodes_falls(frames):
    train = train_like(steps=110, warmup=10, batch=16, draws=2)
    kept, held = hold_out(frames, 0.1, seed=0)
    trainer = Trainer(CONFIG, train, pipeline_for(CONFIG, Mixture((kept,))), Mixture((kept,)))
    validate = HeldOutLoss(trainer, Mixture((held,)), frames=64)
    state = fresh_state(CONFIG, train)
    before = validate(state.inference_params)
    assert before == validate(state.inference_params)
    blocks = []
    for block in run_blocks(trainer, state, block=25, checkpoint_every=40):
        blocks.append((block.step, block.at_checkpoint))
        last = block
    assert blocks == [(25, False), (40, True), (65, False), (80, True), (105, False), (110, True)]
    assert validate(last.state.inference_params) < 0.8 * before


def test_a_batch_that_devices_cannot_share_is_refused(trainer):
    devices = jax.sharding.Mesh(np.array(jax.devices()[:1] * 3).reshape(3, 1), ("data", "fsdp"))
    with pytest.raises(UserError, match=r"train\.batch 32 on 3 devices: expected a multiple of 3"):
        dataclasses.replace(trainer, mesh=devices)


def test_noise_on_a_state_that_the_network_does_not_read_is_refused(trainer):
    config = dataclasses.replace(CONFIG, family="pi05")
    with pytest.raises(UserError, match="state_noise"):
        dataclasses.replace(trainer, config=config, train=train_like(state_noise=0.1))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"steps": 20, "warmup": 20}, "warmup 20"),
        ({"batch": 0}, "batch 0"),
        ({"batch": 10, "accumulate": 4}, "accumulate 4"),
        ({"ema": 1.0}, "ema 1.0"),
    ],
)
def test_contradictions_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**wrong)
