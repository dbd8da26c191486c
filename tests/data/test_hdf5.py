"""LIBERO's layout: our files come back exactly, human ones as far as possible, damage is reported."""

import json
import resource
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rlgen.core.errors import UserError
from rlgen.data.formats.hdf5.layout import DemoFileInfo, DemoImages
from rlgen.data.formats.hdf5.reader import (
    observed_before_action,
    prompt_from_name,
    read_demos,
    read_images,
    read_info,
    read_model_files,
    read_robot_states,
)
from rlgen.data.formats.hdf5.writer import write_demos

BUTTER = "pick_up_the_butter_and_place_it_in_the_basket"
INFO = DemoFileInfo(
    env_name="Libero_Floor_Manipulation",
    bddl_file_name=f"libero/libero/bddl_files/libero_object/{BUTTER}.bddl",
    language="Pick the butter and place it in the basket",
    model_file="<mujoco/>" * 8_000,  # longer than an attribute may be inside a header
    env_kwargs={"control_freq": 20, "controller_configs": {"kp": 150}},
    bddl="(define (problem LIBERO_Floor_Manipulation)\n  (:domain robosuite))\n",
)


@pytest.fixture
def demos(tmp_path, episode_of, robot_of):
    """A file of eleven demonstrations, so that the order of names differs from that of their numbers."""
    path = tmp_path / f"{BUTTER}_demo.hdf5"
    episodes = [episode_of(index, steps=6 + index) for index in range(11)]
    robots = [robot_of(episode) for episode in episodes]
    write_demos(path, episodes, robots, INFO)
    return path, episodes, robots


def test_ours_comes_back_to_the_last_bit(demos, same):
    path, episodes, robots = demos
    for got, given in zip(read_demos(path), episodes, strict=True):
        same(got, given)
    for got, given in zip(read_robot_states(path), robots, strict=True):
        same(got, given)
    assert read_info(path) == INFO
    assert observed_before_action(path)


def test_drawn_fixtures_come_back_and_the_mjcf_of_the_demonstration_has_them(
    tmp_path, episode_of, robot_of, fixtures_of, same
):
    bodies = "".join(f"<body name='{name}' pos='0 0 1'><geom size='1'/></body>" for name in ("table", "rack", "stove"))
    info = replace(INFO, model_file=f"<mujoco><worldbody>{bodies}</worldbody></mujoco>", fixtures=("stove", "rack"))
    episodes = [episode_of(0, fixtures=fixtures_of(5)), episode_of(1), episode_of(2, fixtures=fixtures_of(6))]
    path = tmp_path / "x.hdf5"
    write_demos(path, episodes, [robot_of(episode) for episode in episodes], info)
    for got, given in zip(read_demos(path), episodes, strict=True):
        same(got, given)
    drawn, plain, _ = read_model_files(path, ["demo_0", "demo_1", "demo_2"])
    assert plain == info.model_file
    root = ElementTree.fromstring(drawn)
    found = {body.get("name"): f"{body.get('pos')} {body.get('quat')}".split() for body in root.iter("body")}
    assert found["table"] == ["0", "0", "1", "None"]
    for name, pose in zip(info.fixtures, episodes[0].fixtures, strict=True):
        np.testing.assert_array_equal([float(number) for number in found[name]], pose)
    # A merge writes the file again from this.
    assert read_info(path) == info
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["rlgen_fixtures"] = fixtures_of(7)
    with pytest.raises(UserError, match="demo_0: not as it was written"):
        read_demos(path)


def test_dtypes_come_back(tmp_path, episode_of, robot_of, same):
    episode = episode_of(1, source="ppo", split="train", success=False, rewards=np.zeros(12, np.float32))
    episode = replace(episode, actions=episode.actions.astype(np.float32))
    write_demos(tmp_path / "x.hdf5", [episode], [robot_of(episode)], INFO)
    same(read_demos(tmp_path / "x.hdf5")[0], episode)


def test_the_layout_is_the_benchmarks(demos):
    path, episodes, robots = demos
    steps = len(episodes[2])
    with h5py.File(path) as file:
        data = file["data"]
        assert data.attrs["num_demos"] == 11
        assert data.attrs["total"] == sum(map(len, episodes))
        assert data.attrs["macros_image_convention"] == "opengl"
        # Both are what the benchmark's own tools look up; its check of datasets compares the tag.
        assert data.attrs["tag"] == "libero-v1"
        assert data.attrs["bddl_file_content"] == INFO.bddl
        assert data.attrs["bddl_file_name"] == INFO.bddl_file_name
        assert json.loads(data.attrs["problem_info"])["language_instruction"] == INFO.language
        assert json.loads(data.attrs["env_args"])["env_kwargs"]["control_freq"] == 20
        demo = data["demo_2"]
        assert demo.attrs["num_samples"] == steps
        assert demo.attrs["model_file"] == INFO.model_file
        np.testing.assert_array_equal(demo.attrs["init_state"], episodes[2].initial_state)
        assert demo["states"].shape == (steps, 11)
        assert demo["rewards"].dtype == demo["dones"].dtype == np.uint8
        assert demo["dones"][:].tolist() == [0] * (steps - 1) + [1]
        np.testing.assert_array_equal(demo["obs/ee_states"][:, :3], demo["obs/ee_pos"])
        np.testing.assert_array_equal(demo["obs/ee_states"][:, 3:], demo["obs/ee_ori"])
        robot_states = demo["robot_states"][:]
    np.testing.assert_array_equal(robot_states[:, :2], robots[2].gripper[:steps])
    rotation = Rotation.from_quat(robot_states[:, 5:])
    expected = Rotation.from_rotvec(robots[2].axis_angle[:steps])
    assert (rotation.inv() * expected).magnitude().max() < 1e-12


