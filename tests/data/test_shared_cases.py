"""The inputs of public bug reports, where they lie beside the checkout, through every command that reads datasets."""

import subprocess
import sys

import pytest
from dataset_doors import DOORS, THROUGH, refusal
from shared import shared_dir

from rlgen.data.dataset import open_dataset

# What the line says; None for what is read.
CASES = {
    "02-rlds-act8": "action has 8 numbers a step, expected 7",
    "02-rlds-act14": "action has 14 numbers a step, expected 7",
    "02-rlds-state9": "state has 9 numbers a step, expected 8",
    "04-rlds-nan": "(episode libero_object/demo_1): action: not finite at step 3, number 2 is nan",
    "04-array_record-inf": "steps.npz: episode libero_object/task_0/noise/train-1-1: action: not finite at step 1",
    "04-lerobot-nan": "file-000.parquet: record 1 (episode libero_object/task_0/noise/train-1-1): action: not finite",
    "05-rlds-langtensor": None,
    "05-rlds-len0": None,
    "05-rlds-noneshape": None,
    "05-rlds-val": None,
    "05-rlds-nometa": None,
    "05-rlds-nojoint": None,
    "05-rlds-nowrist": None,
    "10-jpeg-30000": "(episode libero_object/demo_0): image: step 0: an image says that it has (30000, 30000) pixels",
    "10-jpeg-65500": "(65500, 65500) pixels",
    "10-png-60000": "(60000, 60000) pixels",
    "11-code": "pythonClassName is 'set_code.Text', expected a class in tensorflow_datasets.core.features",
    "14-index-steps-1": "episodes.json: [0].steps is -1",
    "14-index-steps0": "episodes.json: [0].steps is 0",
    "14-index-steps-text": "episodes.json: [0].steps is '5'",
    "14-index-steps-half": "episodes.json: [0].steps is 2.5",
    "14-index-file-number": "episodes.json: [0].file is 5",
    "14-index-file-outside": "episodes.json: [0].file is '/etc/hostname'",
    "14-size-text": "export.json: plan.size is 'x'",
    "14-size-none": "export.json: plan is an object of 8, expected an object with 'size'",
    "14-size-minus": "export.json: plan.size is -1",
    "14-size-huge": "export.json: plan.size is 1000000000",
    "14-deep-dataset_info": "no readable dataset_info.json (nested too deeply)",
    "14-deep-features": "no readable features.json (nested too deeply)",
    "14-deep-export": "no readable export.json (nested too deeply)",
    "14-negative-lengths": "dataset_info.json: splits[0].shardLengths[0] is '-5'",
    "14-million-shards": "splits[0].shardLengths has 1000000 elements",
    "14-shard-outside": "expected the name of a file in the dataset's own folder",
    "14-npy-of-10^12": "steps.npz: not a readable table of steps (state has shape (1000000000000,)",
    "good": None,
}
# What training says of these, where it is something else: a robot of another width trains where the model has room.
TRAINED = {
    "02-rlds-act8": None,
    "02-rlds-act14": "a model of action_size 8 has no room for actions of 14 numbers",
    "02-rlds-state9": "a model of action_size 8 has no room for states of 9 numbers",
}
# Files of people, which training opens where they are named, with their episodes.
HDF5 = {"06-hdf5/libero_object": 2, "06-hdf5/holes.hdf5": 4, "06-hdf5/robomimic_low_dim.hdf5": 2}
NOT_MERGED = ("05-rlds-nojoint", "05-rlds-nowrist")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    program = shared_dir() / "cases/make_cases.py"
    subprocess.run([sys.executable, str(program), str(folder)], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_read_or_is_one_line_in_every_command(capsys, cases, tmp_path, name):
    [folder] = (cases / name).rglob("1.0.0")
    for door in DOORS:
        out, message = tmp_path / door, CASES[name]
        if door == "merge" and name in NOT_MERGED:
            message = "which what is written here has"
        if door == "train":
            message = TRAINED.get(name, message)
        if message is None:
            THROUGH[door](folder, out)
        else:
            line = refusal(capsys, door, folder, out)
            assert message in line and str(folder) in line


@pytest.mark.parametrize("name", HDF5)
def test_hdf5_of_people_is_trained_on_as_it_is(cases, tmp_path, name):
    assert len(open_dataset(cases / name)) == HDF5[name]
    THROUGH["train"](cases / name, tmp_path / "run")
