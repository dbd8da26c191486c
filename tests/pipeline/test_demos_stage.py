"""The `demos` stage records the run's own task with the scripted expert."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from rlgen.configs.schema import Config, DemosConfig
from rlgen.core.errors import UserError
from rlgen.core.progress import Progress
from rlgen.data.formats.hdf5.reader import read_demos, read_robot_states
from rlgen.demos.trials import Job, run_trial
from rlgen.libero.envs.observations import Observer
from rlgen.libero.scenes.assets import find_assets
from rlgen.pipeline import demos
from rlgen.pipeline.context import Context, run_stages
from rlgen.training.run import create_run, open_run

STOVE = "libero_goal/turn_on_the_stove"


def start(folder: Path, cache: Path, **options) -> Context:
    """Returns the context of a new run of a short task, made of placeholder assets."""
    assets = find_assets(placeholders=True, cache=cache)
    config = Config(task=STOVE, seed=3, workers=1, demos=DemosConfig(clean=True, **options))
    return Context(create_run(folder, config, {**asdict(assets), "path": str(assets.path)}), cache)


def record(context: Context) -> dict:
    run_stages(context, ("demos",), Progress(("demos",)))
    return context.run.result("demos")


def test_a_run_records_successes_as_the_demos_command_does(cache, tmp_path, capsys):
    context = start(tmp_path / "run", cache, episodes=2)
    folder = context.run.stage_folder("demos") / "trials"
    job = Job(context.scene.folder, "train", 3, "exact", clean=True)
    first = run_trial(job, folder, 0)
    # As if the second trial had been a failure: it is not run again, and not kept.
    (folder / "00001.json").write_text(json.dumps({"number": 1, "success": False, "steps": 9, "seconds": 0.1}))
    result = record(context)
    taken = read_demos(context.run.folder / "demos" / demos.FILE)
    assert (result["file"], result["episodes"], result["tried"]) == (demos.FILE, 2, 3)
    assert result["mean_length"] == np.mean([len(episode) for episode in taken])
    assert [episode.initial_index for episode in taken] == [0, 2] and len(taken[0]) == first.control_steps
    assert all(episode.success and episode.split == "train" and episode.source == "scripted" for episode in taken)
    robots = read_robot_states(context.run.folder / "demos" / demos.FILE)
    np.testing.assert_array_equal(robots[1].position, Observer(context.scene)(taken[1].states).robot.position)
    assert not folder.exists()
    output = capsys.readouterr().out
    assert "2 kept of 3 tried" in output


def test_too_few_successes_are_one_line_and_cost_no_trial_twice(cache, tmp_path):
    context = start(tmp_path / "run", cache, episodes=1)
    folder = context.run.stage_folder("demos") / "trials"
    folder.mkdir()
    for index in range(24):
        stored = {"number": index, "success": False, "steps": 9, "seconds": 0.1}
        (folder / f"{index:05d}.json").write_text(json.dumps(stored))
    for _ in range(2):
        with pytest.raises(UserError, match=rf"succeeded in 0 of 24 trials of {STOVE}, expected 1; lower") as caught:
            record(Context(open_run(context.run.folder), cache))
        assert "\n" not in str(caught.value)
    assert not context.run.done("demos") and not (context.run.folder / "demos" / demos.FILE).exists()
