"""The commands about datasets, as they are typed."""

import json
import sys
from pathlib import Path

import pytest
from export_of_noise import export

from rlgen.cli.common import AssetOptions
from rlgen.cli.data import replay_assets
from rlgen.cli.main import main
from rlgen.data.card import HEADINGS, write_card
from rlgen.data.dataset import open_dataset
from rlgen.data.metrics.quality import dataset_quality
from rlgen.libero.scenes.assets import LABELS

OWN = ("name", "format", "episodes", "steps", "picture_size", "shards", "descriptions")


def run(capsys, *words) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def dataset(tmp_path):
    folder = export("rlds", tmp_path / "data")
    facts = {key: f"about {key}" for key in HEADINGS if key not in OWN}
    write_card(folder, facts | {"quality": dataset_quality(open_dataset(folder)).summary()})
    return folder


def test_a_dry_run_of_a_push_lists_every_file(capsys, dataset):
    code, out, _ = run(capsys, "data", "push", dataset, "--repo", "somebody/stove", "--dry-run")
    assert code == 0
    for path in dataset.iterdir():
        assert f"{path.stat().st_size:,} B  {path.name}\n" in out
    assert out.splitlines()[-1].endswith("to the dataset somebody/stove, tagged 1.0.0")
    code, _, err = run(capsys, "data", "push", dataset, "--repo", "stove", "--dry-run")
    assert code == 2 and "repository stove: expected USER/NAME" in err


def test_verify_replays_only_what_has_a_start(capsys, dataset):
    code, _, err = run(capsys, "data", "verify", dataset, "--replay", "1")
    assert code == 2 and "the initial state of no episode is known; leave --replay out" in err


def test_a_replay_takes_the_assets_of_the_card_unless_others_are_asked_for(dataset, monkeypatch):
    found = []
    monkeypatch.setattr(AssetOptions, "find", lambda self: found.append(self) or len(found))
    card = json.loads((dataset / "dataset_card.json").read_text())
    for label, given, expected in (
        (LABELS["placeholder"], AssetOptions(), AssetOptions(placeholders=True)),
        (LABELS["placeholder"], AssetOptions(Path("x")), AssetOptions(Path("x"))),
        ("LIBERO assets", AssetOptions(), AssetOptions()),
    ):
        (dataset / "dataset_card.json").write_text(json.dumps(card | {"assets": {"label": label}}))
        found.clear()
        assets_of = replay_assets(given)
        # Looked for once, however many datasets there are.
        assert assets_of(dataset) == assets_of(dataset) == 1
        assert found == [expected]


def test_verify_says_so_or_names_the_fault_and_fails(capsys, dataset):
    code, out, _ = run(capsys, "data", "verify", dataset.parents[1])
    assert (code, out) == (0, f"{dataset}: sound\n")
    shard = sorted(dataset.glob("*tfrecord*"))[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    code, out, err = run(capsys, "data", "verify", dataset)
    assert code == 2 and "1 of the datasets are not what their cards say" in err
    assert f"  {shard.name}: altered" in out and "(episode libero_object/task_1/noise/train-" in out


def test_merge_and_show_and_quality(capsys, tmp_path, dataset):
    code, out, _ = run(
        capsys, "data", "merge", dataset, dataset, "--out", tmp_path / "m", "--shortest", 4, "--format", "lerobot"
    )
    assert code == 0
    merged = out.strip()
    assert len(open_dataset(merged)) == 4
    code, out, _ = run(capsys, "data", "show", merged, "--out", tmp_path / "pages", "--episode", 0)
    assert code == 0 and (tmp_path / "pages/episode-00000.html").is_file()
    code, out, _ = run(
        capsys, "data", "quality", dataset, merged, "--names", "all", "short", "--out", tmp_path / "q", "--axis", "x"
    )
    assert (code, out) == (0, f"{tmp_path / 'q' / 'quality.html'}\n")
    assert list(json.loads((tmp_path / "q/quality.json").read_text())) == ["all", "short"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "burn"], "'rlgen data burn': expected one of export, verify"),
        (["dataset", "verify"], "is now `rlgen data`"),
        (["data", "verify", "nowhere"], "nowhere: no dataset there"),
        (["data", "merge", "nowhere", "--out", "x"], "nowhere: no dataset there"),
        (["data", "merge", "a", "--out", "x", "--weights", "3;1"], "3;1"),
        (["data", "merge", "a", "--out", "x", "--smoothest", "1", "--shortest", "1"], "give one of them"),
        (["data", "quality", "nowhere"], "nowhere: no such file or folder"),
        (["data", "export", "nowhere"], "nowhere: no such file or folder"),
        (["data", "export", "nowhere", "--format", "rlds", "zip"], "zip"),
        (["data", "export", "nowhere", "--image-size", "0"], "--image-size 0: expected 1 to 4096"),
        (["data", "export", "nowhere", "--resolution", "64"], "--resolution is now --image-size"),
    ],
)
def test_mistakes_are_one_line(capsys, monkeypatch, tmp_path, cache, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLGEN_CACHE", str(cache))
    placeholders = ["--placeholders"] if words[1] == "export" else []
    code, out, err = run(capsys, *words, *placeholders)
    assert code == 2 and out == ""
    assert err.splitlines()[-1].startswith("rlgen: ") and message in err
    assert list(tmp_path.iterdir()) == []


def test_the_benchmark_names_the_extra_where_tensorflow_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = run(capsys, "bench", "dataset")
    assert code == 2 and "`uv sync --extra tensorflow` or `pip install tensorflow-cpu`" in err


@pytest.mark.parametrize("words", [("push", "{}", "--repo", "a/b"), ("pull", "a/b")], ids=" ".join)
def test_no_network_is_used_where_it_is_forbidden(capsys, dataset, monkeypatch, words):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.chdir(dataset.parent)
    words = [word.format(dataset) for word in words]
    monkeypatch.setenv("RLGEN_OFFLINE", "0")
    code, _, err = run(capsys, "data", *words)
    assert code == 2 and err.startswith("rlgen: http://127.0.0.1:9: a/b: ") and err.count("\n") == 1
    monkeypatch.setenv("RLGEN_OFFLINE", "1")
    code, _, err = run(capsys, "data", *words)
    assert code == 2 and err.startswith("rlgen: no network is to be used") and err.count("\n") == 1
    monkeypatch.setenv("RLGEN_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "huggingface.co")
    code, _, err = run(capsys, "data", *words)
    assert code == 2 and "HF_ENDPOINT huggingface.co: expected an address" in err


def test_assets_that_cannot_be_used_are_refused_before_anything_is_verified(capsys, dataset):
    code, _, err = run(capsys, "data", "verify", dataset, "--assets", dataset / "nowhere")
    assert code == 2 and err.startswith("rlgen: assets folder") and err.count("\n") == 1
