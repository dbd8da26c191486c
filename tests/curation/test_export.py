"""Export of recorded episodes: which ones are exported, and that no frame is rendered twice."""

import json
import shutil
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from human_demos import NOOPS, add_tremor, write_human_demos

from rlgen.core.errors import UserError
from rlgen.core.stats import SuccessRate
from rlgen.curation import render, validate
from rlgen.curation.compare import read_source
from rlgen.curation.export import ExportOptions, export_paths
from rlgen.curation.render import RenderOptions
from rlgen.curation.replay_check import check_by_replay, has_placeholders, replay_problems, replay_sample
from rlgen.curation.validate import Validator
from rlgen.data import dataset
from rlgen.data.card import read_card
from rlgen.data.dataset import FORMATS, VIDEO_FORMATS, dataset_format, open_dataset
from rlgen.data.formats.hdf5.format import episode_name
from rlgen.data.formats.hdf5.reader import read_demos
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.data.images import encode_frames, rotate_180
from rlgen.data.index import FIXTURES, read_fixtures, read_initial_states, read_provenance
from rlgen.data.metrics.smoothness import noop_mask
from rlgen.data.verify import verify_dataset
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import replay
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.rendering.renderer import make_renderer
from rlgen.libero.scenes.assets import LABELS, AssetSource, fingerprint
from rlgen.libero.scenes.demo_info import demo_file_info

SIZE = 32
ASSETS = {"label": "test"}


class Killed(BaseException):
    """Passes through every `except Exception`, as a signal would."""


@pytest.fixture(scope="module", autouse=True)
def each_replay_runs_once():
    """Replays are deterministic, so the exports of this module share them."""
    results = {}

    def replay_once(scene, initial_state, actions):
        key = (initial_state.tobytes(), actions.dtype.str, actions.tobytes())
        if key not in results:
            results[key] = replay(scene, initial_state, actions)
        states, rewards = results[key]
        return states.copy(), rewards.copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validate, "replay", replay_once)
        yield


@pytest.fixture(scope="module")
def recorded(placeholder_scene):
    """Two successes with no-ops and otherwise a trembling hand, in `exact` physics."""
    trials = make_trials(2, 50, seed=8)
    actor = ScriptedExpert(placeholder_scene, clean=True)
    [episodes] = run_episodes(placeholder_scene, actor, trials, split="heldout", source="scripted", width=2)
    return [add_tremor(placeholder_scene, episode) for episode in episodes]


@pytest.fixture(scope="module")
def demos(tmp_path_factory, placeholder_scene, recorded):
    """A file of four episodes: two good ones, one that failed, one that fails when it is replayed."""
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


class FakeRenderPool(list):
    """A list of the lengths of rendered episodes, as noise from their states; killed when the limit is reached."""

    limit: int | None = None
    is_open = False

    def open(self, scene, renderer, *, image_size, workers):
        self.size, self.is_open = image_size, True
        return self

    def close(self):
        self.is_open = False

    def render(self, states, fixtures):
        if self.limit is not None and len(self) >= self.limit:
            raise Killed
        self.append(len(states))
        noise = np.random.default_rng(abs(int(1e9 * states[0, 1])))
        return noise.integers(0, 256, (len(states), 2, self.size, self.size, 3), np.uint8)


@pytest.fixture
def fake_rendering(monkeypatch):
    """Images that cost nothing."""
    pool = FakeRenderPool()
    monkeypatch.setattr(render, "RenderPool", pool.open)
    return pool


def run(demos, out, scene, *, formats=("rlds",), **validator):
    rendering = RenderOptions("fast", SIZE, 1)
    options = ExportOptions(out, tuple(formats), shards=2, rendering=rendering, validator=Validator(**validator))
    return export_paths([demos], options, lambda task: scene, ASSETS, lambda *progress: None)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, demos, placeholder_scene):
    """The datasets of one export, in every format."""
    folders = run(demos, tmp_path_factory.mktemp("out"), placeholder_scene, formats=FORMATS)
    return dict(zip(FORMATS, folders, strict=True))


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


