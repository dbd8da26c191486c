"""RLDS datasets of others through every door that reads datasets: read as they are, or refused in one line."""

import subprocess
import sys

import numpy as np
import pytest
from dataset_doors import DOORS, THROUGH, refusal
from foreign_rlds import PROMPT, SIDE, STEPS, Foreign, claiming_jpeg, claiming_png, image, node, png

from rlgen.core.errors import UserError
from rlgen.data.dataset import open_dataset
from rlgen.data.frames import open_frames, read_frames


def with_nan(key: str, value: float) -> Foreign:
    dataset = Foreign()
    dataset.records[1][key][3, 2] = value
    return dataset


def with_image(data: bytes, size: int = SIDE) -> Foreign:
    dataset = Foreign()
    dataset.observation["image"] = image(size, size)
    dataset.records[0]["steps/observation/image"][0] = data
    return dataset


def with_code(names: str) -> Foreign:
    dataset = Foreign()
    dataset.step["extra"] = node("text_feature.Text", text={}) | {names: "set_code.Text"}
    return dataset


def with_inner_code() -> Foreign:
    dataset = Foreign()
    inner = '{"feature": {"type": "set_code.Text", "content": {}}, "length": null}'
    dataset.observation["extra"] = node("sequence_feature.Sequence", jsonFeature={"json": inner})
    return dataset


def with_info(**changes) -> Foreign:
    dataset = Foreign()
    dataset.info |= changes
    return dataset


