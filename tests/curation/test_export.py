"""Recorded episodes as datasets: what is exported, what not, and that no frame is drawn twice."""

from dataclasses import replace

import numpy as np
import pytest
from human_demos import NOOPS, add_tremor, write_human_demos

from rlgen.core.errors import UserError
from rlgen.core.stats import SuccessRate
from rlgen.curation import render
from rlgen.curation.compare import read_source
from rlgen.curation.export import ExportOptions, export_paths
from rlgen.curation.render import RenderOptions
from rlgen.curation.validate import Validator
from rlgen.data import dataset
from rlgen.data.card import read_card
from rlgen.data.dataset import FORMATS, open_dataset
from rlgen.data.formats.hdf5.format import episode_name
from rlgen.data.formats.hdf5.reader import read_demos
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.data.images import rotate_180
from rlgen.data.index import read_initial_states
from rlgen.data.metrics.smoothness import noop_mask
from rlgen.data.verify import verify_dataset
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import replay
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.rendering.renderer import make_renderer
from rlgen.libero.scenes.demo_info import demo_file_info

SIZE = 32
ASSETS = {"label": "test"}


class Killed(BaseException):
    """Passes through every `except Exception`, as a signal would."""


@pytest.fixture(scope="module")
def recorded(placeholder_scene):
    """Two successes with no-ops, trembling otherwise, in `exact` physics."""
    trials = make_trials(2, 50, seed=8)
    actor = ScriptedExpert(placeholder_scene, clean=True)
    [episodes] = run_episodes(placeholder_scene, actor, trials, split="heldout", source="scripted", width=2)
    return [add_tremor(placeholder_scene, episode) for episode in episodes]


@pytest.fixture(scope="module")
def demos(tmp_path_factory, placeholder_scene, recorded):
    """A file of four: two good ones, one that failed, one that fails when it is replayed."""
    folder = tmp_path_factory.mktemp("demos")
    failed = replace(recorded[0], success=False, rewards=np.zeros(len(recorded[0])), seed=100)
    still = recorded[1].actions.copy()
    still[:, 0] = 0.01
    wrong = replace(recorded[1], actions=still, seed=101)
    episodes = [recorded[0], failed, recorded[1], wrong]
    robots = [Observer(placeholder_scene)(episode.states).robot for episode in episodes]
    path = folder / placeholder_scene.task.suite / f"{placeholder_scene.task.name}_demo.hdf5"
    path.parent.mkdir()
    write_demos(path, episodes, robots, demo_file_info(placeholder_scene))
    return folder


class Sketches(list):
    """Lengths of the episodes that were drawn, as noise from their states; with a limit it is killed there."""

    limit: int | None = None

    def pool(self, scene, renderer, *, image_size, workers):
        self.size = image_size
        return self

    def close(self):
        pass

    def render(self, states):
        if self.limit is not None and len(self) >= self.limit:
            raise Killed
        self.append(len(states))
        noise = np.random.default_rng(abs(int(1e9 * states[0, 1])))
        return noise.integers(0, 256, (len(states), 2, self.size, self.size, 3), np.uint8)


@pytest.fixture
def sketched(monkeypatch):
    """Pictures that cost nothing."""
    sketches = Sketches()
    monkeypatch.setattr(render, "RenderPool", sketches.pool)
    return sketches


def run(demos, out, scene, *, formats=("rlds",), **validator):
    rendering = RenderOptions("fast", SIZE, 1)
    options = ExportOptions(out, tuple(formats), shards=2, rendering=rendering, validator=Validator(**validator))
    return export_paths([demos], options, lambda task: scene, ASSETS, lambda *progress: None)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, demos, placeholder_scene):
    """Every format of one export."""
    made = run(demos, tmp_path_factory.mktemp("out"), placeholder_scene, formats=FORMATS)
    return dict(zip(FORMATS, made, strict=True))


