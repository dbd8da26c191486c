"""Data that do not fit are refused by a dry run and by a training alike; the rest is shown as the model gets it."""

import json
import re

import h5py
import numpy as np
import pytest
from PIL import Image
from vla.toy import SIDE, export, numbered_frames, settings

from rlgen.core.errors import UserError
from rlgen.data.card import CARD_JSON
from rlgen.data.frames import MemoryFrames
from rlgen.data.loader import mix
from rlgen.vla.checkpoints.openpi import write_params
from rlgen.vla.data.metadata import kind_of_names, semantics_of_names
from rlgen.vla.data.normalize import NormStats, mixture_statistics
from rlgen.vla.data.spec import InputSpec
from rlgen.vla.training import fine_tune as command
from rlgen.vla.training.checks import check_inputs, check_statistics
from rlgen.vla.training.fine_tune import fine_tune

JOINTS = [f"joint{i}" for i in range(6)] + ["gripper"]
POSE = ["x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3", "gripper"]


def names(action, state=()):
    def write(folder):
        (folder / "meta").mkdir()
        features = {"action": {"names": {"motors": action}}, "observation.state": {"names": list(state)}}
        (folder / "meta" / "info.json").write_text(json.dumps({"features": features}))

    return write


def both(*writers):
    return lambda folder: [write(folder) for write in writers]


def card(semantics):
    return lambda folder: (folder / CARD_JSON).write_text(json.dumps({"action_semantics": semantics}))


def controller(kind, **options):
    def write(folder):
        with h5py.File(folder / "a.hdf5", "w") as file:
            configs = {"env_kwargs": {"controller_configs": {"type": kind, **options}}}
            file.create_group("data").attrs["env_args"] = json.dumps(configs)

    return write


def numbers(column, change):
    def alter(_, values):
        values[column] = change(values[column].astype(np.float32), values)

    return alter


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return export(tmp_path_factory.mktemp("plain"), "plain", 0, 6)


FILES = [
    (names(JOINTS), {}, r"its actions are joint positions by .*info\.json \(joint0, joint1, joint2, \.\.\.\)"),
    (both(names(["delta_x", "delta_y", "delta_z"]), card("absolute")), {}, "its actions are relative by .*info"),
    (controller("JOINT_POSITION"), {}, r"joint positions by .*a\.hdf5 \(controller JOINT_POSITION\)"),
    (controller("OSC_POSE", control_delta=False), {}, "its actions are absolute by .*OSC_POSE"),
    (card("absolute"), {"actions": "relative"}, "its actions are absolute by .*dataset_card"),
    (card("joint_velocity"), {"actions": "relative"}, r"joint positions by .*\(joint_velocity\)"),
]
NUMBERS = [
    ("state", lambda x, _: 1000 * x, r"state\[0\] goes from -.* convert millimeters"),
    ("state", lambda x, v: np.c_[v["action"] + 0.01, x[:, 7]], r"actions\[0\] to actions\[2\] are the position"),
    ("wrist_image", lambda x, v: v["image"], "image and wrist_image are the same images"),
]


def refused_by_both(folder, tmp_path, monkeypatch, message, **changes):
    """Checks that a dry run and a training are refused with the same line, and that neither writes or begins."""
    monkeypatch.setattr(command, "train_model", lambda *_, **__: pytest.fail("the training began"))
    lines = []
    for dry in (True, False):
        with pytest.raises(UserError, match=message) as error:
            fine_tune(settings([folder], tmp_path / "run", dry_run=dry, **changes), lambda line: None)
        lines.append(str(error.value))
    assert lines[0] == lines[1] and "\n" not in lines[0] and not list(tmp_path.glob("run*"))


@pytest.mark.parametrize(("write", "changes", "message"), FILES)
def test_metadata_that_contradict_are_refused(tmp_path, monkeypatch, write, changes, message):
    folder = export(tmp_path, "said", 0, 4)
    write(folder)
    refused_by_both(folder, tmp_path, monkeypatch, message, **changes)