def test_images_are_stored_when_given(tmp_path, episode_of, robot_of):
    episode = episode_of(0, steps=3)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), dtype=np.uint8)
    write_demos(tmp_path / "x.hdf5", [episode], [robot_of(episode)], INFO, [DemoImages(*images)])
    with h5py.File(tmp_path / "x.hdf5") as file:
        np.testing.assert_array_equal(file["data/demo_0/obs/agentview_rgb"], images[0])
        np.testing.assert_array_equal(file["data/demo_0/obs/eye_in_hand_rgb"], images[1])


def test_images_are_compressed_in_a_way_that_every_library_reads(tmp_path, episode_of, robot_of):
    steps, side = 20, 64
    images = np.zeros((steps, side, side, 3), np.uint8)
    images[:, :, side // 2 :] = np.arange(steps, dtype=np.uint8)[:, None, None, None]
    episode = episode_of(0, steps=steps)
    write_demos(tmp_path / "x.hdf5", [episode], [robot_of(episode)], INFO, [DemoImages(images, images)])
    with h5py.File(tmp_path / "x.hdf5") as file:
        stored = file["data/demo_0/obs/agentview_rgb"]
        assert stored.chunks == (1, side, side, 3)  # one image is read without its neighbors
        assert (stored.compression, stored.fletcher32) == ("gzip", True)
        assert stored.id.get_storage_size() < images.nbytes / 20
    read = read_images(tmp_path / "x.hdf5", "demo_0")
    np.testing.assert_array_equal(read.agentview, images)


def test_a_lost_image_is_noticed(tmp_path, episode_of, robot_of):
    """HDF5 gives zeros for a chunk that its index does not have."""
    path, episode = tmp_path / "x.hdf5", episode_of(0, steps=3)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), dtype=np.uint8)
    write_demos(path, [episode], [robot_of(episode)], INFO, [DemoImages(*images)])
    with h5py.File(path, "r+") as file:
        obs = file["data/demo_0/obs"]
        attributes, stored = dict(obs["eye_in_hand_rgb"].attrs), images[1].copy()
        del obs["eye_in_hand_rgb"]
        stored[1] = 0
        obs.create_dataset("eye_in_hand_rgb", data=stored).attrs.update(attributes)
    with pytest.raises(UserError, match="/data/demo_0/obs/eye_in_hand_rgb: not as it was written"):
        read_images(path, "demo_0")


def _strip_to_human(path: Path) -> None:
    """Removes what the benchmark's own files do not have."""
    with h5py.File(path, "r+") as file:
        data = file["data"]
        for group in (data, *data.values()):
            for key in set(group.attrs) & {
                "rlgen_observation",
                "rlgen_task",
                "rlgen_prompt",
                "rlgen_sha256",
                "source",
                "seed",
            }:
                del group.attrs[key]
        for demo in data.values():
            for key in ("split", "initial_index", "success"):
                del demo.attrs[key]
            del demo["final_state"], demo["final_obs"], demo["rewards"].attrs["dtype"]


def test_a_file_of_human_demonstrations_is_read(demos):
    path, episodes, _ = demos
    _strip_to_human(path)
    got, given = read_demos(path)[10], episodes[10]
    assert (got.source, got.seed, got.initial_index, got.split) == ("human", -1, -1, "train")
    assert got.task == f"libero_object/{BUTTER}"
    assert got.prompt == "pick up the butter and place it in the basket"
    assert got.success
    np.testing.assert_array_equal(got.states[:-1], given.states[:-1])
    assert np.isnan(got.states[-1]).all()
    np.testing.assert_array_equal(got.actions, given.actions)
    assert not observed_before_action(path)
    assert len(read_robot_states(path)[10].position) == len(given)


def test_prompts_are_read_from_names():
    assert prompt_from_name("KITCHEN_SCENE10_close_the_drawer") == "close the drawer"
    assert prompt_from_name("LIVING_ROOM_SCENE2_pick_up_the_milk") == "pick up the milk"
    assert prompt_from_name("open_the_top_drawer") == "open the top drawer"