def test_what_is_exported_was_replayed_without_its_noops(exported, recorded, placeholder_scene):
    read = open_dataset(exported["rlds"])
    assert len(read) == 2
    for got, given in zip(read, recorded, strict=True):
        actions = given.actions.astype(np.float32)
        kept = actions[~noop_mask(actions)]
        assert len(actions) - len(kept) >= NOOPS.stop - NOOPS.start
        np.testing.assert_array_equal(got.action, kept)
        states, rewards = replay(placeholder_scene, given.initial_state, got.action)
        assert rewards[-1] == 1
        expected = Observer(placeholder_scene)(states).robot
        np.testing.assert_array_equal(got.state, expected.vla_state[:-1].astype(np.float32))


def test_images_are_of_the_state_before_the_action_and_turned(exported, recorded, placeholder_scene):
    """Drawn here one by one; JPEG is off by a few shades."""
    got = open_dataset(exported["hdf5"])[1]
    states, _ = replay(placeholder_scene, recorded[1].initial_state, got.action)
    view = make_renderer("fast", placeholder_scene.visual_model, image_size=SIZE)
    for step in (0, len(got) // 2, len(got) - 1):
        qpos = states[step, 1 : 1 + placeholder_scene.model.nq]
        for drawn_one, exported_one in zip(rotate_180(view.render(qpos)), (got.image, got.wrist_image), strict=True):
            difference = np.abs(drawn_one.astype(int) - exported_one[step])
            assert difference.mean() < 6
            assert difference.mean() < np.abs(drawn_one[::-1, ::-1].astype(int) - exported_one[step]).mean() / 2


def test_all_formats_hold_the_same_episodes(exported):
    first = open_dataset(exported["rlds"])
    for kind in FORMATS[1:]:
        for one, two in zip(first, open_dataset(exported[kind]), strict=True):
            for name in ("state", "joint_state", "action"):
                np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
            assert (one.file_path, one.language_instruction) == (two.file_path, two.language_instruction)
            np.testing.assert_array_equal(np.asarray(one.image), np.asarray(two.image))
            np.testing.assert_array_equal(np.asarray(one.wrist_image), np.asarray(two.wrist_image))


def test_every_dataset_is_sound_and_its_card_tells_where_it_comes_from(exported, placeholder_scene):
    for folder in exported.values():
        assert verify_dataset(folder) == []
        card = read_card(folder)
        told = card["replay"]
        assert (told["recorded"], told["exported"], told["succeeded"]) == (4, 2, 2)
        assert told["left out"] == {
            "the goal was not reached when it was recorded": 1,
            "the goal is not reached when it is replayed": 1,
        }
        assert (
            list(card["tasks"]) == [placeholder_scene.task.id]
            and card["tasks"][placeholder_scene.task.id]["episodes"] == 2
        )
        assert card["quality"]["noops"] == 0 and card["quality"]["episodes"] == 2
    assert exported["rlds"].parent.name == "libero_object_no_noops"
    assert exported["hdf5"].name == "libero_object"


def test_the_initial_states_lie_beside_it_and_success_can_be_measured_again(exported, recorded, placeholder_scene):
    for folder in exported.values():
        for state, given in zip(read_initial_states(folder, 2), recorded, strict=True):
            np.testing.assert_array_equal(state, given.initial_state)
    found = read_source(exported["array_record"], lambda task: placeholder_scene, replay_episodes=True)
    assert found.replay == SuccessRate(2, 2) == read_source(exported["rlds"], lambda task: None).replay


def test_episodes_of_people_are_told_apart_by_what_they_did(recorded):
    """They begin at none of the benchmark's states."""
    people = [replace(episode, initial_index=-1, seed=-1, source="human") for episode in recorded]
    names = [episode_name(episode) for episode in people]
    assert len(set(names)) == 2 and all("/human/heldout-" in name for name in names)
    single = replace(people[0], actions=people[0].actions.astype(np.float32))
    assert episode_name(single) == names[0]


def test_the_hdf5_is_demonstrations_again(exported, placeholder_scene):
    [file] = exported["hdf5"].glob("*.hdf5")
    assert file.name == f"{placeholder_scene.task.name}_demo.hdf5"
    for episode, pair in zip(read_demos(file), open_dataset(exported["rlds"]), strict=True):
        assert episode.success and episode.task == placeholder_scene.task.id
        np.testing.assert_array_equal(episode.actions, pair.action)
        _, rewards = replay(placeholder_scene, episode.initial_state, episode.actions)
        assert rewards[-1] == 1


def test_failed_replays_are_labelled_where_that_is_wanted(tmp_path, sketched, demos, placeholder_scene):
    [folder] = run(demos, tmp_path, placeholder_scene, mode="label")
    told = read_card(folder)["replay"]
    assert (told["exported"], told["succeeded"]) == (3, 2)
    assert told["failed but kept"] == [f"{placeholder_scene.task.name}_demo.hdf5: demo_3"]
    assert len(open_dataset(folder)) == 3


def test_noops_stay_and_the_name_does_not_deny_it(tmp_path, sketched, demos, recorded, placeholder_scene):
    [folder] = run(demos, tmp_path, placeholder_scene, keep_noops=True, mode="off")
    assert folder.parent.name == "libero_object"
    first = open_dataset(folder)[0]
    np.testing.assert_array_equal(first.action, recorded[0].actions.astype(np.float32))
    assert noop_mask(first.action).sum() >= NOOPS.stop - NOOPS.start
    assert read_card(folder)["replay"]["how"] == "not replayed"


def test_interrupted_it_goes_on_without_replaying_or_drawing_again(
    tmp_path, demos, placeholder_scene, monkeypatch, sketched
):
    """Killed when the second shard is about to be drawn; the first is neither judged nor drawn again."""
    [whole] = run(demos, tmp_path / "whole", placeholder_scene)
    drawn_whole = len(sketched)
    sketched.limit = drawn_whole + 1
    with pytest.raises(Killed):
        run(demos, tmp_path / "broken", placeholder_scene)
    sketched.limit = None
    assert (tmp_path / "broken/.libero_object.checked.jsonl").is_file()
    monkeypatch.setattr(Validator, "_validate", lambda *arguments: pytest.fail("validated again"))
    [folder] = run(demos, tmp_path / "broken", placeholder_scene)
    assert drawn_whole == 2 and len(sketched) == 4
    contents = [{path.name: path.read_bytes() for path in made.iterdir()} for made in (whole, folder)]
    assert contents[0] == contents[1]
    assert not (tmp_path / "broken/.libero_object.checked.jsonl").exists()


def test_a_second_export_of_the_same_draws_nothing(demos, placeholder_scene, exported, sketched):
    out = exported["rlds"].parents[1]
    assert run(demos, out, placeholder_scene, formats=FORMATS) == list(exported.values())
    assert len(sketched) == 0


def test_what_cannot_be_exported_is_one_line(tmp_path, placeholder_scene, recorded):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no HDF5 file of episodes in it and no run"):
        run(tmp_path / "empty", tmp_path / "out", placeholder_scene)
    people = write_human_demos(tmp_path / "x_demo.hdf5", placeholder_scene, recorded[:1])
    with pytest.raises(UserError, match="replay it with `rlgen demos import"):
        run(people, tmp_path / "out", placeholder_scene)
    failed = replace(recorded[0], success=False)
    path = tmp_path / "failed_demo.hdf5"
    write_demos(path, [failed], [Observer(placeholder_scene)(failed.states).robot], demo_file_info(placeholder_scene))
    with pytest.raises(UserError, match=r"none of 1 episodes can be exported: the goal was not reached"):
        run(path, tmp_path / "out", placeholder_scene)
    with pytest.raises(UserError, match="formats rlds, zip: expected some of"):
        ExportOptions(tmp_path, ("rlds", "zip"))
    assert dataset.FORMATS == FORMATS
