"""`rlgen bench device`: its plan, time limits, parts that fail, and every part in tiny sizes."""

import json
import sys
import time
from dataclasses import replace

import pytest

from rlgen.bench.device import models, world
from rlgen.bench.device.plan import PARTS, DevicePart, find_parts
from rlgen.bench.device.record import Record, Setup
from rlgen.bench.device.run import REPORT, child_command, run
from rlgen.cli.main import main
from rlgen.core.errors import UserError
from rlgen.libero.warp.device import why_absent
from rlgen.vla.model import presets

GPU = ("world-asleep", "render", "ppo-vision-gpu", "ppo-state-gpu", "ppo-compact-gpu", "world-awake", "world-raw")
DRY = Setup(dry_run=True)
FIGURES = {"done": False, "device": "a card", "figures": {"first": 1}}


def part(name, limit_s=20.0):
    return DevicePart(name, limit_s, lambda put, setup: None)


def program(scripts):
    """Returns the command of a part as one that runs a script; `FILE` in it is the part's file."""

    def command(part, file, setup):
        lines = (
            "import json, os, sys, time, pathlib\ndef write(value): pathlib.Path(FILE).write_text(json.dumps(value))"
        )
        return [sys.executable, "-c", f"FILE = {str(file)!r}\n{lines}\n{scripts[part.name]}"]

    return command


def measured(tmp_path, scripts, *, minutes=1.0, limit_s=20.0):
    lines = []
    parts = [part(name, limit_s) for name in scripts]
    report = run(tmp_path, parts, Setup(), minutes=minutes, log=lines.append, command=program(scripts))
    assert report == json.loads((tmp_path / REPORT).read_text())
    return report, lines


def test_a_part_that_fails_is_one_line_and_the_others_go_on(tmp_path):
    scripts = {
        "raises": f"write({FIGURES!r}); raise RuntimeError('no memory\\nfor it')",
        "killed": f"write({FIGURES!r}); os.kill(os.getpid(), 9)",
        "silent": "sys.exit(3)",
        "good": f"write({dict(FIGURES, done=True)!r})",
    }
    report, lines = measured(tmp_path, scripts)
    parts = report["parts"]
    assert parts["raises"]["reason"] == "its process ended with 1: for it"
    assert parts["raises"]["figures"] == parts["killed"]["figures"] == {"first": 1}
    assert parts["killed"]["reason"] == "its process ended with -9"
    assert parts["silent"] == parts["silent"] | {"reason": "its process ended with 3", "figures": {}, "done": False}
    assert parts["good"]["done"] and "reason" not in parts["good"]
    assert report["device"] == "a card"
    assert [line.split(":")[0] for line in lines] == list(scripts) and not any("\n" in line for line in lines)


def test_a_part_is_ended_at_its_limit_and_keeps_what_it_had(tmp_path):
    scripts = {"hangs": f"write({FIGURES!r}); time.sleep(60)", "good": f"write({dict(FIGURES, done=True)!r})"}
    start = time.monotonic()
    report, _ = measured(tmp_path, scripts, limit_s=2.0)
    assert time.monotonic() - start < 20
    assert report["parts"]["hangs"]["reason"] == "took longer than 2 s"
    assert report["parts"]["hangs"]["figures"] == {"first": 1} and report["parts"]["good"]["done"]


def test_what_the_time_does_not_do_for_is_measured_by_the_same_command(tmp_path):
    scripts = {"good": f"write({dict(FIGURES, done=True)!r})", "late": f"write({dict(FIGURES, done=True)!r})"}
    report, _ = measured(tmp_path, {"good": scripts["good"]})
    stopped, _ = measured(tmp_path, scripts, minutes=1e-6)
    assert stopped["parts"]["good"] == report["parts"]["good"]
    assert stopped["parts"]["late"]["reason"].startswith("not begun: 1e-06 minutes were used up")
    finished, lines = measured(tmp_path, scripts)
    assert finished["parts"]["late"]["done"] and lines[0] == "good: done before"


