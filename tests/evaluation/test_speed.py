"""Estimates of an evaluation's time, worked by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.evaluation.speed import check_equal, estimate, estimate_minutes

MACHINE = {"episodes": 2000, "control_steps": 200.0, "replan": 5, "step_cpu_s": 0.012, "cores": 16}


def test_the_slower_part_decides():
    # 2000 x 200 x 0.012 s = 4800 s on one core, 300 s on 16; 2000 x 40 / 8 = 10,000 calls.
    assert estimate_minutes(**MACHINE, call_s=0.01, batch=8) == pytest.approx(5.0)
    assert estimate_minutes(**MACHINE, call_s=0.06, batch=8) == pytest.approx(10.0)
    assert estimate_minutes(**MACHINE, call_s=0.06, batch=8, overhead=1.2) == pytest.approx(12.0)
    # A chunk that is cut short by the end costs a call too, and so does a batch that is not full.
    short = MACHINE | {"episodes": 3, "control_steps": 6.0}
    assert estimate_minutes(**short, call_s=60.0, batch=4) == pytest.approx(2.0)


def test_an_estimate_has_a_line_for_each_batch_that_was_measured(tmp_path):
    report = {"simulation": {"cpu_s": 24.0}, "control_steps": 2000, "x": 0.9}
    report["setup"] = {"episodes": 10, "protocol": {"replan": 5}}
    file = tmp_path / "device.json"
    with pytest.raises(UserError, match="no report of `rlgen bench device`"):
        estimate(report, file, cores=16)
    figures = {"batch 8": {"10": {"seconds": 0.06}, "3": {"seconds": 0.01}}, "batch 32": {"10": {"seconds": 0.2}}}
    parts = {"matrix": {"figures": {"float32": {"median": 1.0}}}, "sample-pi0": {"figures": figures}}
    file.write_text(json.dumps({"parts": parts}))
    assert estimate(report, file, cores=16) == pytest.approx(
        {"sample-pi0, batch 8": 10.0, "sample-pi0, batch 32": 2500 * 0.2 / 60}
    )
    file.write_text(json.dumps({"parts": {"matrix": parts["matrix"]}}))
    with pytest.raises(UserError, match="no figures of sampling"):
        estimate(report, file, cores=16)


def test_evaluations_that_differ_are_refused():
    def episode(value):
        return SimpleNamespace(states=np.full((3, 2), value), actions=np.zeros((2, 7)))

    check_equal([episode(1.0), episode(2.0)], [episode(1.0), episode(2.0)])
    with pytest.raises(UserError, match="episode 1 differs between groups"):
        check_equal([episode(1.0), episode(2.0)], [episode(1.0), episode(np.nextafter(2.0, 3))])
