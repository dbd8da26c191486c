"""Demonstrations as humans would have recorded them."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from human_demos import add_tremor, write_human_demos

from rlgen.core.types import Episode
from rlgen.data.formats.hdf5.guard import GuardedReader
from rlgen.demos.imports import importer
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.rollouts import make_trials, run_episodes


@pytest.fixture(scope="session")
def guard() -> Iterator[GuardedReader]:
    with GuardedReader() as reader:
        yield reader


@pytest.fixture(autouse=True)
def shared_guard(monkeypatch, guard):
    """Lets all imports share one guard: starting its process takes longer than reading a small file."""
    monkeypatch.setattr(importer, "GuardedReader", lambda: nullcontext(guard))


@pytest.fixture(scope="session")
def recorded(placeholder_scene) -> list[Episode]:
    """Returns two successes."""
    trials = make_trials(2, 50, seed=3)
    [episodes] = run_episodes(
        placeholder_scene,
        ScriptedExpert(placeholder_scene, clean=True),
        trials,
        split="heldout",
        source="scripted",
        width=2,
    )
    return [add_tremor(placeholder_scene, episode) for episode in episodes]


@pytest.fixture
def human_demos(tmp_path, placeholder_scene, recorded) -> Path:
    """Returns a folder with one file of two demonstrations."""
    suite = tmp_path / "human" / placeholder_scene.task.suite
    write_human_demos(suite / f"{placeholder_scene.task.name}_demo.hdf5", placeholder_scene, recorded)
    return tmp_path / "human"
