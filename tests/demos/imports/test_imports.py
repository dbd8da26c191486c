"""Imports of human demonstrations: replayed without no-ops, whole or not at all, every loss reported."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest
from human_demos import MISSING_STEPS, NOOPS, write_human_demos

from rlgen.core.errors import UserError
from rlgen.data.episode import load_episodes
from rlgen.data.formats.hdf5.reader import observed_before_action, read_demos, read_info, read_robot_states
from rlgen.demos.imports.importer import import_demonstrations
from rlgen.demos.imports.options import ImportOptions
from rlgen.libero.envs.observations import Observer


def run(path: Path, out: Path, scene, *, overwrite=False, lines=None, **options) -> dict[str, int]:
    def load_scene(task):
        assert task == scene.task
        return scene

    log = (lambda line: None) if lines is None else lines.append
    return import_demonstrations(
        path, out, ImportOptions(**options), load_scene, assets="test", overwrite=overwrite, log=log
    )


def only_file(folder: Path) -> Path:
    [path] = folder.rglob("*.hdf5")
    return path


def record(out: Path) -> dict:
    return json.loads((out / "import.json").read_text())


def test_a_replay_has_the_state_before_every_action_and_no_noops(human_demos, tmp_path, placeholder_scene, recorded):
    total = run(human_demos, tmp_path / "out", placeholder_scene)
    path = tmp_path / "out" / only_file(human_demos).relative_to(human_demos)
    assert observed_before_action(path) and read_info(path).env_name == "Libero_Floor_Manipulation"
    episodes, robots = read_demos(path), read_robot_states(path)
    noops = NOOPS.stop - NOOPS.start
    assert total["kept"] == 2 and total["noops"] == 2 * noops and total["bad"] == total["failed"] == 0
    observer = Observer(placeholder_scene)
    for got, given, robot in zip(episodes, recorded, robots, strict=True):
        expected = np.delete(given.actions, range(NOOPS.start, NOOPS.stop), axis=0)[MISSING_STEPS:]
        np.testing.assert_array_equal(got.actions, expected)
        assert got.success and got.rewards[-1] == 1 and got.source == "human"
        # The path starts where the file's does, ten settling steps later: the hand hangs in the air.
        start, first = observer(given.states[MISSING_STEPS : MISSING_STEPS + 1]).robot, observer(got.states[:1]).robot
        assert np.abs(start.position - first.position).max() < 0.01
        assert np.isfinite(got.states).all() and len(robot.position) == len(got) + 1
        np.testing.assert_array_equal(robot.position, observer(got.states).robot.position)


def test_noops_can_be_kept_and_images_rendered(human_demos, tmp_path, placeholder_scene, recorded):
    run(human_demos, tmp_path / "out", placeholder_scene, drop_noops=False, images=True, image_size=16, episodes=1)
    path = only_file(tmp_path / "out")
    [episode] = read_demos(path)
    np.testing.assert_array_equal(episode.actions, recorded[0].actions[MISSING_STEPS:])
    with h5py.File(path) as file:
        images = file["data/demo_0/obs/agentview_rgb"]
        assert images.shape == (len(episode), 16, 16, 3) and np.ptp(images[0]) > 50


def test_failures_are_dropped_and_counted(tmp_path, placeholder_scene, recorded):
    path = write_human_demos(tmp_path / "in" / "x_demo.hdf5", placeholder_scene, recorded)
    with h5py.File(path, "r+") as file:
        actions = file["data/demo_0/actions"]
        actions[...] = actions[()] * [0, 1, 1, 1, 1, 1, 1]  # the hand never goes to the side
    total = run(path, tmp_path / "out", placeholder_scene)
    assert (total["kept"], total["failed"]) == (1, 1)
    assert record(tmp_path / "out")["files"][0]["failed"] == {"demo_0": "the goal is not reached"}
    assert len(read_demos(tmp_path / "out" / "x_demo.hdf5")) == 1


def test_bad_episodes_stop_the_import_or_are_counted(human_demos, tmp_path, placeholder_scene):
    path = only_file(human_demos)
    with h5py.File(path, "r+") as file:
        file["data/demo_0/actions"][3, 2] = 3.75
    with pytest.raises(UserError, match=r"/data/demo_0/actions: reach 3\.75.*--clip.*--skip-bad"):
        run(human_demos, tmp_path / "out", placeholder_scene)
    assert not list((tmp_path / "out").rglob("*.hdf5"))
    total = run(human_demos, tmp_path / "out", placeholder_scene, skip_bad=True)
    assert (total["kept"], total["bad"]) == (1, 1)
    [entry] = record(tmp_path / "out")["files"]
    assert "reach 3.75" in entry["bad"]["demo_0"]
    clipped = run(human_demos, tmp_path / "clipped", placeholder_scene, clip=True)
    assert clipped["bad"] == 0 and clipped["read"] == 2


def test_a_ruined_file_among_good_ones(human_demos, tmp_path, placeholder_scene):
    (human_demos / "a.hdf5").write_bytes(only_file(human_demos).read_bytes()[:5000])
    with pytest.raises(UserError, match=r"a\.hdf5: not readable HDF5, truncated"):
        run(human_demos, tmp_path / "out", placeholder_scene)
    total = run(human_demos, tmp_path / "out", placeholder_scene, skip_bad=True)
    assert (total["kept"], total["bad"]) == (2, 1)
    assert "truncated" in record(tmp_path / "out")["files"][0]["bad"]["file"]


def test_states_of_another_scene_name_both_sizes(tmp_path, placeholder_scene, recorded):
    path = write_human_demos(tmp_path / "in" / "x_demo.hdf5", placeholder_scene, recorded)
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


def test_an_interrupted_import_resumes_after_the_last_whole_file(human_demos, tmp_path, placeholder_scene, monkeypatch):
    second = human_demos / "second_demo.hdf5"
    shutil.copy(only_file(human_demos), second)
    out, lines = tmp_path / "out", []

    def stop_after_one(line):
        lines.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_demonstrations(
            human_demos, out, ImportOptions(), lambda task: placeholder_scene, assets="test", log=stop_after_one
        )
    [first] = out.rglob("*.hdf5")
    before = first.stat().st_mtime_ns
    # As if it had been killed after the second file and before the record of it.
    (out / "second_demo.hdf5").write_text("whole, but not yet known")
    with pytest.raises(UserError, match="already exists and is not from"):
        run(human_demos, out, placeholder_scene)
    (out / "second_demo.hdf5").unlink()
    total = run(human_demos, out, placeholder_scene, lines=lines)
    assert total["kept"] == 4 and first.stat().st_mtime_ns == before
    assert [line.endswith("done before") for line in lines[-2:]] == [True, False]
    assert run(human_demos, out, placeholder_scene, lines=lines) == total and lines[-1].endswith("done before")


def test_another_import_is_not_mixed_in(human_demos, tmp_path, placeholder_scene):
    out = tmp_path / "out"
    run(human_demos, out, placeholder_scene, episodes=1)
    with pytest.raises(UserError, match="holds an import that differs in episodes; pass --overwrite"):
        run(human_demos, out, placeholder_scene)
    assert run(human_demos, out, placeholder_scene, overwrite=True)["kept"] == 2
    with pytest.raises(UserError, match="lie among its sources"):
        run(human_demos, human_demos, placeholder_scene)


def test_a_file_of_somebody_is_no_output(human_demos, tmp_path, placeholder_scene):
    out = tmp_path / "out"
    target = out / only_file(human_demos).relative_to(human_demos)
    target.parent.mkdir(parents=True)
    target.write_text("years")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"already exists and is not from .* or an earlier import; move it away"):
            run(human_demos, out, placeholder_scene, overwrite=overwrite)
    assert target.read_text() == "years"
    # Nor is somebody's import.json.
    target.unlink()
    (out / "import.json").write_text('{"modules": []}')
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"import\.json: not readable .*; move it away or choose another --out"):
            run(human_demos, out, placeholder_scene, overwrite=overwrite)
    assert (out / "import.json").read_text() == '{"modules": []}'


def test_a_changed_source_is_imported_again(human_demos, tmp_path, placeholder_scene, recorded):
    out = tmp_path / "out"
    assert run(human_demos, out, placeholder_scene)["kept"] == 2
    write_human_demos(only_file(human_demos), placeholder_scene, recorded[:1])
    assert run(human_demos, out, placeholder_scene)["kept"] == 1
    assert len(read_demos(only_file(out))) == 1


def test_episodes_as_recorded(human_demos, tmp_path, placeholder_scene, recorded):
    run(human_demos, tmp_path / "out", placeholder_scene, replay=False)
    folder = (tmp_path / "out" / only_file(human_demos).relative_to(human_demos)).with_suffix("")
    for got, given in zip(load_episodes(folder), recorded, strict=True):
        np.testing.assert_array_equal(got.actions, given.actions[MISSING_STEPS:])
        np.testing.assert_array_equal(got.states[:-1], given.states[MISSING_STEPS:-1])


def test_one_file_of_another_family_does_not_stop_the_others(human_demos, tmp_path, placeholder_scene):
    with h5py.File(human_demos / "a.hdf5", "w") as file:
        file.create_group("data").attrs["env"] = "Lift"
        file["data/demo_1/actions"], file["data/demo_1/states"] = np.zeros((3, 7)), np.zeros((3, 32))
    left = tmp_path / "out" / only_file(human_demos / "libero_object").relative_to(human_demos)
    left = left.with_name(f".{left.name}.x1.part")
    left.parent.mkdir(parents=True)
    left.write_text("what a killed import leaves")
    with pytest.raises(UserError, match="robosuite/Lift is no task of LIBERO"):
        run(human_demos, tmp_path / "out", placeholder_scene)
    total = run(human_demos, tmp_path / "out", placeholder_scene, skip_bad=True)
    assert (total["read"], total["kept"]) == (3, 2) and not left.exists()
    assert "no task of LIBERO" in record(tmp_path / "out")["files"][0]["bad"]["file"]


def test_nothing_to_import(tmp_path, placeholder_scene):
    (tmp_path / "notes.txt").write_text("no demonstrations")
    for path, message in ((tmp_path, "no .hdf5 or .h5 file"), (tmp_path / "none", "no such file or folder")):
        with pytest.raises(UserError, match=message):
            run(path, tmp_path / "out", placeholder_scene)


def test_a_file_of_robosuite_is_only_taken_as_recorded(tmp_path, placeholder_scene):
    package = Path(find_spec("robosuite").submodule_search_locations[0])
    lift = package / "models/assets/demonstrations/lift/demo.hdf5"
    with pytest.raises(UserError, match="robosuite/Lift is no task of LIBERO and cannot be replayed; pass --no-replay"):
        run(lift, tmp_path / "out", placeholder_scene, clip=True)
    assert run(lift, tmp_path / "out", placeholder_scene, clip=True, replay=False)["kept"] == 3
    assert [len(episode) for episode in load_episodes(tmp_path / "out" / "demo")] == [482, 510, 392]
