"""The ledger behind the paper's table: what is run, what is not run again, and the numbers that come of it."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def load_paper():
    spec = importlib.util.spec_from_file_location("paper", ROOT / "experiments" / "paper.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["paper"] = module
    spec.loader.exec_module(module)
    return module


PAPER = load_paper()
TASKS = ("libero_object/a", "libero_object/b")
# Of each source and seed the trials that succeed, of three in each task.
SUCCESSES = {("scripted", 0): [0], ("scripted", 1): [0, 1], ("clone", 0): [0, 1], ("clone", 1): [0, 1, 2]}


def plan(tmp_path, sources=("scripted", "clone"), data=()):
    seeds, places = (0, 1), (dict(data), ("--placeholders",), tmp_path / "runs", 2)
    return PAPER.Plan(PAPER.SCALES["small"], "libero_object", sources, seeds, *places)


def value(words, option):
    return words[words.index(option) + 1]


class Rlgen:
    """The command line without its work: it leaves what later runs need, and may fail."""

    def __init__(self, fail_at: int | None = None):
        self.commands, self.fail_at = [], fail_at

    def __call__(self, words):
        if len(self.commands) == self.fail_at:
            self.fail_at = None
            raise RuntimeError("no memory")
        self.commands.append(words)
        out = Path(value(words, "--out"))
        if words[0] == "fleet":
            (out / "datasets").mkdir(parents=True)
            (out / "datasets" / "made.json").write_text(json.dumps({"datasets": ["libero_object_no_noops/1.0.0"]}))
        elif words[0] == "eval":
            out.mkdir(parents=True)
            source, seed = out.parent.name.split("-")
            chosen = SUCCESSES[source, int(seed)]
            rows = [{"task": task, "trial": trial, "success": trial in chosen} for trial in (2, 0, 1) for task in TASKS]
            (out / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.unit
def test_what_the_ledger_has_is_not_run_again(tmp_path):
    ledger, rlgen = tmp_path / "ledger.jsonl", Rlgen(fail_at=4)
    with pytest.raises(RuntimeError):
        PAPER.run_missing(plan(tmp_path), ledger, rlgen, lambda line: None)
    assert [words[0] for words in rlgen.commands] == ["fleet", "vla", "eval", "vla"]
    assert len(PAPER.read_metrics(ledger)) == 4
    PAPER.run_missing(plan(tmp_path), ledger, rlgen, lambda line: None)
    assert len(rlgen.commands) == 10 and len({tuple(words) for words in rlgen.commands}) == 10
    train = rlgen.commands[1]
    assert value(train, "--data").endswith("fleet-scripted/datasets/libero_object_no_noops/1.0.0")
    # Trainings differ in data and seed alone.
    words = [command for command in rlgen.commands if command[0] == "vla"]
    assert len({tuple(w for w in command if "/" not in w and w not in "01") for command in words}) == 1
    lines = [line for line in PAPER.read_metrics(ledger) if line["run"] == "evaluate"]
    assert lines[1]["outcomes"] == dict.fromkeys(TASKS, "110")
    PAPER.run_missing(plan(tmp_path), ledger, lambda words: pytest.fail(str(words)), lambda line: None)


@pytest.mark.unit
def test_the_table_has_successes_and_paired_differences(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    PAPER.run_missing(plan(tmp_path), ledger, Rlgen(), lambda line: None)
    rows = PAPER.table(PAPER.read_metrics(ledger)).split("\n")[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| scripted", "| clone"]
    assert rows[0].split(" | ")[1:4] == ["2", "12", rows[0].split(" | ")[3]] and rows[0].split(" | ")[3].startswith(
        "50.0 ("
    )
    # In every seed one trial of three more succeeds.
    assert rows[1].split(" | ")[4].startswith("33.3 (") and rows[0].split(" | ")[4] == ""


@pytest.mark.unit
def test_intervals_of_seeds_and_trials():
    assert PAPER.interval(np.ones((3, 50))) == (1.0, 1.0, 1.0)
    random = np.random.default_rng(1)
    same_trials = np.repeat(random.random((1, 400)) < 0.5, 3, axis=0)
    mean, low, high = PAPER.interval(same_trials)
    # Seeds that agree in every trial are worth one: the binomial's interval.
    assert high - low == pytest.approx(2 * 1.96 * (mean * (1 - mean) / 400) ** 0.5, rel=0.1)
    # Seeds that disagree as wholes are three numbers.
    mean, low, high = PAPER.interval(np.repeat([[0.0], [0.5], [1.0]], 400, axis=1))
    assert mean == 0.5 and high - low > 0.8


@pytest.mark.unit
def test_a_dataset_of_ones_own_needs_no_fleet(tmp_path):
    steps = list(PAPER.steps_of(plan(tmp_path, ("human",), {"human": "data/human/1.0.0"})))
    assert [what["run"] for what, _ in steps] == ["train", "evaluate", "train", "evaluate"]
    assert value(steps[0][1](), "--data") == "data/human/1.0.0"


@pytest.mark.slow
def test_the_smallest_row_is_run_by_the_command_line(tmp_path, monkeypatch):
    options = ["--scale", "tiny", "--suite", "libero_object/6", "--sources", "scripted", "--seeds", "0"]
    paths = ["--runs", str(tmp_path / "runs"), "--ledger", str(tmp_path / "ledger.jsonl")]
    fleet = ["--fleet", "--demos.episodes", "2", "--export.shards", "1"]
    monkeypatch.setattr(sys, "argv", ["paper.py", *options, *paths, *fleet])
    PAPER.main()
    lines = PAPER.read_metrics(tmp_path / "ledger.jsonl")
    assert [line["run"] for line in lines] == ["fleet", "train", "evaluate"]
    assert all(line["core_seconds"] > 1 for line in lines)
    [marks] = lines[-1]["outcomes"].values()
    assert marks in ("0", "1")
