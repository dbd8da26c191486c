"""The facts on cards: which policies and resets episodes are from, and which tasks are not there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlgen.configs.presets import expert_presets
from rlgen.curation.card import replay_facts, reset_facts, source_facts
from rlgen.curation.sources import EpisodeFile, find_episode_files
from rlgen.curation.validate import Candidate, Validation
from rlgen.libero.tasks.suites import Task, find_task
from rlgen.training.run import create_run

pytestmark = pytest.mark.unit
ASSETS = {"kind": "folder", "path": "/assets", "label": "x"}
TASK, OTHER = find_task("libero_goal/7"), find_task("libero_goal/2")


def candidates(file: EpisodeFile, split: str, problems: list[str]) -> list[Candidate]:
    """Episodes of a file, one for each problem, which is empty where an episode is exported."""
    state = np.zeros(1)
    return [
        Candidate(file, str(index), split, index, index, state, None, Validation(str(index), 10, 0, problem))
        for index, problem in enumerate(problems)
    ]


def run_of(folder: Path, task: Task, resets: str, successes: int) -> EpisodeFile:
    """A run that has collected so many episodes out of ten trials."""
    run = create_run(folder, replace(expert_presets()["tiny"], task=task.id, resets=resets), ASSETS)
    run.finish("collect", {"episodes": successes, "tried": 10, "mean_length": 10.0})
    [file] = find_episode_files(folder)
    return file


def test_runs_of_both_kinds_of_resets_are_told_apart_on_one_card(tmp_path):
    standard = run_of(tmp_path / "a", TASK, "standard", 9)
    wide = run_of(tmp_path / "b", TASK, "wide", 6)
    other = run_of(tmp_path / "c", OTHER, "standard", 5)
    exported = [
        *candidates(standard, "train", [""]),
        *candidates(wide, "wide", ["", ""]),
        *candidates(other, "train", [""]),
    ]
    facts = source_facts(exported) | reset_facts([candidate.split for candidate in exported])
    assert facts["resets"].startswith("wide in 2 of 4 episodes")
    assert [policy.get("resets") for policy in facts["policy"]] == [None, "wide", None]
    rates = {name: rate["successes"] for name, rate in facts["success_rate"].items()}
    assert rates == {f"1: {TASK.id}": 9, f"2: {TASK.id}": 6, OTHER.id: 5}
    assert facts["initial_states"][f"{TASK.id} wide"] == "0-1" and facts["initial_states"][f"{TASK.id} train"] == "0"


def test_tasks_of_which_no_episode_is_left_are_named():
    first, second = (EpisodeFile(Path("x"), task, {"actor": "ppo"}) for task in (TASK, OTHER))
    found = [*candidates(first, "train", ["", "moved"]), *candidates(second, "train", ["moved", "moved"])]
    facts = replay_facts(found, found[:1], "drop")
    assert facts["tasks left out"] == [OTHER.id] and facts["left out"] == {"moved": 3}
    assert "tasks left out" not in replay_facts(found, [found[0], found[2]], "drop")
