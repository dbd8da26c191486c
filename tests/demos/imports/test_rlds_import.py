"""Imports of RLDS: exports of this project get their physics back, others come without, and damage is named."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from dataset_tools import EpisodesOfScene, write_rlds

from rlgen.core.errors import UserError
from rlgen.curation.render import RenderedEpisodes, RenderOptions
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.hdf5.reader import iterate_demos, read_demos, read_robot_states
from rlgen.data.metrics.quality import recorded_quality
from rlgen.demos.imports.importer import import_demonstrations, import_for_run
from rlgen.demos.imports.options import ImportOptions
from rlgen.demos.imports.rlds import episode_task
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.rollouts import make_trials, run_episodes

NAME = "libero_object_no_noops"
BUTTER = "pick_up_the_butter_and_place_it_in_the_basket"


def run(path, out, scene, **options) -> dict[str, int]:
    return import_demonstrations(path, out, ImportOptions(**options), lambda task: scene, assets="test")


def record(out) -> list[dict]:
    return json.loads((out / "import.json").read_text())["files"]


@pytest.fixture(scope="module")
def collected(placeholder_scene):
    """Returns two episodes from training states, as the collection stage records them."""
    actor, trials = ScriptedExpert(placeholder_scene, clean=True), make_trials(2, 256, seed=1)
    [episodes] = run_episodes(placeholder_scene, actor, trials, split="train", source="ppo", width=2)
    # The dataset's gripper is exact, and so is the policy's.
    return [replace(e, actions=np.c_[e.actions[:, :6], np.sign(e.actions[:, 6])].astype(np.float32)) for e in episodes]


@pytest.fixture(scope="module")
def exported(collected, placeholder_scene, tmp_path_factory):
    with RenderedEpisodes(EpisodesOfScene(placeholder_scene, collected), RenderOptions("fast", 16, 1)) as rendered:
        return write_rlds(tmp_path_factory.mktemp("ours"), NAME, rendered, size=16, shards=1)


def human_episode(seed: int, steps: int, **changes) -> DatasetEpisode:
    """Returns an episode as the public builder names it; its images get brighter to the right and downwards."""
    random = np.random.default_rng(seed)
    action = random.uniform(-0.9, 0.9, (steps, 7)).astype(np.float32)
    action[:, 6] = -1
    slope = np.add.outer(np.arange(16), 3 * np.arange(16)).astype(np.uint8)
    values = {
        "image": np.tile(slope[None, :, :, None], (steps, 1, 1, 3)),
        "wrist_image": np.zeros((steps, 16, 16, 3), np.uint8),
        "state": random.normal(size=(steps, 8)).astype(np.float32),
        "joint_state": random.normal(size=(steps, 7)).astype(np.float32),
        "action": action,
        "language_instruction": "pick up the butter and place it in the basket",
        "file_path": f"/home/user/{NAME}/{BUTTER}_demo.hdf5",
    }
    return DatasetEpisode(**{**values, **changes})


@pytest.fixture
def human_demos(tmp_path):
    """Returns a dataset of three episodes in three shards, and the episodes."""
    episodes = [human_episode(seed, steps=6 + seed) for seed in range(3)]
    directory = write_rlds(tmp_path / "in", NAME, episodes, size=16, shards=3)
    return directory, episodes


def test_an_export_gets_its_physics_back_to_the_bit(exported, collected, tmp_path, placeholder_scene):
    total = run(exported, tmp_path / "out", placeholder_scene)
    assert (total["kept"], total["failed"], total["bad"]) == (2, 0, 0)
    got = read_demos(tmp_path / "out" / NAME / f"{BUTTER}_demo.hdf5")
    for one, other in zip(got, collected, strict=True):
        assert (one.source, one.split, one.initial_index, one.seed) == ("ppo", "train", other.initial_index, other.seed)
        np.testing.assert_array_equal(one.states[:, 1:], other.states[:, 1:])
        # Seconds are added up in chunks of another length.
        np.testing.assert_allclose(one.states[:, 0], other.states[:, 0], atol=1e-12)
        np.testing.assert_array_equal(one.actions, other.actions)


def test_an_export_of_another_scene_fails(exported, tmp_path, placeholder_scene):
    moved = replace(placeholder_scene, training_states=placeholder_scene.training_states[::-1].copy())
    total = run(exported, tmp_path / "out", moved)
    assert (total["kept"], total["failed"]) == (0, 2)
    assert "leaves the recorded path at step 0" in record(tmp_path / "out")[0]["failed"]["episode 0"]
    assert not list((tmp_path / "out").rglob("*.hdf5"))


def test_human_episodes_have_robot_actions_and_images_but_no_physics(human_demos, tmp_path, placeholder_scene):
    directory, given = human_demos
    total = run(directory.parent.parent, tmp_path / "out", placeholder_scene)
    assert total["kept"] == 3 and record(tmp_path / "out")[0]["physics"] is False
    [path] = (tmp_path / "out").rglob("*.hdf5")
    assert path.name == f"{BUTTER}_demo.hdf5"
    episodes, robots = read_demos(path), read_robot_states(path)
    with h5py.File(path) as file:
        for index, (episode, robot, source) in enumerate(zip(episodes, robots, given, strict=True)):
            assert not episode.has_physics and episode.success and episode.source == "human"
            np.testing.assert_array_equal(episode.actions, source.action)
            np.testing.assert_array_equal(robot.vla_state, source.state)
            image = file[f"data/demo_{index}/obs/agentview_rgb"][2]
            # as the renderer gives it, which is the dataset's turned by half a turn
            assert np.abs(image[::-1, ::-1].astype(int) - source.image[2]).max() < 8
            assert "states" not in file[f"data/demo_{index}"]
    assert recorded_quality(episodes, robots).episodes == 3
    with pytest.raises(UserError, match=r"demo_0/states: no physics states.*cloning need them"):
        import_for_run(path, tmp_path / "run.hdf5", placeholder_scene, episodes=3)
    assert not (tmp_path / "run.hdf5").exists()


def test_a_damaged_record_is_named_or_counted(human_demos, tmp_path, placeholder_scene):
    directory, _ = human_demos
    shard = sorted(directory.glob("*.tfrecord-*"))[1]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=r"00001-of-00003: record 0 is damaged.*--skip-bad"):
        run(directory, tmp_path / "out", placeholder_scene)
    total = run(directory, tmp_path / "out", placeholder_scene, skip_bad=True)
    assert (total["read"], total["kept"], total["bad"]) == (3, 2, 1)
    [path] = (tmp_path / "out").rglob("*.hdf5")
    assert [len(episode) for _, episode in iterate_demos(path)] == [6, 8]


def test_tasks_of_episodes(tmp_path):
    dataset = tmp_path / "libero_goal_no_noops" / "1.0.0"
    instructed = human_episode(0, 6, language_instruction="turn on the stove", file_path="shard 3")
    assert episode_task(instructed, dataset).id == "libero_goal/turn_on_the_stove"
    exported = human_episode(0, 6, file_path=f"libero_object/{BUTTER}/ppo/train-3-5")
    assert episode_task(exported, dataset).id == f"libero_object/{BUTTER}"
    with pytest.raises(UserError, match="'fold the towel': no task of LIBERO"):
        episode_task(human_episode(0, 6, language_instruction="fold the towel", file_path=""), dataset)
