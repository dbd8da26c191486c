"""HDF5 of other robots: read as it is, with names from what the file says, and refused where that contradicts."""

import json

import h5py
import numpy as np
import pytest
from foreign_hdf5 import (
    CAMERAS,
    HANDOVER,
    STEPS,
    env_args,
    images,
    lift,
    recorded_by_robosuite,
    sensors,
    two_arms,
    write_act,
    write_robomimic,
)
from moving_images import psnr

from rlgen.core.errors import UserError
from rlgen.core.types import Episode, RobotState
from rlgen.data.dataset import dataset_folders, open_dataset
from rlgen.data.formats.hdf5.layout import DemoFileInfo, DemoImages
from rlgen.data.formats.hdf5.robosuite import action_names, read_environment
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.data.frames import DECODED_BYTES, frames_from_episodes, open_frames, read_frames
from rlgen.vla.data.metadata import read_declarations

POSE = ("x", "y", "z", "turn x", "turn y", "turn z", "gripper")
BUTTER = "pick_up_the_butter_and_place_it_in_the_basket"


def opened(path):
    return open_dataset(path, any_robot=True)


def refused(path, any_robot=True) -> str:
    with pytest.raises(UserError) as error:
        list(open_dataset(path, any_robot=any_robot))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_two_arms_of_robosuites_own_recording_have_all_numbers_and_names(tmp_path):
    dataset = opened(two_arms(tmp_path / "image.hdf5"))
    assert len(dataset) == 3 and (dataset.robot.state, dataset.robot.action) == (18, 14)
    assert dataset.robot.action_names == tuple(f"robot{robot} {name}" for robot in (0, 1) for name in POSE)
    names = dataset.robot.state_names
    assert len(names) == 18 and names[:3] == tuple(f"robot0_eef_pos {axis}" for axis in "xyz")
    assert names[6] == "robot0_eef_quat w" and names[-1] == "robot1_gripper_qpos 1"
    with h5py.File(recorded_by_robosuite(HANDOVER)) as file:
        for number, episode in enumerate(dataset):
            recorded = file[f"data/demo_{number}"]
            np.testing.assert_array_equal(episode.action, recorded["actions"][:STEPS].astype(np.float32))
            np.testing.assert_array_equal(
                episode.joint_state[:, :7], recorded["states"][:STEPS, 1:8].astype(np.float32)
            )
            given = np.concatenate([sensors(2, number)[name.rpartition(" ")[0]] for name in dict.fromkeys(
                name for name in names if name.endswith((" x", " 0")))], axis=1)  # fmt: skip
            np.testing.assert_array_equal(episode.state, given.astype(np.float32))
            np.testing.assert_array_equal(episode.image, images(number)[CAMERAS[0]])
            np.testing.assert_array_equal(episode.wrist_image, images(number)[CAMERAS[1]])
            assert (episode.language_instruction, episode.file_path) == ("two arm handover", f"image/demo_{number}")
    declared, *others = read_declarations(tmp_path / "image.hdf5")
    assert (declared.semantics, declared.kind, others) == ("relative", "pose", [])


def test_files_of_a_folder_are_one_dataset_and_frames_have_its_widths(tmp_path):
    for name, demos in (("a", 2), ("b", 1)):
        lift(tmp_path / f"{name}.hdf5", demos=demos, action=8, kind="OSC_POSITION")
    frames = open_frames(tmp_path, any_robot=True)
    assert (frames.robot.state, frames.robot.action, frames.robot.action_names) == (9, 8, ())
    assert frames.table.state.shape == (3 * STEPS, 9) and frames.table.prompts == ("lift",)
    batch = read_frames(frames, np.array([STEPS, 2 * STEPS + 3]), 2)
    np.testing.assert_array_equal(batch["image"], [images(1)[CAMERAS[0]][0], images(0)[CAMERAS[0]][3]])
    assert batch["action_chunks"].shape == (2, 2, 8)
    # Folders below which datasets are looked for may have demonstrations without images.
    assert dataset_folders(tmp_path) == []


