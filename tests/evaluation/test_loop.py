import json

import numpy as np
import pytest

from rlgen.core.types import Episode
from rlgen.evaluation.loop import EpisodeFolder, run_trials
from rlgen.libero.tasks.suites import HORIZONS

OPTIONS = {"seed": 3, "split": "heldout", "source": "bc", "threads": 2}


class Noise:
    """An actor that draws its actions from its rows' seeds."""

    def reset(self, seeds):
        self.random = [np.random.default_rng(seed) for seed in seeds]

    def __call__(self, observation):
        return np.stack([random.uniform(-1, 1, (4, 7)) for random in self.random])


class Interrupted(EpisodeFolder):
    """A folder whose second wave is lost."""

    def add(self, trials, episodes):
        if trials[0] > 0:
            raise KeyboardInterrupt
        super().add(trials, episodes)


@pytest.fixture
def short_scene(placeholder_scene, monkeypatch):
    monkeypatch.setitem(HORIZONS, placeholder_scene.task.suite, 8)
    return placeholder_scene


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_interrupted_folder_is_completed_to_the_same_bytes(short_scene, tmp_path):
    run_trials(short_scene, Noise(), 5, EpisodeFolder(tmp_path / "whole"), width=2, **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        run_trials(short_scene, Noise(), 5, Interrupted(tmp_path / "broken"), width=2, **OPTIONS)
    assert sorted(content(tmp_path / "broken")) == ["00000.npz", "00001.npz", "wave-00000.json"]
    resumed, waves = EpisodeFolder(tmp_path / "broken"), []
    run_trials(short_scene, Noise(), 5, resumed, width=2, on_wave=lambda: waves.append(resumed.tried), **OPTIONS)
    assert waves == [4, 5] and resumed.tried == 5
    assert content(tmp_path / "broken") == content(tmp_path / "whole")
    assert [episode.initial_index for episode in resumed.load()] == list(range(5))
    record = json.loads((tmp_path / "broken/wave-00002.json").read_text())
    assert record == {"tried": 2, "episodes": ["00002.npz", "00003.npz"], "successes": 0}


def test_a_finished_folder_starts_no_environment(tmp_path):
    folder = EpisodeFolder(tmp_path)
    folder.add([0, 1], [make_episode(True), make_episode(False)])
    run_trials(None, None, 2, EpisodeFolder(tmp_path), **OPTIONS)


def make_episode(success: bool) -> Episode:
    states = np.zeros((3, 5))
    return Episode("s/t", "p", "bc", 0, "train", 0, states[0], states, np.zeros((2, 7)), np.zeros(2), success)


def test_a_folder_of_successes_is_full_with_as_many_as_are_wanted(tmp_path):
    folder = EpisodeFolder(tmp_path, wanted=2)
    folder.add([0, 1], [make_episode(True), make_episode(False)])
    assert not folder.full and folder.names == ["00000.npz"]
    folder.add([2, 3], [make_episode(True), make_episode(True)])
    assert folder.full and folder.names == ["00000.npz", "00002.npz"] and folder.tried == 4
    # The third success is stored with its wave, and stays out of what is read.
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["00000.npz", "00002.npz", "00003.npz"]
    again = EpisodeFolder(tmp_path, wanted=2)
    assert (again.full, again.names, again.tried) == (True, folder.names, 4)


class Starts(EpisodeFolder):
    """A sink that keeps which initial states were started from."""

    def add(self, trials, episodes):
        super().add(trials, episodes)
        self.starts = [*getattr(self, "starts", []), *(episode.initial_index for episode in episodes)]


def test_trials_may_begin_behind_the_first_initial_states_and_go_round(short_scene, tmp_path):
    sink = Starts(tmp_path)
    run_trials(short_scene, Noise(), 3, sink, offset=48, width=3, **OPTIONS)
    assert sink.starts == [48, 49, 0]
