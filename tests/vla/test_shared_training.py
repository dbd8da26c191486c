"""Datasets of public bug reports that are read, trained on to the end: a model that acts, whatever was missing."""

import subprocess
import sys
import tarfile

import numpy as np
import pytest
from shared import shared_dir

from rlgen.cli.main import main
from rlgen.vla.serving.policy import open_policy

# Where a wrist camera is missing the model masks it.
CASES = (
    *("01-rlds-rare", "05-rlds-langtensor", "05-rlds-len0", "05-rlds-noneshape", "05-rlds-val", "05-rlds-nometa"),
    *("05-rlds-nojoint", "05-rlds-nowrist", "good", "lerobot", "array_record"),
)
SETTINGS = (
    *("--model", "tiny", "--actions", "relative", "--image-size", "32", "--hold-out", "0", "--mask-cameras"),
    *("--train.steps", "3", "--train.warmup", "1", "--train.batch", "4", "--normalization", "quantile"),
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    program = shared_dir() / "cases/make_cases.py"
    subprocess.run([sys.executable, str(program), str(folder)], check=True, capture_output=True)
    for whole in ("lerobot", "array_record"):
        with tarfile.open(shared_dir() / f"cases/base/{whole}.tar.gz") as file:
            file.extractall(folder / whole, filter="data")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_case_that_is_read_is_trained_on_and_its_model_acts(cases, tmp_path, name):
    [data] = (cases / name).rglob("1.0.0")
    main(["vla", "train", "--data", str(data), "--out", str(tmp_path), *SETTINGS])
    policy = open_policy(tmp_path / "model" / "3", sampling_steps=2, batch=1)
    image = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), np.uint8)
    sample = {
        **{f"observation/{camera}": image for camera in ("image", "wrist_image")},
        "observation/state": np.zeros((1, 8), np.float32),
        "prompt": ["pick up the butter and place it in the basket"],
    }
    actions = policy.act(policy.prepare(sample), policy.sample_noise([0]))
    # What is rare is not normalized to hundreds of thousands, and comes back in the robot's own numbers.
    assert actions.shape[2] == 7 and np.abs(actions).max() < 100
