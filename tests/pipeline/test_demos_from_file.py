"""A run whose demonstrations come from a file."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from human_demos import MISSING_STEPS, add_tremor, write_human_demos

from rlgen.configs.schema import Config, DemosConfig
from rlgen.configs.stored import from_json, to_json
from rlgen.core.errors import UserError
from rlgen.core.progress import Progress
from rlgen.data.formats.hdf5.reader import read_demos
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.pipeline import bc, policy
from rlgen.pipeline.context import Context, run_stages
from rlgen.pipeline.evaluate import actors
from rlgen.training.run import create_run, open_run


@pytest.fixture(scope="module")
def recorded(placeholder_scene):
    actor, trials = ScriptedExpert(placeholder_scene, clean=True), make_trials(2, 50, seed=4)
    [episodes] = run_episodes(placeholder_scene, actor, trials, split="heldout", source="scripted", width=2)
    return [add_tremor(placeholder_scene, episode) for episode in episodes]


def start(folder, scene, file, **demos) -> Context:
    """Returns the context of a new run of `scene`'s task whose demonstrations are in a file."""
    config = Config(task=scene.task.id, demos=DemosConfig(file=str(file), **demos))
    run = create_run(folder, config, {"kind": "placeholder", "path": "", "label": "x"})
    context = Context(run, folder)
    context.__dict__["scene"] = scene  # what loading it would give
    return context


def record(context: Context) -> dict:
    run_stages(context, ("demos",), Progress(("demos",)))
    return context.run.result("demos")


def test_human_demonstrations_are_replayed_and_cloned(tmp_path, placeholder_scene, recorded):
    path = write_human_demos(tmp_path / "x_demo.hdf5", placeholder_scene, recorded)
    context = start(tmp_path / "run", placeholder_scene, path)
    result = record(context)
    assert (result["episodes"], result["tried"], result["source"]) == (2, 2, str(path))
    episodes = bc.read_demonstrations(context)
    assert [episode.source for episode in episodes] == ["human"] * 2
    assert result["mean_length"] == np.mean([len(episode) for episode in episodes])
    data = bc.demonstration_data(context, policy.make_policy(context.run.config, placeholder_scene))
    assert np.isfinite(data.observation).all() and np.isfinite(data.chunk).all()
    before = (tmp_path / "run/demos/demos.hdf5").stat().st_mtime_ns
    run_stages(context, ("demos",), Progress(("demos",)))
    assert (tmp_path / "run/demos/demos.hdf5").stat().st_mtime_ns == before


def test_files_of_this_project_are_taken_as_they_are_successes_only(tmp_path, placeholder_scene, recorded):
    path = tmp_path / "ours.hdf5"
    failed = replace(recorded[0], success=False, rewards=np.zeros(len(recorded[0])))
    episodes = [failed, *recorded]
    robots = [Observer(placeholder_scene)(episode.states).robot for episode in episodes]
    write_demos(path, episodes, robots, demo_file_info(placeholder_scene))
    result = record(start(tmp_path / "run", placeholder_scene, path, episodes=1))
    assert (result["episodes"], result["tried"]) == (1, 3)
    [taken] = read_demos(tmp_path / "run/demos/demos.hdf5")
    np.testing.assert_array_equal(taken.states, recorded[0].states)
    np.testing.assert_array_equal(taken.actions, recorded[0].actions)


def test_a_file_that_cannot_be_used_is_reported_and_leaves_nothing(tmp_path, placeholder_scene, recorded):
    path = write_human_demos(tmp_path / "x_demo.hdf5", placeholder_scene, recorded[:1])
    other = tmp_path / "other_demo.hdf5"
    other.write_bytes(path.read_bytes())
    with h5py.File(other, "r+") as file:
        file["data"].attrs["bddl_file_name"] = "bddl_files/libero_goal/turn_on_the_stove.bddl"
    damaged = tmp_path / "damaged_demo.hdf5"
    damaged.write_bytes(path.read_bytes()[: -MISSING_STEPS * 1000])
    still = tmp_path / "still_demo.hdf5"
    still.write_bytes(path.read_bytes())
    with h5py.File(still, "r+") as file:
        file["data/demo_0/actions"][:, 0] = 0.01
    for file, message in (
        (other, "demonstrations of libero_goal/turn_on_the_stove, the run is of libero_object/pick_up_the_butter"),
        (damaged, "damaged_demo.*rlgen demos import .* --skip-bad"),
        (still, "none of 1 episodes reaches the goal"),
        (tmp_path / "none.hdf5", "no such file"),
    ):
        run = tmp_path / file.stem
        with pytest.raises(UserError, match=message):
            record(start(run, placeholder_scene, file))
        assert not (run / "demos/demos.hdf5").exists() and not (run / "demos/done.json").exists()


def test_the_file_is_part_of_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(demos=DemosConfig(file="x.hdf5"))
    create_run(tmp_path / "run", config, {"kind": "folder", "path": "", "label": "x"})
    assert open_run(tmp_path / "run").config == config == from_json(json.loads(json.dumps(to_json(config))))
    assert config.demos.file == str(tmp_path / "x.hdf5")
    assert actors(config) == ("bc", "ppo", "vla") and actors(Config())[0] == "demonstrator"
