"""LIBERO has two of the three cameras of the published models; the third, masked, changes nothing but the work."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from vla.toy import CONFIG, numbered_frames, pipeline_for

from rlgen.cli.common import parse
from rlgen.cli.vla import ModelOptions
from rlgen.core.errors import UserError
from rlgen.data.loader import mix
from rlgen.vla.checkpoints.model_folder import DESCRIPTION
from rlgen.vla.data import spec
from rlgen.vla.data.batches import BatchOptions, batch_loader
from rlgen.vla.data.spec import InputSpec
from rlgen.vla.model import pi0, presets
from rlgen.vla.model.config import CAMERAS
from rlgen.vla.serving.policy import open_policy
from rlgen.vla.training.config import FineTune, TrainConfig
from rlgen.vla.training.fine_tune import model_config
from rlgen.vla.training.loop import batch_inputs, loss_and_gradients
from rlgen.vla.training.record import RECORD, resolve_cameras

VISION = dataclasses.replace(CONFIG.vision, depth=1, stem="linear")
TRAIN = TrainConfig(steps=10, warmup=0, batch=2)


def config_of(cameras: int, family: str):
    config = dataclasses.replace(CONFIG, vision=VISION, family=family, depth=2)
    return presets.with_cameras(config, cameras)


def batch_of(config, *, augment: bool = False):
    mixture = mix([numbered_frames([12, 9], size=32)])
    options = BatchOptions(
        batch=TRAIN.batch, horizon=CONFIG.horizon, seed=TRAIN.seed, steps=TRAIN.steps, augment=augment
    )
    return batch_loader(config, mixture, pipeline_for(config, mixture), options).read(0)


def sides(family):
    """Returns model, parameters and batch with two cameras and with three, from the same seed."""
    configs = [config_of(cameras, family) for cameras in (2, 3)]
    # Fresh adaptive norms have gates of 0, which would leave nothing to compare.
    params = jax.jit(lambda key: jax.tree.map(lambda x: x + 0.02, pi0.init(configs[0], key)))(jax.random.key(0))
    return [(config, params, batch_of(config)) for config in configs]


def close(ours, theirs):
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * scale)


def test_the_third_camera_is_masked_and_black():
    two, three = (batch_of(config_of(cameras, "pi05")) for cameras in (2, 3))
    assert set(three.images) - set(two.images) == {"right_wrist_0_rgb"}
    assert not three.image_mask["right_wrist_0_rgb"].any() and not three.images["right_wrist_0_rgb"].any()
    assert three.image_mask["base_0_rgb"].all() and three.image_mask["left_wrist_0_rgb"].all()


def test_the_robots_cameras_are_augmented_alike_beside_the_third_and_without_it():
    two, three = (batch_of(config_of(cameras, "pi0"), augment=True) for cameras in (2, 3))
    assert set(two.augment) == set(CAMERAS[:2])
    for name, values in two.augment.items():
        np.testing.assert_array_equal(values, three.augment[name])
        np.testing.assert_array_equal(two.images[name], three.images[name])


def test_two_cameras_have_the_loss_and_the_gradients_of_three():
    (loss, gradients), (expected, theirs) = (
        jax.jit(loss_and_gradients, static_argnums=(0, 1))(config, TRAIN, params, {}, batch)
        for config, params, batch in sides("pi0")
    )
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert jax.tree.structure(gradients) == jax.tree.structure(theirs)
    assert all(float(np.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(theirs["PaliGemma"]["img"]))
    close(gradients, theirs)


def test_two_cameras_sample_the_actions_of_three():
    noise = np.random.default_rng(0).standard_normal((TRAIN.batch, CONFIG.horizon, CONFIG.action_size), np.float32)
    two, three = (
        pi0.sample(config, params, batch_inputs(config, TRAIN, batch, changed=False), noise, 3)
        for config, params, batch in sides("pi05")
    )
    close(two, three)


@pytest.mark.parametrize("model", ["pi0", "pi05", "pi0_lora", "pi0_libero", "small"])
def test_a_fine_tuning_has_the_robots_cameras_and_three_where_they_are_asked_for(model, tmp_path):
    settings = FineTune(model=model, out=str(tmp_path))
    assert model_config(resolve_cameras(settings)).cameras == CAMERAS[:2]
    three = dataclasses.replace(settings, cameras=3)
    assert model_config(resolve_cameras(three)).cameras == CAMERAS


@pytest.mark.parametrize(("record", "cameras"), [({}, 3), ({"cameras": 3}, 3), ({"cameras": 2}, 2)])
def test_a_fine_tuning_goes_on_with_the_cameras_that_it_began_with(record, cameras, tmp_path):
    (tmp_path / RECORD).write_text(json.dumps({"data": [], "model": "pi0", "train": vars(TRAIN), **record}))
    settings = FineTune(model="pi0", out=str(tmp_path))
    assert resolve_cameras(settings).cameras == cameras
    assert resolve_cameras(dataclasses.replace(settings, overwrite=True)).cameras == 2


def test_models_of_before_this_was_a_setting_have_three():
    value = spec.to_json(presets.preset("pi0"), InputSpec())
    del value["model"]["cameras"]
    assert spec.from_json(value)[0] == presets.preset("pi0")
    assert presets.preset("pi0").cameras == CAMERAS


@pytest.mark.parametrize(("words", "cameras"), [((), 3), (("--cameras", "2"), 2)])
def test_a_published_checkpoint_has_three_cameras_unless_two_are_asked_for(words, cameras, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("rlgen.vla.serving.policy.read_stats", lambda path: None)
    monkeypatch.setattr("rlgen.vla.serving.policy.load_params", lambda config, *rest, **types: read.append(config))
    monkeypatch.setattr("rlgen.vla.serving.policy.make_pipeline", lambda *rest: None)
    options = ["--preset", "pi0", "--tokenizer", "model", "--norm-stats", "stats", *words]
    policy = parse(ModelOptions, options, "rlgen vla serve", "").open(tmp_path, buckets=True)
    assert policy.config.cameras == read[0].cameras == CAMERAS[:cameras]


def test_a_model_folder_is_opened_with_its_own_cameras(tmp_path):
    (tmp_path / DESCRIPTION).write_text("{}")
    with pytest.raises(UserError, match=r"says what it is; .* and --cameras"):
        open_policy(tmp_path, cameras=2)
