"""Demonstrations as people would have recorded them."""

from pathlib import Path

import pytest
from peoples_files import tremble, write_peoples

from rlgen.core.types import Episode
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.rollouts import make_trials, run_episodes


@pytest.fixture(scope="session")
def recorded(placeholder_scene) -> list[Episode]:
    """Two successes."""
    trials = make_trials(2, 50, seed=3)
    [episodes] = run_episodes(
        placeholder_scene,
        ScriptedExpert(placeholder_scene, clean=True),
        trials,
        split="heldout",
        source="scripted",
        width=2,
    )
    return [tremble(placeholder_scene, episode) for episode in episodes]


@pytest.fixture
def peoples(tmp_path, placeholder_scene, recorded) -> Path:
    """A folder with one file of two demonstrations."""
    suite = tmp_path / "people" / placeholder_scene.task.suite
    write_peoples(suite / f"{placeholder_scene.task.name}_demo.hdf5", placeholder_scene, recorded)
    return tmp_path / "people"
