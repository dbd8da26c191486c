import dataclasses
import json

import pytest

from rlgen.configs.presets import run_presets
from rlgen.configs.schema import BCConfig, Config, PPOConfig
from rlgen.configs.stored import from_json, to_json
from rlgen.core.errors import UserError
from rlgen.pipeline.stages import clear_from
from rlgen.training.metrics import Metrics, read_metrics
from rlgen.training.run import StageClock, create_run, is_run, open_run

ASSETS = {"kind": "placeholder", "path": "x", "label": "placeholders"}


def test_a_configuration_survives_json():
    for config in run_presets().values():
        assert from_json(json.loads(json.dumps(to_json(config)))) == config


def test_an_unknown_key_is_named():
    value = to_json(Config())
    value["ppo"]["nonsense"] = 1
    with pytest.raises(UserError, match=r"config\.ppo.*nonsense"):
        from_json(value)


def test_contradictions_are_refused():
    with pytest.raises(UserError, match="warmup 10 of 10"):
        BCConfig(optimizer_steps=10, warmup=10)
    with pytest.raises(UserError):
        PPOConfig(iterations=0)


def test_a_run_is_found_again(tmp_path):
    config = dataclasses.replace(Config(), seed=3)
    create_run(tmp_path / "r", config, ASSETS)
    assert is_run(tmp_path / "r") and open_run(tmp_path / "r").config == config


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="not an rlgen run"):
        create_run(tmp_path, Config(), ASSETS)
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_a_damaged_record_is_named(tmp_path):
    create_run(tmp_path / "r", Config(), ASSETS)
    (tmp_path / "r" / "run.json").write_text('{"kind": "rlgen-run", ')
    with pytest.raises(UserError, match=r"run\.json cannot be read"):
        open_run(tmp_path / "r")


@pytest.mark.parametrize("text", ['{"wandb": 1}', "[]", '{"kind": "other", "config": {}}', '"rlgen-run"'])
def test_somebody_elses_run_json_makes_no_run(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    assert not is_run(tmp_path)
    with pytest.raises(UserError, match="holds no run"):
        open_run(tmp_path)
    with pytest.raises(UserError, match="not an rlgen run"):
        create_run(tmp_path, Config(), ASSETS)


@pytest.mark.parametrize(
    "text",
    ["", "[" * 100_000, '{"kind": "rlgen-run"}', '{"kind": "rlgen-run", "format": 9, "config": {}}',
     '{"kind": "rlgen-run", "format": 2, "config": [], "assets": {}}'],
)  # fmt: skip
def test_a_record_that_cannot_be_read_is_one_line(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json cannot be read") as caught:
        open_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_result_names_the_command_that_repeats_its_stage(tmp_path):
    run = create_run(tmp_path / "r", Config(), ASSETS)
    (run.stage_folder("bc") / "done.json").write_text("{")
    (run.stage_folder("bc") / "clock.json").write_text("[1]")
    with pytest.raises(UserError, match=f"rlgen run bc --run {run.folder} --overwrite"):
        run.result("bc")
    assert run.seconds("bc") == 0


def test_clearing_a_stage_removes_those_after_it(tmp_path):
    run = create_run(tmp_path / "r", Config(), ASSETS)
    for stage in ("demos", "bc", "ppo"):
        run.stage_folder(stage)
        run.finish(stage, {})
    assert clear_from(run, "bc") == ["bc", "ppo"]
    assert run.done("demos") and not run.done("bc")
    with pytest.raises(UserError, match="rlgen run bc --run"):
        run.result("bc")


def test_an_input_of_the_run_is_not_cleared_with_its_stage(tmp_path):
    run = create_run(tmp_path / "r", Config(), ASSETS)
    given = run.stage_folder("demos") / "mine.hdf5"
    given.write_text("years")
    run.stage_folder("bc")
    run.finish("bc", {})
    with pytest.raises(UserError, match=r"is or holds an input of this command, .*mine\.hdf5"):
        clear_from(run, "demos", [given])
    assert given.read_text() == "years" and run.done("bc")
    assert clear_from(run, "bc", [given]) == ["bc"]


def test_seconds_add_up_over_interruptions(tmp_path):
    run = create_run(tmp_path / "r", Config(), ASSETS)
    first = StageClock(run, "bc")
    first._start -= 10
    first.save()
    second = StageClock(run, "bc")
    second._start -= 5
    second.save()
    assert 15 <= run.seconds("bc") < 16


def test_metrics_after_a_checkpoint_are_written_again_once(tmp_path):
    path = tmp_path / "m.jsonl"
    metrics = Metrics(path, keep=0)
    for step in (1, 2, 3):
        metrics.write(step, loss=float(step))
    with open(path, "a") as file:
        file.write('{"step": 4, "lo')
    resumed = Metrics(path, keep=2)
    resumed.write(3, loss=3.5)
    assert [line["loss"] for line in read_metrics(path)] == [1.0, 2.0, 3.5]