@pytest.mark.parametrize(("column", "change", "message"), NUMBERS)
def test_numbers_and_images_that_make_no_sense_are_refused(tmp_path, monkeypatch, column, change, message):
    folder = export(tmp_path, "odd", 0, 6, numbers(column, change))
    refused_by_both(folder, tmp_path, monkeypatch, message)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("relative", r"d: actions\[0\] goes from 5 to 11, expected parts of the largest movement"),
        ("absolute", r"d: actions\[0\] goes from 5 to 11, expected meters and radians"),
    ],
)
def test_actions_of_another_unit_are_refused(actions, message):
    frames = numbered_frames([3, 4], first=5)
    frames.table.state[:] = 0
    with pytest.raises(UserError, match=message):
        check_inputs(InputSpec(actions=actions), ["d"], mix([frames]))
    frames.table.action[:] /= 2
    assert check_inputs(InputSpec(actions=actions), ["d"], mix([frames])) == []


def test_metadata_that_agree_are_not_in_the_way(tmp_path):
    folder = export(tmp_path, "said", 0, 4)
    names(POSE, POSE)(folder)
    controller("OSC_POSE", control_delta=True)(folder)
    assert fine_tune(settings([folder], tmp_path / "run", dry_run=True), lambda line: None) is None


def test_joints_may_be_learned_as_absolute_numbers_but_not_subtracted_from_a_pose(tmp_path):
    folder = export(tmp_path, "said", 0, 4)
    names(JOINTS, POSE)(folder)
    card("absolute")(folder)
    config = settings([folder], tmp_path / "run", dry_run=True)
    assert fine_tune(config, lambda line: None) is None
    with pytest.raises(UserError, match=r"actions are joints by .* and state are pose by .*without --delta"):
        fine_tune(settings([folder], tmp_path / "run", dry_run=True, delta=True), lambda line: None)


@pytest.mark.parametrize(
    ("given", "kind", "semantics"),
    [
        (POSE, "pose", None),
        (JOINTS, "joints", None),
        (["shoulder_pan.pos", "elbow_flex.pos", "wrist_flex.pos", "wrist_roll.pos", "gripper.pos"], "joints", None),
        (["left_waist", "left_shoulder", "left_elbow", "left_forearm_roll", "left_gripper"], "joints", None),
        (["delta_x", "delta_y", "delta_z", "delta_roll", "delta_pitch", "delta_yaw", "gripper"], "pose", "relative"),
        (["dx", "dy", "dz", "droll", "dpitch", "dyaw", "grasp"], "pose", "relative"),
        (["target_x", "target_y", "target_z", "gripper"], "pose", "absolute"),
        (["actions"], None, None),
        (["gripper"], None, None),
        ([], None, None),
    ],
)
def test_names_of_numbers_are_understood(given, kind, semantics):
    assert kind_of_names(given) == kind
    assert semantics_of_names(given) == semantics


def test_statistics_of_another_dataset_are_refused(plain, tmp_path, monkeypatch):
    frames = mix([numbered_frames([3, 4])])
    other = mixture_statistics(frames, 1, delta=False)
    path = tmp_path / "norm_stats.json"
    shifted = {name: {k: np.subtract(v, 50.0).tolist() if k != "std" else v for k, v in values.items()}
               for name, values in other.to_json()["norm_stats"].items()}  # fmt: skip
    path.write_text(json.dumps({"norm_stats": shifted}))
    message = r"statistics of other data: state\[0\] has mean -47 and .* and \d+ of 15 numbers"
    refused_by_both(plain, tmp_path, monkeypatch, message, norm_stats=str(path))


