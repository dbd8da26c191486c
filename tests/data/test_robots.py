"""Widths and names of other robots, as the metadata of datasets have them, and metadata that contradict."""

import json

import numpy as np
import pytest
from foreign_rlds import STEPS, Foreign, vector

from rlgen.core.errors import UserError
from rlgen.core.types import LIBERO, Robot
from rlgen.data.dataset import open_dataset
from rlgen.data.formats.lerobot.foreign import read_schema
from rlgen.data.frames import open_frames

JOINTS = [f"joint_{i}" for i in range(9)]


def info(folder, names, shape=(9,)):
    """Writes the `info.json` of a LeRobot dataset whose actions have these names and this shape."""
    (folder / "meta").mkdir()
    features = {
        "observation.images.top": {"dtype": "video", "shape": [8, 8, 3]},
        "observation.state": {"dtype": "float32", "shape": [3], "names": None},
        "action": {"dtype": "float32", "shape": list(shape), "names": names},
    }
    content = {"codebase_version": "v3.0", "fps": 30, "features": features}
    (folder / "meta/info.json").write_text(json.dumps(content))
    return folder


NAMES = {
    "a list": (JOINTS, tuple(JOINTS)),
    "groups": ({"left": JOINTS[:4], "right": JOINTS[4:]}, tuple(JOINTS)),
    "positions": ({name: 8 - i for i, name in enumerate(JOINTS)}, tuple(JOINTS[::-1])),
    "none": (None, ()),
    "one for all": (["actions"], ()),
    "two lines": (["a\nb", *JOINTS[1:]], ("a?b", *JOINTS[1:])),
}


@pytest.mark.unit
@pytest.mark.parametrize("case", NAMES)
def test_names_of_numbers_are_those_of_the_metadata(tmp_path, case):
    names, expected = NAMES[case]
    robot = read_schema(info(tmp_path, names), any_robot=True).robot
    assert (robot.state, robot.action, robot.action_names, robot.state_names) == (3, 9, expected, ())
    assert robot.names("action") == (expected or tuple("012345678")) and robot.names("state") == ("0", "1", "2")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("names", "shape", "message"),
    [
        (JOINTS[:7], (8,), "info.json: action has 7 names for 8 numbers"),
        ({"left": JOINTS, "right": JOINTS}, (9,), "info.json: action has 18 names for 9 numbers"),
        ([[[["a"]]]], (9,), r"info.json: features.action.names\[0\]\[0\]\[0\] is .*, expected names"),
        (JOINTS, (9, 2), r"info.json: action has shape \[9, 2\], expected a vector"),
        (JOINTS, (0,), r"features.action.shape\[0\] is 0"),
        (JOINTS, (10**9,), r"features.action.shape\[0\] is 1000000000"),
    ],
)
def test_names_and_shapes_that_contradict_are_refused_with_both(tmp_path, names, shape, message):
    with pytest.raises(UserError, match=message) as error:
        read_schema(info(tmp_path, names, shape), any_robot=True)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.unit
def test_other_robots_open_only_where_they_are_asked_for(tmp_path):
    with pytest.raises(UserError, match=r"observation\.state has 3 numbers a step, expected 8, those of LIBERO"):
        read_schema(info(tmp_path, JOINTS))
    assert LIBERO.is_libero and not Robot(14, 14).is_libero and not Robot(8, 8).is_libero
    assert LIBERO.names("action")[-1] == "gripper" and len(LIBERO.names("state")) == LIBERO.state


def test_frames_have_the_widths_of_the_data(tmp_path):
    frames = open_frames(Foreign(action=14, state=9).write(tmp_path), any_robot=True)
    assert (frames.robot.state, frames.robot.action) == (9, 14)
    assert (frames.table.state.shape, frames.table.action.shape) == ((3 * STEPS, 9), (3 * STEPS, 14))


def undeclared(**widths) -> Foreign:
    dataset = Foreign(**widths)
    dataset.step["action"] = vector(None)
    return dataset


def test_a_width_that_is_not_declared_is_that_of_the_first_episode(tmp_path):
    assert open_dataset(undeclared(action=14).write(tmp_path / "a"), any_robot=True).robot.action == 14
    with pytest.raises(UserError, match="action has 14 numbers a step, expected 7, those of LIBERO's"):
        list(open_dataset(undeclared(action=14).write(tmp_path / "b")))
    other = undeclared(action=14)
    other.records[2]["steps/action"] = np.zeros((STEPS, 12), np.float32)
    with pytest.raises(UserError, match=r"record 2 \(episode somewhere/2\): action has 12 numbers a step, expected 14"):
        list(open_dataset(other.write(tmp_path / "c"), any_robot=True))


def test_records_of_another_width_than_is_declared_are_refused_with_both(tmp_path):
    dataset = Foreign(action=8, state=9)
    dataset.step["action"] = vector(14)
    folder = dataset.write(tmp_path)
    message = r"record 0 \(episode somewhere/0\): action has 8 numbers a step, expected 14, as the dataset's desc"
    with pytest.raises(UserError, match=message) as error:
        open_frames(folder, any_robot=True)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