def test_images_that_are_too_many_stay_in_their_files(tmp_path):
    """Frames from memory and from the files are the same; arrays are stored in chunks of several steps."""
    for name in "ab":
        changed(lift(tmp_path / f"{name}.hdf5"), packed)
    episodes, batches = list(opened(tmp_path)), {}
    for limit in (DECODED_BYTES, 0):
        source = frames_from_episodes(episodes, size=8, robot=opened(tmp_path).robot, most=limit)
        assert isinstance(source.image, np.ndarray) == bool(limit)
        batches[limit] = read_frames(source, np.random.default_rng(0).permutation(4 * STEPS), 2)
    for name in ("image", "wrist_image"):
        np.testing.assert_array_equal(batches[0][name], batches[DECODED_BYTES][name])
    image = episodes[1].image
    np.testing.assert_array_equal(image[2:5][-1], images(1)[CAMERAS[0]][4])
    unread = opened(tmp_path)[0].image
    (tmp_path / "a.hdf5").unlink()
    with pytest.raises(UserError, match=r"a\.hdf5: /data/demo_0/obs/agentview_image: not readable HDF5"):
        np.asarray(unread)


def packed(file):
    for group in file["data"].values():
        for key in CAMERAS:
            values = group[f"obs/{key}"][()]
            del group[f"obs/{key}"]
            group.create_dataset(f"obs/{key}", data=values, compression="gzip", chunks=(4, 8, 8, 3))


def test_other_widths_open_only_where_they_are_asked_for(tmp_path):
    path = lift(tmp_path / "x.hdf5")
    assert "demo_0: state has 9 numbers a step, expected 8, those of LIBERO's" in refused(path, any_robot=False)


CONTROLLERS = {
    "a gripper": (env_args(1), 7, (), POSE),
    "none": (env_args(1, name="Wipe"), 6, (), POSE[:-1]),
    "positions": (env_args(1, "OSC_POSITION"), 4, (), ("x", "y", "z", "gripper")),
    "joints": (env_args(1, "JOINT_VELOCITY"), 8, (7,), (*(f"joint {i}" for i in range(7)), "gripper")),
    "joints that are not known": (env_args(1, "JOINT_VELOCITY"), 8, (), ()),
    "stiffness besides": (env_args(1, impedance_mode="variable"), 13, (), ()),
    "a larger gripper": (env_args(1), 9, (), ()),
    "a robot that is not said": ({"env_args": json.dumps({"env_kwargs": {}})}, 7, (), ()),
    "no JSON": ({"env_args": "[" * 100_000}, 7, (), ()),
    "other JSON": ({"env_args": json.dumps({"env_kwargs": {"robots": 5, "controller_configs": [[]]}})}, 7, (), ()),
    "two in a list": (
        {"env_info": json.dumps({"robots": ["A", "B"], "controller_configs": [{"type": "OSC_POSITION"}] * 2})},
        6,
        (),
        ("robot0 x", "robot0 y", "robot0 z", "robot1 x", "robot1 y", "robot1 z"),
    ),
    "robosuite 1.5": (
        {
            "env_info": json.dumps(
                {
                    "robots": "Panda",
                    "controller_configs": {
                        "type": "BASIC",
                        "body_parts": {"right": {"type": "OSC_POSE", "input_type": "delta"}},
                    },
                }
            )
        },
        7,
        (),
        POSE,
    ),
}


@pytest.mark.unit
@pytest.mark.parametrize("case", CONTROLLERS)
def test_names_of_an_action_are_what_its_controller_takes(case):
    attributes, width, joints, expected = CONTROLLERS[case]
    assert action_names(read_environment(attributes), width, joints, "f") == expected