def test_other_folders_and_other_kinds_of_run_are_refused(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(UserError, match=r"has no device\.json"):
        measured(tmp_path, {})
    measured(tmp_path / "dry", {"good": f"write({dict(FIGURES, done=True)!r})"})
    with pytest.raises(UserError, match="holds the figures of measurements"):
        run(tmp_path / "dry", [], DRY, minutes=1, log=print)


def test_figures_are_in_the_file_before_the_next_one_is_measured(tmp_path):
    record = Record(tmp_path / "part.json")
    record.put("first", {"seconds": 1.0})
    stored = json.loads((tmp_path / "part.json").read_text())
    assert stored["figures"] == {"first": {"seconds": 1.0}} and not stored["done"]
    assert stored["device"] and stored["versions"]["jax"] and stored["host"]["cores"] >= 1
    record.finish(MemoryError("out of memory\nat length"))
    assert json.loads((tmp_path / "part.json").read_text())["reason"] == "MemoryError: out of memory"


def test_what_matters_most_comes_first_and_fits_eight_minutes():
    names = [part.name for part in PARTS]
    assert len(set(names)) == len(names)
    first = {"matrix", "train-pi0", "sample-pi0", "ppo-vision"}
    assert sum(part.limit_s for part in PARTS[: 1 + max(names.index(name) for name in first)]) <= 480
    assert [part.name for part in find_parts(("update", "matrix"))] == ["matrix", "update"]
    with pytest.raises(UserError, match="unknown part 'matrices', expected one of matrix, train-pi0"):
        find_parts(("matrices",))


@pytest.mark.parametrize("model", ["pi0", "pi05", "pi0_lora", "pi05_lora"])
def test_a_dry_run_has_the_smallest_model_of_a_kind(model):
    small, real = (models.sized(model, 3, Setup(dry_run=dry)) for dry in (True, False))
    assert real == presets.preset(model)
    same = ("family", "cameras", "dtype", "unroll")
    assert all(getattr(small, name) == getattr(real, name) for name in same)
    assert (small.language.lora is None) == (real.language.lora is None)
    assert small.vision.stem == real.vision.stem and small.language.width < 100


@pytest.mark.skipif(why_absent() is None, reason="MuJoCo Warp is installed")
@pytest.mark.parametrize("name", GPU)
def test_the_world_on_the_gpu_says_in_one_line_why_it_has_no_figures(name, placeholder_scene, monkeypatch):
    monkeypatch.setattr(world, "load_scene", lambda *_: placeholder_scene)
    [part] = find_parts((name,))
    with pytest.raises(UserError, match=r"^MuJoCo Warp cannot be used: MuJoCo is .*`pip install"):
        part.measure(print, replace(DRY, placeholders=True))


def test_a_carried_scene_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no scene bundle libero_object-6-\*"):
        world.scene_of("libero_object/6", replace(DRY, scenes=str(tmp_path)))


def test_a_part_is_measured_in_a_process_of_its_own(tmp_path):
    """The first part of the plan, by the command line."""
    main(["bench", "device", "--out", str(tmp_path / "out"), "--dry-run", "--parts", "matrix"])
    report = json.loads((tmp_path / "out" / REPORT).read_text())
    matrix = report["parts"]["matrix"]
    assert matrix["done"], matrix
    assert set(matrix["figures"]) == {"bfloat16, default", "float32, default", "float32, highest"}
    for figure in matrix["figures"].values():
        assert 0 < figure["low"] <= figure["median"] <= figure["high"]
    assert child_command(PARTS[0], tmp_path, DRY)[-3] == "matrix"


@pytest.mark.slow
def test_every_part_runs_in_tiny_sizes(tmp_path):
    main(["bench", "device", "--out", str(tmp_path / "out"), "--dry-run", "--placeholders", "--minutes", "30"])
    parts = json.loads((tmp_path / "out" / REPORT).read_text())["parts"]
    assert list(parts) == [part.name for part in PARTS]
    for name, entry in parts.items():
        if name in GPU and why_absent() is not None:
            assert not entry["done"] and "\n" not in entry["reason"]
        else:
            assert entry["done"] and entry["figures"], (name, entry.get("reason"))
