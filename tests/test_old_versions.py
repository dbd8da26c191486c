"""Runs, checkpoints, models and datasets that version 0.1.0 wrote go on opening, with the same numbers.

`fixtures/0.1.0` holds small ones, and what that version made of them. Each run is of the butter task with placeholder
assets; `images` observes images and trains the last three of ten DDPM steps.
"""

import hashlib
import json
import tarfile
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from rlgen.configs.differences import differences
from rlgen.core.types import Episode, ImageObservation
from rlgen.data.dataset import dataset_folders, open_dataset
from rlgen.data.verify import verify_dataset
from rlgen.pipeline import bc, ppo
from rlgen.pipeline.context import Context
from rlgen.training.checkpoints import Checkpoints, digest
from rlgen.training.run import open_run
from rlgen.training.sharding import abstract_state, make_mesh, state_shardings
from rlgen.vla.checkpoints.model_folder import read_description
from rlgen.vla.checkpoints.weights import load_params
from rlgen.vla.model.config import STORED_AS
from rlgen.vla.model.parameters import flat_names
from rlgen.vla.serving.actor import robot_sample
from rlgen.vla.serving.policy import open_policy
from rlgen.vla.training.config import FineTune, TrainConfig, resolved
from rlgen.vla.training.fine_tune import model_config
from rlgen.vla.training.loop import init_state

FIXTURES = Path(__file__).parent / "fixtures" / "0.1.0"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
IMAGES = (np.arange(2 * 32 * 32 * 3) % 251).astype(np.uint8).reshape(1, 2, 32, 32, 3)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    for archive in FIXTURES.glob("*.tar.xz"):
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("stage", ["bc", "ppo"])
@pytest.mark.parametrize("name", ["state", "gaussian", "images"])
def test_a_policy_of_an_old_run_acts_as_it_did(unpacked, placeholder_scene, name, stage):
    context = Context(open_run(unpacked / name), unpacked)
    context.__dict__["scene"] = placeholder_scene  # what loading it would give
    policy, params = {"bc": bc, "ppo": ppo}[stage].load_policy(context)
    vector = np.linspace(-1, 1, policy.observation_size, dtype=np.float32)[None]
    observation = ImageObservation(images=IMAGES, vector=vector) if name == "images" else vector
    expected = EXPECTED[name][stage]
    # The digest is over names, shapes and bytes: parameter trees keep their names.
    assert digest(params["net"]) == expected["digest"]
    actions = jax.jit(policy.act)(params, jax.random.PRNGKey(0), observation)[0]
    np.testing.assert_allclose(actions, np.array(expected["act"]), rtol=0, atol=1e-5)


def test_an_old_model_acts_as_it_did(unpacked):
    policy = open_policy(
        unpacked / "vla/model/2", preset=None, tokenizer=None, norm_stats=None, sampling_steps=4, batch=1, buckets=False
    )
    state = np.linspace(-0.5, 0.5, 8, dtype=np.float32)[None]
    sample = robot_sample(state, IMAGES, ["pick up the butter and place it in the basket"])
    shape = (1, policy.config.horizon, policy.config.action_size)
    noise = np.linspace(-1, 1, shape[1] * shape[2], dtype=np.float32).reshape(shape)
    actions = policy.act(policy.prepare(sample), noise)[0]
    np.testing.assert_allclose(actions, np.array(EXPECTED["vla"]["actions"]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", sorted(EXPECTED["datasets"]))
def test_an_old_dataset_has_the_same_content_and_is_what_its_card_says(unpacked, name):
    folder = unpacked / "datasets" / name
    assert content(folder) == EXPECTED["datasets"][name]
    assert verify_dataset(folder) == []


def test_old_datasets_are_found(unpacked):
    found = {str(folder.relative_to(unpacked / "datasets")) for folder in dataset_folders(unpacked / "datasets")}
    assert found == set(EXPECTED["datasets"])


def content(folder: Path) -> str:
    """A hash over all numbers, images and texts of a dataset."""
    total = hashlib.sha256()
    for episode in open_dataset(folder):
        for array in (episode.state, episode.joint_state, episode.action):
            total.update(np.ascontiguousarray(array, np.float32).tobytes())
        for images in (episode.image, episode.wrist_image):
            total.update(np.ascontiguousarray(np.asarray(images), np.uint8).tobytes())
        total.update((episode.language_instruction + episode.file_path).encode())
    return total.hexdigest()


def test_a_finished_fine_tuning_opens_and_is_the_model_that_it_wrote(unpacked):
    record = json.loads((unpacked / "vla/fine_tune.json").read_text())
    train = TrainConfig(**record["train"])
    names = {stored: name for name, stored in STORED_AS.items()}
    config = FineTune(**{names.get(key, key): value for key, value in record.items()} | {"train": train})
    # The same command resumes it.
    assert differences(record, resolved(config)) == []
    model = model_config(config)
    abstract = jax.eval_shape(partial(init_state, model, train))
    mesh = make_mesh(devices=jax.devices()[:1])
    with Checkpoints(unpacked / "vla/checkpoints") as checkpoints:
        state, metadata = checkpoints.restore(abstract_state(abstract, state_shardings(mesh, abstract)))
    assert int(state.step) == 2 and metadata == {"kind": "fine-tune", "step": 2}
    described, *_ = read_description(unpacked / "vla/model/2")
    assert described == model
    params = flat_names(load_params(model, unpacked / "vla/model/2"))
    found = flat_names(state.inference_params)
    assert found.keys() == params.keys()
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, params[name], err_msg=name)


def test_demonstrations_of_an_old_run_can_be_cloned_again(unpacked, placeholder_scene):
    context = Context(open_run(unpacked / "state"), unpacked)
    context.__dict__["scene"] = placeholder_scene
    episodes = bc.read_demonstrations(context)
    assert len(episodes) == 2 and all(isinstance(episode, Episode) and episode.success for episode in episodes)