def test_statistics_may_differ_a_little_or_in_a_few_numbers():
    frames = mix([numbered_frames([3, 4])])
    own = mixture_statistics(frames, 1, delta=False)
    options = {"delta": False, "where": "x", "advice": "y"}
    few = own.state.replace(std=np.where(np.arange(8) < 4, 100.0, own.state.std).astype(np.float32))
    for stats in (own, NormStats(own.state.replace(mean=own.state.mean + 5), own.actions), NormStats(few, own.actions)):
        check_statistics(stats, frames, 1, **options)
    more = own.actions.replace(std=own.actions.std * np.float32(6))
    with pytest.raises(UserError, match=r"actions\[0\] has mean 3 and standard deviation 12 there, 3 and 2"):
        check_statistics(NormStats(own.state, more), frames, 1, **options)


@pytest.mark.parametrize("missing", ["image", "wrist_image"])
def test_a_missing_camera_is_refused_unless_it_is_to_be_masked(missing):
    whole = numbered_frames([3, 4])
    images = {name: None if name == missing else getattr(whole, name) for name in ("image", "wrist_image")}
    table = whole.table
    lacking = mix([MemoryFrames(table, **images)])
    spec = InputSpec(actions="absolute")
    with pytest.raises(UserError, match=f"d: no {missing}, which the robot has .* --mask-cameras"):
        check_inputs(spec, ["d"], lacking)
    assert check_inputs(spec, ["d"], lacking, mask_cameras=True) == [
        f"d: no {missing}; the model is trained without, and will have it when it acts"
    ]
    assert check_inputs(spec, ["d"], mix([whole])) == []


def test_weights_of_another_model_are_refused_before_training(plain, tmp_path, monkeypatch):
    write_params(tmp_path / "small", {"action_in_proj": {"bias": np.zeros(7)}})
    message = "small/params is not a checkpoint of this model"
    refused_by_both(plain, tmp_path, monkeypatch, message, weights=str(tmp_path / "small"))


def test_a_run_with_other_settings_is_refused_by_a_dry_run_too(plain, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "mine").write_text("keep")
    with pytest.raises(UserError, match="is not a fine-tuning"):
        fine_tune(settings([plain], out, dry_run=True), lambda line: None)
    with pytest.raises(UserError, match="is not a fine-tuning"):
        fine_tune(settings([plain], out, dry_run=True, overwrite=True), lambda line: None)
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_what_the_model_will_see_is_shown(tmp_path):
    long = "touch " + " ".join(f"w{i}" for i in range(20))

    def change(index, values):
        values["state"][:, 2] = 0.25 + 1e-7 * index

    folder, lines = export(tmp_path, "data", 0, 8, change, prompt=long), []
    fine_tune(settings([folder], tmp_path / "run", dry_run=True), lines.append)
    text = "\n".join(lines)
    assert f"{folder}: 24 steps in 8 episodes, 18 to train on; stored are image {SIDE} x {SIDE}, wrist_image" in text
    assert "states of 8 and actions of 7 numbers, in vectors of 8" in text
    assert f"image left_wrist_0_rgb: [4, {SIDE}, {SIDE}, 3] uint8" in text and "actions: [4, 16, 8] float32" in text
    # A number that stands still is normalized with its floor, every other with its own deviation.
    z = re.search(r"^  z +(\S+) +(\S+) +(\S+) ", text, re.MULTILINE)
    assert [float(each) for each in z.groups()] == [0.25, 0.01, 0.01]
    assert f"1 of them cut at 16\n  cut, 23 tokens: {long!r}" in text
    assert "GiB a device" in text
    sheet = tmp_path / "run.examples.png"
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB"))
    # The dots are red, and every example has one.
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 90)
    assert pixels.shape[1] > 2 * 224 and red.any() and not (tmp_path / "run").exists()
    # It may be replaced, and nothing else may.
    fine_tune(settings([folder], tmp_path / "run", dry_run=True), lines.append)
    sheet.write_bytes(b"mine")
    with pytest.raises(UserError, match="is not a sheet of examples that rlgen wrote"):
        fine_tune(settings([folder], tmp_path / "run", dry_run=True), lines.append)
    assert sheet.read_bytes() == b"mine"
