"""People's HDF5 becomes ours: replayed without no-ops, whole or not at all, nothing lost without a word."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest
from peoples_files import LOST, NOOPS, write_peoples

from rlgen.core.errors import UserError
from rlgen.data.episode import load_episodes
from rlgen.data.formats.hdf5.reader import observed_before_action, read_demos, read_info, read_robot_states
from rlgen.demos.imports.importer import import_demonstrations
from rlgen.demos.imports.options import Options
from rlgen.libero.envs.observations import Observer


def run(path: Path, out: Path, scene, *, overwrite=False, told=None, **options) -> dict[str, int]:
    def scene_of(task):
        assert task == scene.task
        return scene

    tell = (lambda line: None) if told is None else told.append
    return import_demonstrations(path, out, Options(**options), scene_of, assets="test", overwrite=overwrite, tell=tell)


def only_file(folder: Path) -> Path:
    [path] = folder.rglob("*.hdf5")
    return path


def record(out: Path) -> dict:
    return json.loads((out / "import.json").read_text())


def test_a_replay_has_the_state_before_every_action_and_no_noops(peoples, tmp_path, placeholder_scene, recorded):
    total = run(peoples, tmp_path / "out", placeholder_scene)
    path = tmp_path / "out" / only_file(peoples).relative_to(peoples)
    assert observed_before_action(path) and read_info(path).env_name == "Libero_Floor_Manipulation"
    episodes, robots = read_demos(path), read_robot_states(path)
    noops = NOOPS.stop - NOOPS.start
    assert total["kept"] == 2 and total["noops"] == 2 * noops and total["bad"] == total["failed"] == 0
    observer = Observer(placeholder_scene)
    for got, given, robot in zip(episodes, recorded, robots, strict=True):
        expected = np.delete(given.actions, range(NOOPS.start, NOOPS.stop), axis=0)[LOST:]
        np.testing.assert_array_equal(got.actions, expected)
        assert got.success and got.rewards[-1] == 1 and got.source == "human"
        # The path begins where the file's does, ten settling steps later: the hand hangs in the air.
        start, first = observer(given.states[LOST : LOST + 1]).robot, observer(got.states[:1]).robot
        assert np.abs(start.position - first.position).max() < 0.01
        assert np.isfinite(got.states).all() and len(robot.position) == len(got) + 1
        np.testing.assert_array_equal(robot.position, observer(got.states).robot.position)


def test_noops_can_be_kept_and_images_drawn(peoples, tmp_path, placeholder_scene, recorded):
    run(peoples, tmp_path / "out", placeholder_scene, drop_noops=False, images=True, size=16, count=1)
    path = only_file(tmp_path / "out")
    [episode] = read_demos(path)
    np.testing.assert_array_equal(episode.actions, recorded[0].actions[LOST:])
    with h5py.File(path) as file:
        images = file["data/demo_0/obs/agentview_rgb"]
        assert images.shape == (len(episode), 16, 16, 3) and np.ptp(images[0]) > 50


def test_failures_are_dropped_and_counted(tmp_path, placeholder_scene, recorded):
    path = write_peoples(tmp_path / "in" / "x_demo.hdf5", placeholder_scene, recorded)
    with h5py.File(path, "r+") as file:
        actions = file["data/demo_0/actions"]
        actions[...] = actions[()] * [0, 1, 1, 1, 1, 1, 1]  # the hand never goes to the side
    total = run(path, tmp_path / "out", placeholder_scene)
    assert (total["kept"], total["failed"]) == (1, 1)
    assert record(tmp_path / "out")["files"][0]["failed"] == {"demo_0": "the goal is not reached"}
    assert len(read_demos(tmp_path / "out" / "x_demo.hdf5")) == 1


def test_bad_episodes_stop_the_import_or_are_counted(peoples, tmp_path, placeholder_scene):
    path = only_file(peoples)
    with h5py.File(path, "r+") as file:
        file["data/demo_0/actions"][3, 2] = 3.75
    with pytest.raises(UserError, match=r"/data/demo_0/actions: reach 3\.75.*--clip.*--skip-bad"):
        run(peoples, tmp_path / "out", placeholder_scene)
    assert not list((tmp_path / "out").rglob("*.hdf5"))
    total = run(peoples, tmp_path / "out", placeholder_scene, skip_bad=True)
    assert (total["kept"], total["bad"]) == (1, 1)
    [entry] = record(tmp_path / "out")["files"]
    assert "reach 3.75" in entry["bad"]["demo_0"]
    clipped = run(peoples, tmp_path / "clipped", placeholder_scene, clip=True)
    assert clipped["bad"] == 0 and clipped["read"] == 2


def test_a_ruined_file_among_good_ones(peoples, tmp_path, placeholder_scene):
    (peoples / "a.hdf5").write_bytes(only_file(peoples).read_bytes()[:5000])
    with pytest.raises(UserError, match=r"a\.hdf5: not readable HDF5, truncated"):
        run(peoples, tmp_path / "out", placeholder_scene)
    total = run(peoples, tmp_path / "out", placeholder_scene, skip_bad=True)
    assert (total["kept"], total["bad"]) == (2, 1)
    assert "truncated" in record(tmp_path / "out")["files"][0]["bad"]["file"]


def test_states_of_another_scene_name_both_sizes(tmp_path, placeholder_scene, recorded):
    path = write_peoples(tmp_path / "in" / "x_demo.hdf5", placeholder_scene, recorded)
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            states = demo["states"][()]
            del demo["states"]
            demo["states"] = np.pad(states, ((0, 0), (0, 13)))
            demo.attrs["init_state"] = np.pad(demo.attrs["init_state"], (0, 13))
    width = recorded[0].states.shape[1]
    with pytest.raises(UserError, match=rf"/data/demo_0/states: states of {width + 13} numbers.* has {width} \("):
        run(path, tmp_path / "out", placeholder_scene)
    total = run(path, tmp_path / "out", placeholder_scene, skip_bad=True)
    assert (total["read"], total["kept"], total["bad"]) == (2, 0, 2)
    assert not list((tmp_path / "out").rglob("*.hdf5"))


def test_an_interrupted_import_goes_on_after_the_last_whole_file(peoples, tmp_path, placeholder_scene, monkeypatch):
    second = peoples / "second_demo.hdf5"
    shutil.copy(only_file(peoples), second)
    out, told = tmp_path / "out", []

    def stop_after_one(line):
        told.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_demonstrations(
            peoples, out, Options(), lambda task: placeholder_scene, assets="test", tell=stop_after_one
        )
    [first] = out.rglob("*.hdf5")
    before = first.stat().st_mtime_ns
    # As if it had been killed after the second file and before the record of it.
    (out / "second_demo.hdf5").write_text("whole, but not yet known")
    with pytest.raises(UserError, match="is there already and not from"):
        run(peoples, out, placeholder_scene)
    (out / "second_demo.hdf5").unlink()
    total = run(peoples, out, placeholder_scene, told=told)
    assert total["kept"] == 4 and first.stat().st_mtime_ns == before
    assert [line.endswith("done before") for line in told[-2:]] == [True, False]
    assert run(peoples, out, placeholder_scene, told=told) == total and told[-1].endswith("done before")


def test_another_import_is_not_mixed_in(peoples, tmp_path, placeholder_scene):
    out = tmp_path / "out"
    run(peoples, out, placeholder_scene, count=1)
    with pytest.raises(UserError, match="holds an import with another count; pass --overwrite"):
        run(peoples, out, placeholder_scene)
    assert run(peoples, out, placeholder_scene, overwrite=True)["kept"] == 2
    with pytest.raises(UserError, match="lie among its sources"):
        run(peoples, peoples, placeholder_scene)


def test_a_changed_source_is_imported_again(peoples, tmp_path, placeholder_scene, recorded):
    out = tmp_path / "out"
    assert run(peoples, out, placeholder_scene)["kept"] == 2
    write_peoples(only_file(peoples), placeholder_scene, recorded[:1])
    assert run(peoples, out, placeholder_scene)["kept"] == 1
    assert len(read_demos(only_file(out))) == 1


def test_episodes_as_recorded(peoples, tmp_path, placeholder_scene, recorded):
    run(peoples, tmp_path / "out", placeholder_scene, replay=False)
    folder = (tmp_path / "out" / only_file(peoples).relative_to(peoples)).with_suffix("")
    for got, given in zip(load_episodes(folder), recorded, strict=True):
        np.testing.assert_array_equal(got.actions, given.actions[LOST:])
        np.testing.assert_array_equal(got.states[:-1], given.states[LOST:-1])


def test_one_file_of_another_family_does_not_stop_the_others(peoples, tmp_path, placeholder_scene):
    with h5py.File(peoples / "a.hdf5", "w") as file:
        file.create_group("data").attrs["env"] = "Lift"
        file["data/demo_1/actions"], file["data/demo_1/states"] = np.zeros((3, 7)), np.zeros((3, 32))
    left = tmp_path / "out" / only_file(peoples / "libero_object").relative_to(peoples)
    left = left.with_name(f".{left.name}.x1.part")
    left.parent.mkdir(parents=True)
    left.write_text("what a killed import leaves")
    with pytest.raises(UserError, match="robosuite/Lift is no task of LIBERO"):
        run(peoples, tmp_path / "out", placeholder_scene)
    total = run(peoples, tmp_path / "out", placeholder_scene, skip_bad=True)
    assert (total["read"], total["kept"]) == (3, 2) and not left.exists()
    assert "no task of LIBERO" in record(tmp_path / "out")["files"][0]["bad"]["file"]


def test_nothing_to_import(tmp_path, placeholder_scene):
    (tmp_path / "notes.txt").write_text("no demonstrations")
    for path, message in ((tmp_path, "no .hdf5 or .h5 file"), (tmp_path / "none", "no such file or folder")):
        with pytest.raises(UserError, match=message):
            run(path, tmp_path / "out", placeholder_scene)


def test_robosuites_own_file_is_only_taken_as_recorded(tmp_path, placeholder_scene):
    package = Path(find_spec("robosuite").submodule_search_locations[0])
    lift = package / "models/assets/demonstrations/lift/demo.hdf5"
    with pytest.raises(UserError, match="robosuite/Lift is no task of LIBERO and cannot be replayed; pass --no-replay"):
        run(lift, tmp_path / "out", placeholder_scene, clip=True)
    assert run(lift, tmp_path / "out", placeholder_scene, clip=True, replay=False)["kept"] == 3
    assert [len(episode) for episode in load_episodes(tmp_path / "out" / "demo")] == [482, 510, 392]