def test_images_show_the_state_before_the_action_and_are_rotated(exported, recorded, placeholder_scene):
    """Rendered here one by one; JPEG is off by a few shades."""
    got = open_dataset(exported["hdf5"])[1]
    states, _ = replay(placeholder_scene, recorded[1].initial_state, got.action)
    renderer = make_renderer("fast", placeholder_scene.visual_model, image_size=SIZE)
    for step in (0, len(got) // 2, len(got) - 1):
        qpos = states[step, 1 : 1 + placeholder_scene.model.nq]
        for rendered, stored in zip(rotate_180(renderer.render(qpos)), (got.image, got.wrist_image), strict=True):
            difference = np.abs(rendered.astype(int) - stored[step])
            assert difference.mean() < 6
            assert difference.mean() < np.abs(rotate_180(rendered).astype(int) - stored[step]).mean() / 2


def test_all_formats_hold_the_same_episodes(exported):
    first = open_dataset(exported["rlds"])
    assert len(first) > 1 and len(FORMATS) == len(exported) > 1
    for kind in FORMATS[1:]:
        for one, two in zip(first, open_dataset(exported[kind]), strict=True):
            for name in ("state", "joint_state", "action"):
                np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
            assert (one.file_path, one.language_instruction) == (two.file_path, two.language_instruction)
            np.testing.assert_array_equal(np.asarray(one.image), np.asarray(two.image))
            np.testing.assert_array_equal(np.asarray(one.wrist_image), np.asarray(two.wrist_image))


def test_every_dataset_is_sound_and_its_card_states_its_origin(exported, placeholder_scene):
    for folder in exported.values():
        assert verify_dataset(folder) == []
        card = read_card(folder)
        facts = card["replay"]
        assert (facts["recorded"], facts["exported"], facts["succeeded"]) == (4, 2, 2)
        assert facts["left out"] == {
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


def test_initial_states_are_stored_and_success_can_be_measured_again(exported, recorded, placeholder_scene):
    for folder in exported.values():
        for state, given in zip(read_initial_states(folder, 2), recorded, strict=True):
            np.testing.assert_array_equal(state, given.initial_state)
        assert not (folder / FIXTURES).exists() and read_fixtures(folder, 2) == [None, None]
    found = read_source(exported["array_record"], lambda task: placeholder_scene, replay_episodes=True)
    assert found.replay == SuccessRate(2, 2) == read_source(exported["rlds"], lambda task: None).replay


def test_human_demonstrations_are_identified_by_their_actions(recorded):
    """Their initial states are none of the benchmark's."""
    human = [replace(episode, initial_index=-1, seed=-1, source="human") for episode in recorded]
    names = [episode_name(episode) for episode in human]
    assert len(set(names)) == 2 and all("/human/heldout-" in name for name in names)
    single = replace(human[0], actions=human[0].actions.astype(np.float32))
    assert episode_name(single) == names[0]


def test_the_hdf5_files_are_demonstrations_again(exported, placeholder_scene):
    [file] = exported["hdf5"].glob("*.hdf5")
    assert file.name == f"{placeholder_scene.task.name}_demo.hdf5"
    for episode, pair in zip(read_demos(file), open_dataset(exported["rlds"]), strict=True):
        assert episode.success and episode.task == placeholder_scene.task.id
        np.testing.assert_array_equal(episode.actions, pair.action)
        _, rewards = replay(placeholder_scene, episode.initial_state, episode.actions)
        assert rewards[-1] == 1


def test_failed_replays_are_labeled_on_request(tmp_path, fake_rendering, demos, placeholder_scene):
    [folder] = run(demos, tmp_path, placeholder_scene, mode="label")
    facts = read_card(folder)["replay"]
    assert (facts["exported"], facts["succeeded"]) == (3, 2)
    assert facts["failed but kept"] == [f"{placeholder_scene.task.name}_demo.hdf5: demo_3"]
    assert len(open_dataset(folder)) == 3
    failed = "the goal is not reached when it is replayed"
    assert [origin.label for origin in read_provenance(folder, 3)] == ["", "", failed]


def test_with_noops_the_dataset_is_named_by_its_suite(tmp_path, fake_rendering, demos, recorded, placeholder_scene):
    [folder] = run(demos, tmp_path, placeholder_scene, keep_noops=True, mode="off")
    assert folder.parent.name == "libero_object"
    first = open_dataset(folder)[0]
    np.testing.assert_array_equal(first.action, recorded[0].actions.astype(np.float32))
    assert noop_mask(first.action).sum() >= NOOPS.stop - NOOPS.start
    assert read_card(folder)["replay"]["how"] == "not replayed"


def test_an_interrupted_export_resumes_without_replaying_or_rendering_again(
    tmp_path, demos, placeholder_scene, monkeypatch, fake_rendering
):
    """Killed before the second shard is rendered; episodes of the first are neither replayed nor rendered again."""
    [whole] = run(demos, tmp_path / "whole", placeholder_scene)
    num_rendered = len(fake_rendering)
    fake_rendering.limit = num_rendered + 1
    with pytest.raises(Killed):
        run(demos, tmp_path / "interrupted", placeholder_scene)
    assert not fake_rendering.is_open
    fake_rendering.limit = None
    assert (tmp_path / "interrupted/.libero_object.checked.jsonl").is_file()
    monkeypatch.setattr(Validator, "_validate", lambda *arguments: pytest.fail("validated again"))
    [folder] = run(demos, tmp_path / "interrupted", placeholder_scene)
    assert num_rendered == 2 and len(fake_rendering) == 4
    contents = [{path.name: path.read_bytes() for path in one.iterdir()} for one in (whole, folder)]
    assert contents[0] == contents[1]
    assert not (tmp_path / "interrupted/.libero_object.checked.jsonl").exists()


def test_every_episode_says_where_it_comes_from(exported, recorded, placeholder_scene):
    for folder in exported.values():
        origins = read_provenance(folder, 2)
        for origin, episode in zip(origins, recorded, strict=True):
            assert (origin.task, origin.source, origin.split) == (placeholder_scene.task.id, "scripted", "heldout")
            assert (origin.initial_index, origin.seed) == (episode.initial_index, episode.seed)
            assert (origin.physics, origin.renderer, origin.mujoco) == ("exact", "fast", mujoco.__version__)
            assert origin.label is None  # none was kept in spite of its replay


def test_a_replayed_sample_keeps_to_the_stored_states(exported, placeholder_scene):
    for kind in ("array_record", "hdf5"):
        results = replay_sample(exported[kind], 5, lambda task: placeholder_scene)
        assert [result.index for result in results] == [0, 1]
        assert all(result.deviation == 0 and result.success for result in results)
        assert replay_problems(exported[kind], results) == []


def test_an_episode_whose_actions_do_not_lead_to_its_states_is_found(exported, placeholder_scene, tmp_path):
    """Its start is another one: what a hash of the files cannot tell if it was so when they were written."""
    folder = shutil.copytree(exported["rlds"], tmp_path / "moved")
    starts = json.loads((folder / "initial_states.json").read_text())
    starts[1][1] += 0.01  # the first joint, rad
    (folder / "initial_states.json").write_text(json.dumps(starts))
    # One of two: a sample of one takes the first.
    assert replay_problems(folder, replay_sample(folder, 1, lambda task: placeholder_scene)) == []
    [problem] = replay_problems(folder, replay_sample(folder, 2, lambda task: placeholder_scene))
    assert f"{open_dataset(folder)[1].file_path}: its replay leaves the stored path at step 0, by up to" in problem
    origins = json.loads((folder / "provenance.json").read_text())
    origins[1]["mujoco"] = "3.0.0"
    (folder / "provenance.json").write_text(json.dumps(origins))
    [problem] = replay_problems(folder, replay_sample(folder, 2, lambda task: placeholder_scene))
    assert problem.endswith(f"it was computed with MuJoCo 3.0.0, here is {mujoco.__version__}")
    (folder / "provenance.json").write_text(json.dumps(origins[:1]))
    assert any("provenance.json: of 1 episodes, the dataset has 2" in problem for problem in verify_dataset(folder))


def test_episodes_of_other_object_assets_are_no_damage(exported, placeholder_scene, tmp_path):
    folder = shutil.copytree(exported["rlds"], tmp_path / "moved")
    starts = json.loads((folder / "initial_states.json").read_text())
    starts[0][1] += 0.01
    (folder / "initial_states.json").write_text(json.dumps(starts))
    (tmp_path / "assets").mkdir()
    assets = AssetSource("folder", tmp_path / "assets", "LIBERO assets")
    card = json.loads((folder / "dataset_card.json").read_text())
    for theirs, message in (("another", "of other object assets"), (fingerprint(assets.path), None)):
        card["assets"] = {"label": LABELS["placeholder"], "fingerprint": theirs}
        (folder / "dataset_card.json").write_text(json.dumps(card))
        assert has_placeholders(folder)
        if message is None:
            assert len(check_by_replay(folder, 1, lambda task: placeholder_scene, assets)[1]) == 1
        else:
            with pytest.raises(UserError, match=f"{message} .*than {assets.path}"):
                check_by_replay(folder, 1, lambda task: placeholder_scene, assets)
    assert not has_placeholders(exported["rlds"])


def test_without_initial_states_nothing_can_be_replayed(exported, placeholder_scene, tmp_path):
    folder = shutil.copytree(exported["rlds"], tmp_path / "others")
    (folder / "initial_states.json").unlink()
    with pytest.raises(UserError, match="the initial state of no episode is known; leave --replay out"):
        replay_sample(folder, 1, lambda task: placeholder_scene)


def test_no_format_gets_its_images_from_a_video(demos, placeholder_scene, fake_rendering, tmp_path):
    """Videos come last; where there is nothing else, the images are rendered for each of them."""
    folders = run(demos, tmp_path, placeholder_scene, formats=("lerobot_h264", "hdf5", "rlds"))
    _, raw, rlds = map(open_dataset, folders)
    assert [one.image.data for one in rlds] == [encode_frames(np.asarray(one.image)).data for one in raw]
    assert len(fake_rendering) == 2
    kinds = (VIDEO_FORMATS[0], VIDEO_FORMATS[-1])
    options = ExportOptions(tmp_path, kinds, shards=2, rendering=RenderOptions("fast", 64, 1), overwrite=True)
    folders = export_paths([demos], options, lambda task: placeholder_scene, ASSETS, lambda *progress: None)
    assert tuple(map(dataset_format, folders)) == kinds and len(fake_rendering) == 2 + 4


def test_a_second_export_of_the_same_episodes_renders_nothing(demos, placeholder_scene, exported, fake_rendering):
    out = exported["rlds"].parents[1]
    assert run(demos, out, placeholder_scene, formats=FORMATS) == list(exported.values())
    assert len(fake_rendering) == 0


def test_episodes_that_cannot_be_exported_are_one_line(tmp_path, placeholder_scene, recorded):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no HDF5 file of episodes in it and no run"):
        run(tmp_path / "empty", tmp_path / "out", placeholder_scene)
    human_file = write_human_demos(tmp_path / "x_demo.hdf5", placeholder_scene, recorded[:1])
    with pytest.raises(UserError, match="replay it with `rlgen demos import"):
        run(human_file, tmp_path / "out", placeholder_scene)
    failed = replace(recorded[0], success=False)
    path = tmp_path / "failed_demo.hdf5"
    write_demos(path, [failed], [Observer(placeholder_scene)(failed.states).robot], demo_file_info(placeholder_scene))
    with pytest.raises(UserError, match=r"none of 1 episodes can be exported: the goal was not reached"):
        run(path, tmp_path / "out", placeholder_scene)
    with pytest.raises(UserError, match="formats rlds, zip: expected some of"):
        ExportOptions(tmp_path, ("rlds", "zip"))
    assert dataset.FORMATS == FORMATS
