"""The figures of a finished run, from what its stages have left."""

import json
from types import SimpleNamespace

import pytest

from rlgen.configs.schema import Config
from rlgen.core.stats import SuccessRate
from rlgen.fleet.figures import run_figures
from rlgen.training.run import create_run

COUNTS = {"episodes": 50, "tried": 61, "mean_length": 70.5}
SCORES = {name: {**SuccessRate(count, 50).to_json(), "length": 60.0} for name, count in (("bc", 40), ("ppo", 50))}
CHANGE = {"length": {"difference": -3.0, "low": -4.0, "high": -2.0}}
PPO = {"iterations": 30, "ended": "plateau", "exploration": {"first": 0.25, "last": 0.5}}


@pytest.fixture
def context(tmp_path):
    run = create_run(tmp_path / "run", Config(), {"kind": "folder", "path": "", "label": "x"})
    for stage in ("demos", "bc", "collect"):
        run.stage_folder(stage)
        run.finish(stage, COUNTS)
    return SimpleNamespace(run=run)


def finish_ppo(context, **result) -> None:
    (context.run.stage_folder("ppo") / "done.json").write_text(json.dumps(PPO | result))


def test_clone_and_expert_stand_side_by_side_with_what_ppo_changed(context):
    finish_ppo(context, heldout=SCORES, change=CHANGE)
    figures = run_figures(context)
    assert (figures["clone"], figures["expert"], figures["change"]) == (SCORES["bc"], SCORES["ppo"], CHANGE)
    assert (figures["iterations"], figures["ended"]) == (30, "plateau")
    assert figures["collected"] == figures["demos"] == COUNTS
    assert figures["noise"] == PPO["exploration"]
    json.dumps(figures, allow_nan=False)


def test_what_was_not_scored_is_left_out(context):
    finish_ppo(context, exploration=None)
    figures = run_figures(context)
    assert figures["noise"] == {} and not {"clone", "expert", "change"} & set(figures)
