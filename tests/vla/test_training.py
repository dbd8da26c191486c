import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from vla import openpi

from rlgen.errors import UserError
from rlgen.vla import model, training
from rlgen.vla.batches import make_batch
from rlgen.vla.presets import tiny
from rlgen.vla.dataset import chunks, from_rlds
from rlgen.vla.transforms import model_actions, model_inputs, robot_actions

# Two pictures of 32 pixels, four tokens each, chunks of two actions.
CONFIG = dataclasses.replace(
    tiny(),
    vision=dataclasses.replace(tiny().vision, patch=16, stem_cell=4, depth=0),
    image_size=32,
    horizon=2,
    prompt_length=4,
    unroll=False,
)
TRAIN = dataclasses.replace(
    training.smoke(),
    steps=300,
    batch=32,
    draws=4,
    peak_rate=3e-3,
    end_rate=1e-4,
    warmup=20,
    ema=0.97,
    shift=0,
    state_noise=0.0,
    mask_padding=False,
)


def dot_episodes(count: int, seed: int) -> list[SimpleNamespace]:
    """A dot in the first picture; the first two numbers of the action are where it is."""
    random = np.random.default_rng(seed)
    episodes = []
    for _ in range(count):
        at = random.integers(0, 30, 2)
        image = np.full((3, 32, 32, 3), 40, np.uint8)
        image[:, at[0] : at[0] + 3, at[1] : at[1] + 3] = (255, 30, 30)
        action = np.tile(np.r_[at / 15 - 1, 0, 0, 0, 0, random.choice([-1, 1])], (3, 1))
        state = np.tile(random.normal(size=8), (3, 1))
        state[:, 7] = action[:, 6]
        episodes.append(
            SimpleNamespace(
                image=image,
                wrist_image=np.zeros_like(image),
                state=state,
                action=action,
                language_instruction="touch the dot",
            )
        )
    return episodes


@pytest.fixture(scope="module")
def data():
    return from_rlds(dot_episodes(400, seed=0), CONFIG)


def host(tree):
    """A copy that a consuming step cannot take away, as a saved file would give it back."""
    return jax.tree.map(lambda x: np.array(x), tree)


def test_it_learns_to_see_and_two_and_two_steps_are_four(data):
    # One test for both, since compiling the step takes most of its time.
    two, _ = training.train_steps(CONFIG, TRAIN, training.init_state(CONFIG, TRAIN), data, 2)
    saved = jax.tree.map(jnp.asarray, host(two))
    four, _ = training.train_steps(CONFIG, TRAIN, two, data, 2)
    again, _ = training.train_steps(CONFIG, TRAIN, saved, data, 2)
    jax.tree.map(np.testing.assert_array_equal, host(four), host(again))
    assert int(four.step) == 4

    told = []
    state, last = training.train_steps(CONFIG, TRAIN, four, data, 276, lambda step, loss: told.append((step, loss)))
    state, last = training.train_steps(CONFIG, TRAIN, state, data, 20)
    assert [step for step, _ in told] == list(range(5, 281))
    assert last["loss"] < 0.3 * told[0][1]

    unseen = from_rlds(dot_episodes(40, seed=1), CONFIG)
    inputs = model_inputs(CONFIG, data.stats, unseen.pictures, unseen.state, unseen.prompt, unseen.prompt_mask)
    noise = np.random.default_rng(0).normal(size=(120, CONFIG.horizon, CONFIG.action_size))
    acted = np.asarray(robot_actions(data.stats, model.sample(CONFIG, state.ema, inputs, noise, 5)))[:, 0]
    wanted = unseen.action_chunks[:, 0]
    for axis in (0, 1):
        assert np.corrcoef(acted[:, axis], wanted[:, axis])[0, 1] > 0.8
    assert np.mean(acted[:, 6] == wanted[:, 6]) > 0.9


def test_chunks_repeat_the_last_action_and_say_so():
    actions = np.arange(3.0)[:, None].repeat(7, 1)
    out, mask = chunks(actions, 3)
    assert out[:, :, 0].tolist() == [[0, 1, 2], [1, 2, 2], [2, 2, 2]]
    assert mask.tolist() == [[True] * 3, [True, True, False], [True, False, False]]


def test_masked_actions_do_not_count(data):
    masked = dataclasses.replace(TRAIN, mask_padding=True)
    params = model.init(CONFIG, jax.random.key(0))
    batch = make_batch(CONFIG, data, 0, batch=6, draws=2, seed=0)
    assert not batch.chunk_mask.all()

    @jax.jit
    def losses(batch):
        inputs = model_inputs(CONFIG, data.stats, batch.pictures, batch.state, batch.prompt, batch.prompt_mask)
        actions = model_actions(CONFIG, data.stats, batch.action_chunks)
        each = model.flow_loss(CONFIG, params, inputs, actions, batch.noise, batch.time)
        return each, [training.batch_loss(CONFIG, train, params, data.stats, batch) for train in (masked, TRAIN)]

    each, (with_mask, without) = losses(batch)
    real = np.asarray(each)[:, batch.chunk_mask]
    np.testing.assert_allclose(float(with_mask), real.mean(), rtol=1e-5)
    np.testing.assert_allclose(float(without), np.mean(each), rtol=1e-5)
    assert float(with_mask) != float(without)


def test_learning_rates_are_the_references():
    optim = openpi.description("optim")
    for name in ("CosineDecaySchedule defaults", "CosineDecaySchedule pi05_libero-like"):
        given = optim[name]["config"]
        train = training.TrainConfig(
            warmup=given["warmup_steps"], peak_rate=given["peak_lr"], steps=given["decay_steps"],
            end_rate=given["decay_lr"],
        )  # fmt: skip
        ours = [float(training.schedule(train)(step)) for step in optim["steps"]]
        np.testing.assert_allclose(ours, optim[name]["lr"], rtol=1e-6)


def test_updates_are_the_references():
    given = openpi.arrays("optim", "misc")
    schedule = openpi.description("optim")["AdamW"]["trajectory"]["schedule"]
    train = training.TrainConfig(
        warmup=schedule["warmup_steps"], peak_rate=schedule["peak_lr"], steps=schedule["decay_steps"],
        end_rate=schedule["decay_lr"],
    )  # fmt: skip
    names = [key.removeprefix("adamw/param0/") for key in given if key.startswith("adamw/param0/")]
    params = {name: given[f"adamw/param0/{name}"] for name in names}
    state = training.optimiser(train).init(params)
    for step in range(8):
        grads = {name: given[f"adamw/grad{step}/{name}"] for name in names}
        updates, state = training.optimiser(train).update(grads, state, params)
        params = optax.apply_updates(params, updates)
        for name in names:
            np.testing.assert_allclose(params[name], given[f"adamw/param{step + 1}/{name}"], rtol=1e-5, atol=1e-7)


def test_an_empty_dataset_is_refused():
    with pytest.raises(UserError, match="no episode"):
        from_rlds([], CONFIG)


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="warmup 20"):
        training.TrainConfig(steps=20, warmup=20)
    with pytest.raises(ValueError, match="batch 0"):
        training.TrainConfig(batch=0)
