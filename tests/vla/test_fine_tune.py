"""Fine-tuning as a user meets it: datasets on disk, a folder whose run can be resumed, a model that acts."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from vla.toy import SIDE, dot_episodes, export, numbered_frames, settings

from rlgen.cli.main import main
from rlgen.core.errors import UserError
from rlgen.core.ownership import only_writer
from rlgen.data.card import CARD_JSON
from rlgen.data.frames import open_frames
from rlgen.data.loader import Mixture, hold_out, mix
from rlgen.vla.checkpoints.model_folder import find_model, read_description, write_model
from rlgen.vla.checkpoints.weights import expected_params, load_params
from rlgen.vla.data.normalize import FIELDS, NormStats
from rlgen.vla.data.spec import InputSpec
from rlgen.vla.model import presets
from rlgen.vla.model.lora import merge_lora
from rlgen.vla.model.parameters import flat_names
from rlgen.vla.serving.policy import open_policy
from rlgen.vla.training.best import BestModel
from rlgen.vla.training.fine_tune import fine_tune
from rlgen.vla.training.record import data_hash, open_out, resolve_cameras
from rlgen.vla.training.train import stored_statistics


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return [export(folder, "first", 0), export(folder, "second", 1)]


def metrics(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("step_s", "data_wait_share")} for line in lines]


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "run"
    logged = []
    return out, fine_tune(settings(data, out), logged.append), logged


def test_an_interrupted_run_is_resumed_to_the_same(data, unbroken, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fine_tune(settings(data, tmp_path / "run"), stop_at(3, []))
    logged = []
    folder = fine_tune(settings(data, tmp_path / "run", workers=1, log_every=1), logged.append)
    assert any("resuming" in line for line in logged) and not any(line.startswith("step 2 ") for line in logged)
    assert metrics(tmp_path / "run") == metrics(unbroken[0])
    config, *_ = read_description(folder)
    ours, theirs = (flat_names(load_params(config, each)) for each in (folder, unbroken[1]))
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[name], err_msg=name)
    # Finished: nothing is trained again.
    assert fine_tune(settings(data, tmp_path / "run"), lambda line: None) == folder


def test_the_inputs_are_logged_before_training(unbroken):
    logged = "\n".join(unbroken[2])
    for text in (
        "camera base_0_rgb: [32, 32, 3]",
        "state: 8 dimensions",
        "prompt: 'touch the",
        "behind an episode's end",
        "transforms: repack, normalize, resize, tokenize, pad",
        "GiB a device",
    ):
        assert text in logged
    first_step = next(i for i, line in enumerate(unbroken[2]) if line.startswith("step 1"))
    assert any("camera" in line for line in unbroken[2][:first_step])


def test_held_out_loss_is_logged_when_due(unbroken):
    assert [line["step"] for line in metrics(unbroken[0]) if "validation_loss" in line] == [2, 4]


def test_the_finished_model_acts(unbroken):
    policy = open_policy(unbroken[1], sampling_steps=2, batch=2)
    episode = dot_episodes(1, 5)[0]
    sample = {
        "observation/image": episode.image[:1],
        "observation/wrist_image": episode.wrist_image[:1],
        "observation/state": episode.state[:1],
        "prompt": ["touch the first"],
    }
    actions = policy.act(policy.prepare(sample), policy.sample_noise([0]))
    assert actions.shape == (1, policy.config.horizon, 7) and np.isfinite(actions).all()
    with pytest.raises(UserError, match="says what it is"):
        open_policy(unbroken[1], preset="pi0")


def test_other_settings_are_refused_and_named(data, unbroken):
    other = dataclasses.replace(settings(data, unbroken[0]).train, peak_rate=0.5)
    with pytest.raises(UserError, match=r"other settings: train\.peak_rate \(0\.001 -> 0\.5\)"):
        fine_tune(settings(data, unbroken[0], train=other), lambda line: None)
    assert len(metrics(unbroken[0])) == 4


def longer(data, out, steps=6, decay_steps=None, **changes):
    """The settings of `unbroken`, for six steps instead of four."""
    config = settings(data, out, **changes)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, steps=steps, decay_steps=decay_steps))


def stop_at(step, lines):
    """Returns a log that interrupts a training behind a step."""

    def log(line):
        lines.append(line)
        if line.startswith(f"step {step} of"):
            raise KeyboardInterrupt

    return log


def same_params(folder, other):
    config, *_ = read_description(folder)
    ours, theirs = (flat_names(load_params(config, each)) for each in (folder, other))
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[name], err_msg=name)


def test_a_finished_run_goes_on_for_more_steps_to_what_one_of_that_many_would_be(data, unbroken, tmp_path):
    shutil.copytree(unbroken[0], tmp_path / "run")
    logged = []
    folder = fine_tune(longer(data, tmp_path / "run"), logged.append)
    [line] = [line for line in logged if line.startswith("going on")]
    assert "from 4 to 6 steps" in line and "the cosine was laid out for 4" in line and "--train.end-rate 1e-05" in line
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    assert folder.name == "6" and (tmp_path / "run" / "model" / "4").is_dir()
    same_params(folder, fine_tune(longer(data, tmp_path / "at once", decay_steps=4), lambda line: None))
    # It is finished now; the same command is not a run of other settings, and fewer steps are refused.
    assert fine_tune(longer(data, tmp_path / "run"), logged.append) == folder
    with pytest.raises(UserError, match=r"other settings: train\.steps \(6 -> 4\)"):
        fine_tune(settings(data, tmp_path / "run"), logged.append)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({}, "the cosine was laid out for 4"),
        ({"decay_steps": 9}, "the schedule, cosine, does not depend on their number"),
        ({"schedule": "constant"}, "the schedule, constant, does not depend on their number"),
        ({"schedule": "rsqrt"}, "the schedule, rsqrt, does not depend on their number"),
    ],
)
def test_the_learning_rate_of_added_steps_is_said(tmp_path, schedule, words):
    logged = []
    config = settings(["a"], tmp_path, mix=())
    first = dataclasses.replace(config, train=dataclasses.replace(config.train, **schedule))
    assert open_out(first, ["h"], logged.append) == first.train
    for steps in (6, 8):
        more = dataclasses.replace(first, train=dataclasses.replace(first.train, steps=steps))
        effective = open_out(more, ["h"], logged.append)
        assert words in logged[-1]
        expected = 4 if schedule == {} else schedule.get("decay_steps")
        assert effective == dataclasses.replace(more.train, decay_steps=expected)
    # Resumed without another change, the rate stays what it was.
    assert open_out(more, ["h"], logged.append) == effective and logged[-1].startswith("resuming")


def test_data_may_move_but_not_change(data, unbroken, tmp_path):
    shutil.copytree(unbroken[0], tmp_path / "run")
    moved = [tmp_path / "elsewhere" / str(folder.relative_to(folder.parents[1])) for folder in data]
    for old, new in zip(data, moved, strict=True):
        shutil.copytree(old, new)
    before, logged = metrics(tmp_path / "run"), []
    fine_tune(settings(moved, tmp_path / "run"), logged.append)
    assert any(line.startswith("its data has moved:") and str(moved[1]) in line for line in logged)
    # Both are where they were, but the first has become another.
    shutil.rmtree(moved[0])
    export(moved[0].parents[1], "first", seed=7)
    with pytest.raises(UserError, match=f"{moved[0]}: not the data that .* was trained on so far"):
        fine_tune(settings(moved, tmp_path / "run"), logged.append)
    with pytest.raises(UserError, match=r"other settings: data \("):
        fine_tune(settings([moved[0], data[1]], tmp_path / "run"), logged.append)
    assert metrics(tmp_path / "run") == before


def test_a_finished_run_goes_on_with_more_data(data, unbroken, tmp_path):
    out, logged = tmp_path / "run", []
    shutil.copytree(unbroken[0], out)
    more, before, stats = [*data, export(tmp_path, "third", 2)], metrics(out), (out / "norm_stats.json").read_text()
    for config, message in (
        (settings(more, out, mix=(3.0, 1.0, 2.0)), r"is finished at 4 steps; .*third/1.0.0 as well, pass more --train"),
        (longer(more, out, mix=(3.0, 2.0, 2.0)), r"other settings: mix \(\[3.0, 1.0\] -> \(3.0, 2.0, 2.0\)\)"),
        (longer(data[:1], out, mix=()), r"other settings: data \("),
    ):
        with pytest.raises(UserError, match=message):
            fine_tune(config, lambda line: None)
    assert metrics(out) == before
    config = longer(more, out, mix=(3.0, 1.0, 2.0))
    with pytest.raises(KeyboardInterrupt):
        fine_tune(config, stop_at(5, logged))
    assert any("going on with more data: " in line and str(more[2]) in line for line in logged)
    assert any("going on from 4 to 6 steps; the cosine was laid out for 4" in line for line in logged)
    fifth = metrics(out)[4]
    folder = fine_tune(config, lambda line: None)
    after = metrics(out)
    assert after[:4] == before and after[4] == fifth and len(after) == 6 and folder.name == "6"
    assert (out / "norm_stats.json").read_text() == stats
    assert len(json.loads((out / "fine_tune.json").read_text())["data_hashes"]) == 3
    # What it validates on has changed, so that the best model is one of those since.
    assert json.loads((out / "model" / "best" / "best.json").read_text())["step"] == 6
    turned = dataclasses.replace(config, data=tuple(map(str, [more[1], more[0], more[2]])))
    with pytest.raises(UserError, match=f"in another order; pass --data {more[0]} {more[1]} {more[2]}"):
        open_out(resolve_cameras(turned), hashes_of(turned), logged.append)


def hashes_of(config):
    return [data_hash(Path(name), open_frames(Path(name), size=SIDE).table) for name in config.data]


def test_the_best_model_is_kept_beside_the_last(unbroken):
    losses = {line["step"]: line["validation_loss"] for line in metrics(unbroken[0]) if "validation_loss" in line}
    kept = json.loads((unbroken[0] / "model" / "best" / "best.json").read_text())
    assert kept["validation_loss"] == min(losses.values()) == losses[kept["step"]]
    assert find_model(unbroken[0], "best") == unbroken[0] / "model" / "best"
    assert find_model(unbroken[0]) == find_model(unbroken[0], "last") == find_model(unbroken[0], "4") == unbroken[1]
    with pytest.raises(UserError, match=r"--checkpoint 3: .* has best, 4"):
        find_model(unbroken[0], "3")
    with pytest.raises(UserError, match=r"--checkpoint best: .* is no fine-tuning"):
        find_model(unbroken[1], "best")
    best, last = (read_description(find_model(unbroken[0], name)) for name in ("best", "last"))
    assert best[:2] == last[:2]
    if kept["step"] == 4:
        same_params(find_model(unbroken[0], "best"), unbroken[1])


def test_the_smallest_validation_loss_decides_and_other_data_are_not_compared(tmp_path):
    def write(place, params):
        place.mkdir(parents=True)
        (place / "params").write_text(str(params))

    def best(held_out):
        return BestModel(tmp_path, write, held_out)

    one, other = (mix([numbered_frames([3, 4], first=first)]) for first in (0, 1))
    kept = best(one)
    assert [kept.offer(step, loss, step) for step, loss in enumerate([3.0, 2.0, 2.0, 2.5, float("nan"), 1.5])] == [
        True, True, False, False, False, True,
    ]  # fmt: skip
    assert (tmp_path / "best" / "params").read_text() == "5" and not list(tmp_path.glob(".*"))
    # Resumed from before that step, the same loss comes again.
    assert not best(one).offer(5, 1.5, "again") and best(one).loss == 1.5
    assert best(other).offer(7, 2.7, "other") and (tmp_path / "best" / "params").read_text() == "other"
    # A training that was killed after the old one was removed finds the new one.
    (tmp_path / "best").rename(tmp_path / ".best.part")
    assert best(other).loss == 2.7 and (tmp_path / "best" / "params").read_text() == "other"


def test_a_record_of_an_earlier_version_has_no_hash_and_resumes(data, unbroken, tmp_path):
    shutil.copytree(unbroken[0], tmp_path / "run")
    path = tmp_path / "run" / "fine_tune.json"
    record = json.loads(path.read_text())
    del record["data_hashes"]
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"other settings: data \("):
        open_out(resolve_cameras(settings([data[1], data[0]], tmp_path / "run")), ["a", "b"], lambda line: None)
    fine_tune(settings(data, tmp_path / "run"), lambda line: None)
    assert len(json.loads(path.read_text())["data_hashes"]) == 2


def test_a_second_fine_tuning_in_a_folder_is_refused(data, unbroken):
    with only_writer(unbroken[0]), pytest.raises(UserError, match=r"another process is writing here; .* another --out"):
        fine_tune(settings(data, unbroken[0]), lambda line: None)
    with only_writer(unbroken[0]), pytest.raises(UserError, match="another process is writing here"):
        fine_tune(settings(data, unbroken[0], overwrite=True), lambda line: None)
    assert len(metrics(unbroken[0])) == 4


@pytest.mark.parametrize("record", [None, "{}", "[]", '{"data": [], "model": "x", "train": 1}', "not JSON"])
def test_what_is_not_a_fine_tuning_is_not_removed(tmp_path, record):
    (tmp_path / "chapter1.txt").write_text("x")
    if record is not None:
        (tmp_path / "fine_tune.json").write_text(record)
    with pytest.raises(UserError, match="is not a fine-tuning that rlgen wrote; move it away or choose another --out"):
        open_out(settings(["a"], tmp_path, mix=(), overwrite=True), ["h"], lambda line: None)
    assert (tmp_path / "chapter1.txt").read_text() == "x"
    with pytest.raises(UserError, match=r"is not a fine-tuning|is damaged"):
        open_out(settings(["a"], tmp_path, mix=()), ["h"], lambda line: None)


def test_a_fine_tuning_is_replaced_but_not_with_what_it_reads(unbroken, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(unbroken[0], out)
    inputs = {
        "data": (str(out / "model"),), "weights": str(out / "model" / "4"), "tokenizer": str(out / "t.model"),
        "norm_stats": str(out / "norm_stats.json"),
    }  # fmt: skip
    for name, value in inputs.items():
        given = {"data": ("a",), name: value}
        config = settings(given["data"], out, mix=(), overwrite=True, **{k: v for k, v in given.items() if k != "data"})
        with pytest.raises(UserError, match="is or holds an input of this command"):
            open_out(config, ["h"], lambda line: None)
    assert (out / "model" / "4").is_dir()
    open_out(settings(["a"], out, mix=(), overwrite=True), ["h"], lambda line: None)
    assert [path.name for path in out.iterdir()] == ["fine_tune.json"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": (), "mix": ()}, "--data is missing"),
        ({"model": "pi9"}, "unknown model"),
        ({"actions": "absolute"}, r"its actions are relative by .*dataset_card\.json, the model's are absolute"),
        ({"double_delta": True, "delta": True}, None),
        ({"delta": True}, "once more"),
        ({"fsdp": 3}, "--fsdp 3 does not divide"),
        ({"hold_out": 0.99}, "none to train on"),
        ({"weights": "/nowhere", "model": "pi0", "image_size": None}, "need its --tokenizer"),
        ({"image_size": 33}, "33 pixels do not divide"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(data, tmp_path, changes, message):
    config = settings(data, tmp_path / "none", dry_run=True, **changes)
    if message is None:
        assert fine_tune(config, lambda line: None) is None
    else:
        with pytest.raises(UserError, match=message) as error:
            fine_tune(config, lambda line: None)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "none").exists()


def test_a_dataset_without_a_card_must_be_described(data, tmp_path):
    bare = export(tmp_path, "bare", 3)
    (bare / CARD_JSON).unlink()
    config = settings([bare], tmp_path / "none", dry_run=True, mix=())
    with pytest.raises(UserError, match="pass --actions relative"):
        fine_tune(config, lambda line: None)
    assert fine_tune(dataclasses.replace(config, actions="relative"), lambda line: None) is None


def test_a_folder_of_something_else_is_left_alone(data, tmp_path):
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(UserError, match="is not a fine-tuning"):
        fine_tune(settings(data, tmp_path), lambda line: None)
    assert (tmp_path / "mine").read_text() == "keep"


def test_mixing_weights_must_fit_the_datasets(data, tmp_path):
    with pytest.raises(UserError, match="2 weights in --mix for 1 datasets"):
        settings(data[:1], tmp_path, mix=(3.0, 1.0))


def test_a_number_that_hardly_ever_moves_does_not_blow_up_the_loss(tmp_path):
    """In an episode to train on, or in one that is held out; it is named before anything is trained."""
    parts = hold_out(numbered_frames([3] * 50), 0.2, seed=0)
    # Of the episodes that the first batches take.
    firsts = [Mixture((part,)).select(4, 0, 0)[0][1] for part in parts]
    moving = dict(zip((first // 3 for first in firsts), (4, 2), strict=True))

    def change(index, values):
        if index in moving:
            values["action"][1, moving[index]] = 0.3

    folder = export(tmp_path, "rare", 0, 50, change)
    options = {"mix": (), "normalization": "quantile"}
    notes = []
    fine_tune(settings([folder], tmp_path / "run", dry_run=True, **options), notes.append)
    assert not (tmp_path / "run").exists()
    named = {note.split(":")[0]: note for note in notes if "too close together" in note}
    assert {"actions[2]", "actions[4]"} <= set(named) and all("0 to 0.3" in named[f"actions[{i}]"] for i in (2, 4))
    model = fine_tune(settings([folder], tmp_path / "run", **options), notes.append)
    lines = metrics(tmp_path / "run")
    assert max(line["loss"] for line in lines) < 20
    assert max(line["validation_loss"] for line in lines if "validation_loss" in line) < 20
    # Serving has the ranges that were trained on.
    _, _, stored = read_description(model)
    assert (stored.actions.q99 - stored.actions.q01)[[2, 4]].min() >= 0.019
    assert json.loads((tmp_path / "run" / "norm_stats.json").read_text()) == stored.to_json()


def test_statistics_of_another_robot_are_refused_before_the_run_is_touched(data, tmp_path):
    path = tmp_path / "norm_stats.json"
    path.write_text(json.dumps({"norm_stats": {k: {f: [0.5] * 14 for f in FIELDS} for k in ("state", "actions")}}))
    with pytest.raises(UserError, match=f"{path}: states of 14 numbers and actions of 14, expected 8") as error:
        fine_tune(settings(data, tmp_path / "run", norm_stats=str(path)), lambda line: None)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_the_statistics_that_it_began_with(unbroken, tmp_path):
    """As a version had them that widened no ranges."""
    *_, stats = read_description(unbroken[1])
    first = stored_statistics(tmp_path, stats)
    other = stats.replace(actions=stats.actions.replace(std=stats.actions.std + 1))
    jax.tree.map(np.testing.assert_array_equal, stored_statistics(tmp_path, other), first)


def test_adapters_are_merged_from_the_command_line(tmp_path, capsys):
    config = presets.with_lora(dataclasses.replace(presets.tiny(), image_size=SIDE))
    params = jax.tree.map(
        lambda x: np.random.default_rng(0).normal(size=x.shape).astype(np.float32), expected_params(config)
    )
    stats = NormStats.from_json({"norm_stats": {k: {n: [0.0] * 8 for n in ("mean", "std", "q01", "q99")}
                                                for k in ("state", "actions")}})  # fmt: skip
    write_model(tmp_path / "lora", config, InputSpec(), stats, params)
    main(["vla", "merge", str(tmp_path / "lora"), str(tmp_path / "merged")])
    merged, *_ = read_description(tmp_path / "merged")
    assert merged == presets.without_lora(config)
    wanted = flat_names(merge_lora(config, params))
    for name, leaf in flat_names(load_params(merged, tmp_path / "merged")).items():
        np.testing.assert_array_equal(leaf, wanted[name])
    with pytest.raises(SystemExit):
        main(["vla", "merge", str(tmp_path / "merged"), str(tmp_path / "again")])
    assert "has no adapters" in capsys.readouterr().err