def changed(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def without(*keys):
    def change(file):
        for key in keys:
            del file[key]

    return change


def replaced(key, values):
    def change(file):
        del file[key]
        file[key] = values

    return change


def linked(file):
    file["data/demo_0/obs/robot0_eef_quat"] = h5py.ExternalLink("other.hdf5", "/x")


OBS = "data/demo_0/obs"
REFUSED = {
    "too few numbers for two robots": (
        dict(robots=2, action=7),
        None,
        "/data/demo_0/actions: 7 numbers a step, and OSC_POSE of Panda, Panda takes 12 or more; correct env_args",
    ),
    "another number of robots": (
        {},
        lambda file: file["data"].attrs.update(env_args(2)),
        "/data/demo_0/obs: states of 1 robots, env_args has 2, Panda, Panda; correct the file",
    ),
    "another number of steps": (
        {},
        lambda file: file["data/demo_1"].attrs.update(num_samples=5),
        "/data/demo_1: num_samples says 5, there are 6 actions",
    ),
    "an instruction that is none": (
        {},
        lambda file: file["data/demo_1"].attrs.update(language_instruction=5),
        "/data/demo_1: language_instruction is '5', expected a text",
    ),
    "rows that are missing": (
        {},
        replaced(f"{OBS}/robot0_eef_pos", np.zeros((5, 3))),
        "/data/demo_0/obs/robot0_eef_pos: shape (5, 3), expected a row for each of 6 actions",
    ),
    "another width later on": (
        {},
        replaced("data/demo_1/actions", np.zeros((STEPS, 14))),
        "(episode x/demo_1): action has 14 numbers a step, expected 7, as the dataset's description says",
    ),
    "a sensor that is missing later on": (
        {},
        without("data/demo_1/obs/robot0_eef_quat"),
        "/data/demo_1/obs: no dataset 'robot0_eef_quat'",
    ),
    "numbers that are not finite": (
        {},
        replaced("data/demo_1/actions", np.full((STEPS, 7), np.nan)),
        "(episode x/demo_1): action: not finite at step 0",
    ),
    "a state of other names": (
        {},
        without(*(f"{OBS}/robot0_{key}" for key in ("eef_pos", "eef_quat"))),
        "/data/demo_0/obs: no robot0_eef_pos as of robosuite, no ee_pos as of LIBERO, but agentview_image, ",
    ),
    "no images": ({}, without(*(f"{OBS}/{key}" for key in CAMERAS)), "/data/demo_0/obs: cameras none; expected one"),
    "two fixed cameras": (
        {},
        lambda file: file.copy(f"{OBS}/agentview_image", f"{OBS}/sideview_image"),
        "cameras agentview_image, robot0_eye_in_hand_image, sideview_image; expected one that is fixed",
    ),
    "images of another length": (
        {},
        replaced(f"{OBS}/agentview_image", np.zeros((5, 8, 8, 3), np.uint8)),
        "agentview_image: uint8 (5, 8, 8, 3), expected uint8 and three channels for each of 6 actions",
    ),
    "states in three axes": (
        {},
        replaced(f"{OBS}/robot0_eef_pos", np.zeros((STEPS, 3, 3))),
        "robot0_eef_pos: shape (6, 3, 3), expected a vector a step",
    ),
    "numbers elsewhere": (
        {},
        lambda file: (without(f"{OBS}/robot0_eef_quat")(file), linked(file)),
        "/data/demo_0/obs/robot0_eef_quat: a link to somewhere else",
    ),
    "a demonstration that is missing": (
        {},
        lambda file: file["data"].attrs.update(num_demos=3),
        "/data/demo_2: missing, num_demos says 3 and there are 2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_contradicts_itself_is_one_line(tmp_path, case):
    settings, change, message = REFUSED[case]
    path = lift(tmp_path / "x.hdf5", **settings)
    error = refused(path if change is None else changed(path, change))
    assert message in error and str(path) in error


def test_recordings_without_observations_say_what_makes_them():
    assert "/data/demo_1: no observations; make them" in refused(recorded_by_robosuite("lift/demo.hdf5"))


@pytest.mark.parametrize("damage", ["cut", "zeros", "none"])
def test_damaged_files_are_one_line(tmp_path, damage):
    path = lift(tmp_path / "x.hdf5")
    data = path.read_bytes()
    cut = {"cut": data[: len(data) // 3], "zeros": data[:600] + bytes(4000) + data[4600:], "none": b""}
    path.write_bytes(cut[damage])
    assert str(path) in refused(path)


INSTRUCTIONS = {
    "the file's": ({**env_args(), "language_instruction": "raise it"}, "raise it"),
    "the file's, in bytes": ({**env_args(), "language_instruction": np.bytes_(b"raise it")}, "raise it"),
    "robomimic's": ({"env_args": json.dumps({"env_name": "Lift", "env_lang": "raise the cube"})}, "raise the cube"),
    "the task's": ({"bddl_file_name": f"libero_object/{BUTTER}.bddl"}, BUTTER.replace("_", " ")),
    "the environment's": (env_args(name="NutAssembly_Square"), "nut assembly square"),
}


@pytest.mark.parametrize("case", INSTRUCTIONS)
def test_the_instruction_is_what_the_file_says(tmp_path, case):
    attributes, expected = INSTRUCTIONS[case]
    demo = {"actions": np.zeros((STEPS, 7)), **sensors(1), **images(0)}
    [episode] = opened(write_robomimic(tmp_path / "x.hdf5", {4: demo}, attributes))
    assert (episode.language_instruction, episode.file_path) == (expected, "x/demo_4")


# ACT ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jpeg", [False, True], ids=["arrays", "JPEG"])
def test_episodes_as_act_records_them(tmp_path, jpeg):
    dataset = opened(write_act(tmp_path / "insertion", jpeg=jpeg))
    assert (dataset.robot.state, dataset.robot.action, dataset.robot.names("action")[0]) == (14, 14, "0")
    for number, episode in enumerate(dataset):
        with h5py.File(tmp_path / f"insertion/episode_{number}.hdf5") as file:
            np.testing.assert_array_equal(episode.action, file["action"][()])
            np.testing.assert_array_equal(episode.state, file["observations/qpos"][()])
        for name, given in zip(("image", "wrist_image"), images(number).values(), strict=True):
            read = np.asarray(getattr(episode, name))
            assert psnr(read, given) > 28 if jpeg else np.array_equal(read, given)
        assert (episode.language_instruction, episode.file_path) == ("insert", f"episode_{number}")
    [declared] = read_declarations(tmp_path / "insertion")
    assert declared.kind == "joints" and "ACT's layout" in declared.words


def test_an_episode_without_an_instruction_is_named_with_the_attribute(tmp_path):
    error = refused(write_act(tmp_path, instruction=None))
    assert "episode_0.hdf5: nothing in it says its instruction; give it the attribute language_instruction" in error


# LIBERO -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0, 1], ids=["before the action", "after it"])
def test_rows_of_liberos_files_are_paired_with_the_action_that_was_taken_on_them(tmp_path, shift):
    """Human demonstrations have what was seen after an action, files regenerated from them what was seen before."""
    random, steps = np.random.default_rng(0), 7
    states = np.cumsum(random.normal(size=(steps + 1, 21)), axis=0)
    actions = random.uniform(-1, 1, (steps, 7))
    parts = (random.normal(size=(steps + 1, width)) for width in (3, 3, 2))
    robot = RobotState(*parts, states[:, 1:8])
    rows = RobotState(
        *(getattr(robot, name)[shift:][:steps] for name in ("position", "axis_angle", "gripper", "joints"))
    )
    rendered = random.integers(0, 256, (2, steps + 1, 8, 8, 3), np.uint8)
    seen = DemoImages(*(each[shift:][:steps] for each in rendered))
    task = f"libero_object/{BUTTER}"
    episode = Episode(task, "x", "human", -1, "train", -1, states[0], states, actions, np.eye(steps)[-1], True)
    path = tmp_path / f"{BUTTER}_demo.hdf5"
    write_demos(path, [episode], [rows], DemoFileInfo("Libero_X", f"{task}.bddl", "x", "<mujoco/>"), [seen])

    def as_of_others(file):
        for key in [key for key in file["data"].attrs if key.startswith("rlgen")]:
            del file["data"].attrs[key]

    changed(path, as_of_others)
    dataset = open_dataset(path)
    [read] = dataset
    assert dataset.robot.is_libero and len(read) == steps - shift
    np.testing.assert_array_equal(read.action, actions[shift:].astype(np.float32))
    np.testing.assert_array_equal(read.joint_state, states[shift:steps, 1:8].astype(np.float32))
    np.testing.assert_array_equal(read.state, robot.vla_state[shift:steps].astype(np.float32))
    np.testing.assert_array_equal(read.image, rendered[0, shift:steps, ::-1, ::-1])
    assert read.language_instruction == BUTTER.replace("_", " ")
