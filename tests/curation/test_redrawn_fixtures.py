"""Episodes with redrawn fixtures on their way: recording, files, export, replay, merge and import."""

from dataclasses import replace

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.core.stats import SuccessRate
from rlgen.curation.compare import read_source
from rlgen.curation.export import ExportOptions, export_paths
from rlgen.curation.merge import MergeOptions, merge_datasets
from rlgen.curation.render import RenderOptions
from rlgen.data.card import read_card
from rlgen.data.dataset import FORMATS, open_dataset
from rlgen.data.formats.hdf5.reader import read_demos, read_model_files
from rlgen.data.images import rotate_180
from rlgen.data.index import read_fixtures
from rlgen.data.verify import verify_dataset
from rlgen.demos.imports.importer import import_demonstrations, import_for_run
from rlgen.demos.imports.options import ImportOptions
from rlgen.demos.record import Recorder, demonstration_file
from rlgen.libero.envs.replay import replay
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.tasks.suites import find_task

TASK = "libero_goal/0"  # opens a drawer of a cabinet
SIZE = 32
NAMES = ("demo_0", "demo_1")


@pytest.fixture(scope="module")
def scene(placeholder_assets, cache):
    return load_scene(TASK, placeholder_assets, cache)


@pytest.fixture(scope="module")
def recorder(tmp_path_factory) -> Recorder:
    out = tmp_path_factory.mktemp("demos")
    return Recorder(out, 2, 4, 1, "heldout", seed=3, physics="exact", clean=True, fixtures="redraw")


@pytest.fixture(scope="module")
def file(recorder, placeholder_assets, cache):
    """Two successes of the scripted expert, which reads where the cabinet stands."""
    task = find_task(TASK)
    log: list[str] = []
    assert recorder.record([task], placeholder_assets, cache, overwrite=False, log=log.append) == [], log
    return demonstration_file(recorder.out, task)


@pytest.fixture(scope="module")
def exported(file, scene, tmp_path_factory):
    """The datasets of one export, in every format."""
    options = ExportOptions(tmp_path_factory.mktemp("out"), FORMATS, rendering=RenderOptions("fast", SIZE, 1))
    folders = export_paths([file], options, lambda task: scene, {"label": "test"}, lambda *progress: None)
    return dict(zip(FORMATS, folders, strict=True))


def test_a_recording_has_the_draw_of_each_trial_and_replays_with_it_alone(file, scene, recorder):
    episodes = read_demos(file)
    assert len(episodes) == 2
    for episode in episodes:
        np.testing.assert_array_equal(episode.fixtures, scene.draw_fixtures("redraw", episode.seed))
        states, rewards = replay(scene.placed(episode.fixtures), episode.initial_state, episode.actions)
        # Seconds are added up in chunks of another length.
        np.testing.assert_array_equal(states[:, 1:], episode.states[:, 1:])
        assert rewards[-1] == 1
        elsewhere, _ = replay(scene, episode.initial_state, episode.actions)
        assert np.abs(elsewhere - episode.states).max() > 1e-4


def test_a_recording_with_other_fixtures_is_not_taken_for_done(file, recorder, placeholder_assets, cache):
    fixed = replace(recorder, fixtures="fixed")
    with pytest.raises(UserError, match="recorded with fixtures redraw, not fixed"):
        fixed.record([find_task(TASK)], placeholder_assets, cache, overwrite=False, log=print)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_dataset_says_where_the_fixtures_stood_and_replays(exported, file, scene, kind):
    folder = exported[kind]
    assert verify_dataset(folder) == []
    assert read_card(folder)["fixtures"] == "redrawn in 2 of 2 episodes; fixtures.json"
    for poses, episode in zip(read_fixtures(folder, 2), read_demos(file), strict=True):
        np.testing.assert_array_equal(poses, episode.fixtures)
    assert read_source(folder, lambda task: scene, replay_episodes=True).replay == SuccessRate(2, 2)


def test_images_show_the_fixtures_of_the_episode(exported, scene):
    [demos] = exported["hdf5"].glob("*.hdf5")
    for episode, pair in zip(read_demos(demos), open_dataset(exported["hdf5"]), strict=True):
        with RenderPool(scene, image_size=SIZE) as pool:
            moved = pool.render(episode.states[:1], fixtures=episode.fixtures)[0, 0]
            fixed = pool.render(episode.states[:1])[0, 0]
        # JPEG is off by a few shades; the formats share images.
        differences = [np.abs(rotate_180(image).astype(int) - pair.image[0]).mean() for image in (moved, fixed)]
        assert differences[0] < differences[1]


def test_a_merge_and_an_import_keep_the_fixtures(exported, file, scene, tmp_path):
    expected = [episode.fixtures for episode in read_demos(file)]
    options = MergeOptions(tmp_path / "merged", formats=("hdf5", "rlds"))
    hdf5, merged = merge_datasets([exported["hdf5"]], options, lambda *progress: None)
    for folder in (hdf5, merged):
        np.testing.assert_array_equal(read_fixtures(folder, 2), expected)
    [again] = hdf5.glob("*.hdf5")
    for one, two in zip(read_model_files(again, NAMES), read_model_files(file, NAMES), strict=True):
        assert one == two
    options = ImportOptions(drop_noops=False)
    for name, source in (("rlds", merged), ("hdf5", file)):
        out = tmp_path / name
        totals = import_demonstrations(source, out, options, lambda task: scene, assets="test")
        assert (totals["kept"], totals["failed"], totals["bad"]) == (2, 0, 0)
        [imported] = out.rglob("*.hdf5")
        np.testing.assert_array_equal([episode.fixtures for episode in read_demos(imported)], expected)
    import_for_run(file, tmp_path / "run.hdf5", scene, episodes=2)
    np.testing.assert_array_equal([episode.fixtures for episode in read_demos(tmp_path / "run.hdf5")], expected)