def _robosuite_lift() -> Path:
    package = Path(find_spec("robosuite").submodule_search_locations[0])
    return package / "models/assets/demonstrations/lift/demo.hdf5"


def test_robosuites_own_file_is_rejected_for_its_actions():
    with pytest.raises(UserError, match=r"demo\.hdf5: /data/demo_1/actions: reach 3\.75"):
        read_demos(_robosuite_lift())


def test_robosuites_own_file_is_read_with_clipped_actions():
    episodes = read_demos(_robosuite_lift(), clip=True)
    assert [len(episode) for episode in episodes] == [482, 510, 392]
    assert episodes[0].task == "robosuite/Lift"
    assert all(np.abs(episode.actions).max() == 1 for episode in episodes)
    # states[t] is before action t: time rises by one control step a row
    np.testing.assert_allclose(np.diff(episodes[1].states[:-1, 0]), 0.05, atol=1e-9)


@pytest.mark.parametrize("keep", [0, 100, 2048, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_named(demos, keep):
    path, _, _ = demos
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(UserError, match="truncated or damaged") as caught:
        read_demos(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_text_file_and_a_missing_file_are_named(tmp_path):
    path = tmp_path / "notes.hdf5"
    path.write_text("demonstrations follow\n" * 500)
    with pytest.raises(UserError, match=r"notes\.hdf5: not readable HDF5"):
        read_demos(path)
    with pytest.raises(UserError, match="no such file"):
        read_demos(tmp_path / "none.hdf5")


def test_a_flipped_bit_in_the_numbers_is_noticed(demos):
    path, episodes, _ = demos
    whole = bytearray(path.read_bytes())
    position = whole.find(episodes[4].states[:-1].tobytes()) + 50
    whole[position] ^= 1
    path.write_bytes(whole)
    with pytest.raises(UserError, match="/data/demo_4/states: not readable HDF5"):
        read_demos(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("actions", None, "/data/demo_3: no dataset 'actions'"),
        ("states", None, "/data/demo_3: no dataset 'states'"),
        ("actions", np.zeros((9, 6)), r"/data/demo_3/actions: shape \(9, 6\)"),
        ("actions", np.full((9, 7), np.nan), "/data/demo_3/actions: not finite"),
        ("actions", np.full((9, 7), -1.2), r"/data/demo_3/actions: reach 1\.2"),
        ("actions", np.array([b"x"] * 9), "/data/demo_3/actions"),
        ("states", np.zeros((4, 11)), r"/data/demo_3/states: shape \(4, 11\)"),
        ("states", np.full((9, 11), np.inf), "/data/demo_3: states"),
        ("rewards", np.zeros(2), "/data/demo_3: rewards"),
    ],
)
def test_wrong_contents_are_named(demos, key, value, message):
    path, _, _ = demos
    with h5py.File(path, "r+") as file:
        del file[f"data/demo_3/{key}"]
        if value is not None:
            file[f"data/demo_3/{key}"] = value
    with pytest.raises(UserError, match=message) as caught:
        read_demos(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("key", ["data", "data/demo_1/obs"])
def test_missing_groups_are_named(demos, key):
    path, _, _ = demos
    with h5py.File(path, "r+") as file:
        del file[key]
    with pytest.raises(UserError, match=f"no group '{Path(key).name}'"):
        read_robot_states(path)


def test_a_demonstration_that_is_asked_for_and_is_not_there_is_missing(demos):
    """Whatever the file's own count says, which may be damaged as well."""
    path, _, _ = demos
    with h5py.File(path, "r+") as file:
        del file["data/demo_1"], file["data"].attrs["num_demos"]
    assert len(read_demos(path, only=["demo_3"])) == 1
    with pytest.raises(UserError, match=f"{path.name}: /data/demo_1: missing"):
        read_demos(path, only=["demo_1", "demo_3"])


def test_mixed_tasks_and_bad_actions_leave_the_old_file(demos, episode_of, robot_of):
    path, episodes, _ = demos
    before = path.read_bytes()
    other = episode_of(1, task="libero_object/other")
    with pytest.raises(UserError, match="one task and prompt a file"):
        write_demos(path, [episodes[0], other], [robot_of(episodes[0]), robot_of(other)], INFO)
    bad = episode_of(1, actions=np.full((12, 7), 2.0))
    with pytest.raises(UserError, match="demo_1: actions: reach 2"):
        write_demos(path, [episode_of(), bad], [robot_of(episode_of()), robot_of(bad)], INFO)
    assert path.read_bytes() == before


def test_a_disk_that_fills_while_writing_leaves_the_old_file(demos, episode_of, robot_of):
    path, episodes, robots = demos
    before = path.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, old[1]))
    try:
        with pytest.raises(UserError, match="cannot write") as caught:
            write_demos(path, episodes, robots, INFO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
