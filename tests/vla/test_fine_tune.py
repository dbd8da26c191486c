"""Fine-tuning as a user meets it: datasets on disk, a folder whose run can be resumed, a model that acts."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from dataset_tools import write_rlds
from vla.toy import dot_episodes

from rlgen.cli.main import main
from rlgen.core.errors import UserError
from rlgen.data.card import CARD_JSON
from rlgen.data.episode import DatasetEpisode
from rlgen.vla.checkpoints.model_folder import read_description, write_model
from rlgen.vla.checkpoints.weights import expected_params, load_params
from rlgen.vla.data.normalize import NormStats
from rlgen.vla.data.spec import InputSpec
from rlgen.vla.model import presets
from rlgen.vla.model.lora import merge_lora
from rlgen.vla.model.parameters import flat_names
from rlgen.vla.serving.policy import open_policy
from rlgen.vla.training.config import FineTune, smoke
from rlgen.vla.training.fine_tune import fine_tune

SIDE = 32


def export(folder, name, seed):
    episodes = [
        DatasetEpisode(
            image=e.image,
            wrist_image=e.wrist_image,
            state=e.state.astype(np.float32),
            joint_state=np.zeros((3, 7), np.float32),
            action=e.action.astype(np.float32),
            language_instruction=e.language_instruction,
            file_path=f"{name}/{index}",
        )
        for index, e in enumerate(dot_episodes(12, seed, prompt=f"touch the {name}"))
    ]
    directory = write_rlds(folder, name, episodes, size=SIDE, shards=1)
    (directory / CARD_JSON).write_text(json.dumps({"action_semantics": "relative"}))
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return [export(folder, "first", 0), export(folder, "second", 1)]


def settings(folders, out, **changes):
    train = dataclasses.replace(smoke(), steps=4, batch=4, draws=1, warmup=1)
    given = {
        "data": tuple(map(str, folders)),
        "out": str(out),
        "model": "tiny",
        "image_size": SIDE,
        "mix": (3.0, 1.0),
        "hold_out": 0.2,
        "log_every": 1,
        "checkpoint_every": 2,
        "validate_every": 2,
        "validate_frames": 8,
        "train": train,
    }
    return FineTune(**given | changes)


def metrics(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("step_s", "data_wait_share")} for line in lines]


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "run"
    logged = []
    return out, fine_tune(settings(data, out), logged.append), logged


def test_an_interrupted_run_is_resumed_to_the_same(data, unbroken, tmp_path):
    def stop(line):
        if line.startswith("step 3 of"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(settings(data, tmp_path / "run"), stop)
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


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": (), "mix": ()}, "--data is missing"),
        ({"model": "pi9"}, "unknown model"),
        ({"actions": "absolute"}, "--actions"),
        ({"double_delta": True, "delta": True}, None),
        ({"delta": True}, "once more"),
        ({"fsdp": 3}, "--fsdp 3 does not divide"),
        ({"hold_out": 1.0}, "none to train on"),
        ({"weights": "/nowhere", "model": "pi0", "image_size": None}, "need its --tokenizer"),
        ({"image_size": 33}, "33 pixels do not divide"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(data, tmp_path, changes, message):
    config = settings(data, tmp_path / "none", dry_run=True, **changes)
    if message is None:
        assert fine_tune(config, lambda line: None) is None
    elif message == "--actions":
        # Said by hand, it counts in place of the card.
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
        settings(data[:1], tmp_path)


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