REFUSED = {
    "nan action": (
        lambda: with_nan("steps/action", np.nan),
        "-00000-of-00001: record 1 (episode somewhere/1): action: not finite at step 3, number 2 is nan",
    ),
    "infinite state": (lambda: with_nan("steps/observation/state", np.inf), "state: not finite at step 3, number 2"),
    "infinite joints": (lambda: with_nan("steps/observation/joint_state", -np.inf), "number 2 is -inf"),
    "class": (lambda: with_code("pythonClassName"), "pythonClassName is 'set_code.Text', expected a class in"),
    "class by its other name": (lambda: with_code("python_class_name"), "python_class_name is 'set_code.Text'"),
    "class in a text": (with_inner_code, "type is 'set_code.Text', expected a class in"),
    "file outside": (
        lambda: with_info(split={"filepathTemplate": "../../x/{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}),
        "expected the name of a file in the dataset's own folder",
    ),
    "file by its root": (lambda: with_info(split={"filepathTemplate": "/etc/hostname"}), "is '/etc/hostname'"),
    "negative length": (
        lambda: with_info(split={"shardLengths": ["-5"]}),
        "dataset_info.json: splits[0].shardLengths[0] is '-5', expected an integer from 0",
    ),
    "a million shards": (
        lambda: with_info(split={"shardLengths": ["1"] * 1_000_000}),
        "splits[0].shardLengths has 1000000 elements, expected at most 100000",
    ),
    "other records": (lambda: with_info(fileFormat="riegeli"), "fileFormat is 'riegeli', expected 'tfrecord'"),
    "no such split": (lambda: Foreign(split="test"), "no split 'val'; it has test"),
}


ROBOTS = {
    "actions of 8": (lambda: Foreign(action=8), "features.json: action has 8 numbers a step, expected 7", None),
    "actions of 14": (
        lambda: Foreign(action=14),
        "features.json: action has 14 numbers a step, expected 7",
        "a model of action_size 8 has no room for actions of 14 numbers; expected 14 or more",
    ),
    "states of 9": (
        lambda: Foreign(state=9),
        "features.json: state has 9 numbers a step, expected 8",
        "a model of action_size 8 has no room for states of 9 numbers; expected 9 or more",
    ),
}


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("door", DOORS)
def test_only_training_takes_other_robots_and_only_where_the_model_has_room(capsys, tmp_path, door, name):
    make, message, by_training = ROBOTS[name]
    folder, message = make().write(tmp_path), by_training if door == "train" else message
    if message is None:
        THROUGH[door](folder, tmp_path / "out")
    else:
        line = refusal(capsys, door, folder, tmp_path / "out")
        assert message in line and str(folder) in line


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("door", DOORS)
def test_what_does_not_fit_is_one_line_in_every_command(capsys, tmp_path, door, name):
    make, message = REFUSED[name]
    folder = make().write(tmp_path)
    split = ["--split", "val"] if name == "no such split" else []
    line = refusal(capsys, door, folder, tmp_path / "out", *split)
    assert message in line and str(folder) in line


IMAGES = {
    "30000 pixels": (lambda: with_image(claiming_jpeg(30000)), "has (30000, 30000) pixels, expected 1 to 4096"),
    "65500 pixels": (lambda: with_image(claiming_jpeg(65500)), "has (65500, 65500) pixels, expected 1 to 4096"),
    "a png of 60000": (lambda: with_image(claiming_png(60000)), "has (60000, 60000) pixels, expected 1 to 4096"),
    "larger than declared": (lambda: with_image(png(0, 64)), "an image of (64, 64) pixels, expected (8, 8)"),
    "undeclared": (lambda: with_image(claiming_png(60000), None), "has (60000, 60000) pixels, expected 1 to 4096"),
    "declared as that large": (lambda: with_image(claiming_png(60000), 60000), "has images of (60000, 60000) pixels"),
    "no pixels": (lambda: with_image(claiming_png(0)), "has (0, 0) pixels, expected 1 to 4096"),
    "another kind": (lambda: with_image(b"RIFF1234WEBPVP8L" + bytes(20)), "no JPEG or PNG"),
    "empty": (lambda: with_image(b""), "an image of 0 bytes cannot be decoded"),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("door", DOORS)
def test_images_are_refused_by_their_header_before_they_are_decoded(capsys, monkeypatch, tmp_path, door, name):
    make, message = IMAGES[name]
    folder = make().write(tmp_path)
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("an image is decoded"))
    line = refusal(capsys, door, folder, tmp_path / "out")
    assert message in line and str(folder) in line


@pytest.mark.parametrize("door", ["show", "train"])
def test_images_whose_header_is_fine_and_that_cannot_be_decoded_are_named(capsys, tmp_path, door):
    folder = with_image(claiming_png(SIDE)).write(tmp_path)
    line = refusal(capsys, door, folder, tmp_path / "out")
    assert "cannot be decoded" in line and "somewhere/0" in line and "step 0" in line and str(folder) in line


def test_no_module_of_the_dataset_is_imported(tmp_path):
    dataset = Foreign()
    dataset.step["language_instruction"]["pythonClassName"] = "set_code.Text"
    folder = dataset.write(tmp_path)
    for name in ("set_code", "tyro", "numpy", "signal", "tensorflow"):
        (folder / f"{name}.py").write_text("open('IT_RAN', 'w')\n")
    # With -m the working directory is the first place where Python looks for modules.
    command = [sys.executable, "-m", "rlgen", "data", "show", ".", "--out", "p"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    assert "set_code.Text" in result.stderr and not (folder / "IT_RAN").exists()


def undeclared() -> Foreign:
    dataset = Foreign()
    dataset.observation |= {name: image(None, None) for name in ("image", "wrist_image")}
    return dataset


def with_text_tensor() -> Foreign:
    dataset = Foreign()
    dataset.step["language_instruction"] = node("scalar.Scalar", tensor={"shape": {}, "dtype": "string"})
    return dataset


def with_empty_episode() -> Foreign:
    dataset = Foreign()
    for name, values in dataset.records[0].items():
        if name.startswith("steps/"):
            dataset.records[0][name] = values[:0]
    return dataset


def without(path: str) -> Foreign:
    dataset = Foreign()
    dataset.drop(path)
    return dataset


def in_old_words() -> Foreign:
    """As tensorflow_datasets wrote features before version 4.5."""
    dataset = Foreign()
    dataset.observation["image"] = {
        "type": "tensorflow_datasets.core.features.image_feature.Image",
        "content": {"shape": [SIDE, SIDE, 3], "dtype": "uint8", "encoding_format": "png"},
    }
    dataset.step["action"] = {
        "type": "tensorflow_datasets.core.features.tensor_feature.Tensor",
        "content": '{"shape": {"dimensions": ["7"]}, "dtype": "float32"}',
        "proto_cls": "tensorflow_datasets.TensorFeature",
    }
    return dataset


READ = {
    "as usual": Foreign,
    "undeclared sizes": undeclared,
    "text as a tensor": with_text_tensor,
    "an empty episode": with_empty_episode,
    "another split": lambda: Foreign(split="val"),
    "no camera at the hand": lambda: without("steps/observation/wrist_image"),
    "no fixed camera": lambda: without("steps/observation/image"),
    "no joints": lambda: without("steps/observation/joint_state"),
    "no file path": lambda: without("episode_metadata/file_path"),
    "old words": in_old_words,
}


@pytest.mark.parametrize("name", READ)
def test_what_others_write_is_read_as_it_is(tmp_path, name):
    dataset = READ[name]()
    folder = dataset.write(tmp_path)
    read = list(open_dataset(folder))
    records = dataset.records[1:] if name == "an empty episode" else dataset.records
    assert len(read) == len(records)
    for got, given in zip(read, records, strict=True):
        np.testing.assert_array_equal(got.action, given["steps/action"])
        np.testing.assert_array_equal(got.state, given["steps/observation/state"])
        assert got.language_instruction == PROMPT
        for camera in ("image", "wrist_image"):
            images, stored = getattr(got, camera), given.get(f"steps/observation/{camera}")
            assert (images is None) == (stored is None)
            assert images is None or (list(images.data) == stored and images.shape == (STEPS, SIDE, SIDE, 3))
        joints = given.get("steps/observation/joint_state")
        assert (got.joint_state is None) == (joints is None)
    names = [got.file_path for got in read]
    expected = [f"{folder.parent.name}/train/{index}" for index in range(3)]
    assert name != "no file path" or names == expected


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("door", DOORS)
def test_what_others_write_goes_through_every_command(capsys, tmp_path, door, name):
    folder = READ[name]().write(tmp_path)
    lacks = {"no camera at the hand": "wrist_image", "no fixed camera": "image", "no joints": "joint_state"}
    if door == "merge" and name in lacks:  # what is written here has all of it
        line = refusal(capsys, door, folder, tmp_path / "out")
        assert f"{folder}: episode somewhere/0: no {lacks[name]}, which what is written here has" in line
    else:
        THROUGH[door](folder, tmp_path / "out")


def test_a_missing_camera_is_black_and_masked(tmp_path):
    folder = without("steps/observation/wrist_image").write(tmp_path)
    batch = read_frames(open_frames(folder, size=16), np.arange(3), 2)
    assert batch["image_mask"].all() and not batch["wrist_image_mask"].any()
    assert batch["image"].any() and not batch["wrist_image"].any()
    assert batch["image"].shape == batch["wrist_image"].shape == (3, 16, 16, 3)


def test_a_split_that_is_named_is_the_one_that_is_read(tmp_path):
    folder = Foreign(split="val").write(tmp_path)
    assert len(open_dataset(folder, "val")) == len(open_dataset(folder)) == 3
    with pytest.raises(UserError, match="no split 'train'; it has val"):
        open_dataset(folder, "train")


def test_training_says_which_camera_it_lacks(capsys, tmp_path):
    folder = without("steps/observation/wrist_image").write(tmp_path)
    THROUGH["train"](folder, tmp_path / "out")
    printed = capsys.readouterr()
    assert f"{folder}: no wrist_image; the model is trained without" in printed.out + printed.err
