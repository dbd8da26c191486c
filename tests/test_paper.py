"""The ledger behind the paper's table: what is run, what is not run again, and the numbers that come of it."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rlgen.data.card import read_card

ROOT = Path(__file__).resolve().parents[1]


def load(name):
    sys.path.insert(0, str(ROOT / "experiments"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


PAPER = load("paper")
SOURCES, TABLES = sys.modules["paper_sources"], sys.modules["paper_tables"]
DATASET = "libero_object_no_noops/1.0.0"
TASKS = ("libero_object/a", "libero_object/b")
# Of each source and seed the trials that succeed, of three in each task.
SUCCESSES = {("scripted", 0): [0], ("scripted", 1): [0, 1], ("gaussian", 0): [0, 1], ("gaussian", 1): [0, 1, 2]}


def card(folder):
    """A card on which every label is the length of the source's name."""
    length = float(len(folder.parents[2].name))
    estimate = {"mean": length}
    quality = {"episodes": 4, "noops_per_4500": length, "diversity": {"distance": estimate, "ways": length}}
    names = ("length", "mean_squared_jerk", "log_dimensionless_jerk", "action_variation", "gripper_switches")
    return {"quality": quality | dict.fromkeys(names, estimate)}


@pytest.fixture(autouse=True)
def cards(monkeypatch):
    monkeypatch.setattr(SOURCES, "read_card", card)


def plan(tmp_path, sources=("scripted", "gaussian"), data=(), evaluations=(("benchmark", "heldout"),)):
    scale, tasks = PAPER.SCALES["small"], ("libero_object",)
    size = (scale.image_size, scale.episodes)
    making = PAPER.Making(tasks, tmp_path / "runs", *size, ("--placeholders",), 2, dict(data))
    return PAPER.Plan(scale, sources, (0, 1), making, {name: (tasks, split) for name, split in evaluations})


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
        if words[0] in ("fleet", "data"):
            folder = out / "datasets" if words[0] == "fleet" else out
            folder.mkdir(parents=True)
            (folder / "made.json").write_text(json.dumps({"datasets": [DATASET]}))
        elif words[0] == "eval":
            out.mkdir(parents=True)
            source, seed = out.parent.name.rsplit("-", 1)
            chosen = SUCCESSES[source, int(seed)]
            rows = [{"task": task, "trial": trial, "success": trial in chosen} for trial in (2, 0, 1) for task in TASKS]
            (out / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.unit
def test_what_the_ledger_has_is_not_run_again(tmp_path):
    ledger, rlgen = tmp_path / "ledger.jsonl", Rlgen(fail_at=4)
    with pytest.raises(RuntimeError):
        PAPER.run_missing(plan(tmp_path), ledger, rlgen, lambda line: None)
    assert [words[0] for words in rlgen.commands] == ["fleet", "data", "vla", "eval"]
    assert len(PAPER.read_metrics(ledger)) == 4
    PAPER.run_missing(plan(tmp_path), ledger, rlgen, lambda line: None)
    assert len(rlgen.commands) == 11 and len({tuple(words) for words in rlgen.commands}) == 11
    train = rlgen.commands[2]
    assert value(train, "--data").endswith(f"data-scripted/datasets/{DATASET}")
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
    rows = TABLES.table(PAPER.read_metrics(ledger)).split("\n")[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| scripted", "| gaussian"]
    assert rows[0].split(" | ")[1:4] == ["benchmark", "2", "12"] and rows[0].split(" | ")[4].startswith("50.0 (")
    # In every seed one trial of three more succeeds.
    assert rows[1].split(" | ")[5].startswith("33.3 (") and rows[0].split(" | ")[5] == ""


@pytest.mark.unit
def test_intervals_of_seeds_and_trials():
    assert TABLES.interval(np.ones((3, 50))) == (1.0, 1.0, 1.0)
    random = np.random.default_rng(1)
    same_trials = np.repeat(random.random((1, 400)) < 0.5, 3, axis=0)
    mean, low, high = TABLES.interval(same_trials)
    # Seeds that agree in every trial are worth one: the binomial's interval.
    assert high - low == pytest.approx(2 * 1.96 * (mean * (1 - mean) / 400) ** 0.5, rel=0.1)
    # Seeds that disagree as wholes are three numbers.
    mean, low, high = TABLES.interval(np.repeat([[0.0], [0.5], [1.0]], 400, axis=1))
    assert mean == 0.5 and high - low > 0.8


@pytest.mark.unit
def test_a_dataset_of_ones_own_needs_no_fleet(tmp_path):
    steps = list(PAPER.steps_of(plan(tmp_path, ("human",), {"human": "data/human/1.0.0"})))
    assert [what["run"] for what, _ in steps] == ["train", "evaluate", "train", "evaluate"]
    assert value(steps[0][1]()[0], "--data") == "data/human/1.0.0"


@pytest.mark.unit
def test_a_mixture_is_made_once_of_what_is_made_before(tmp_path):
    chosen = plan(tmp_path, ("scripted", "half", "quarter"), {"diffusion": "data/rl/1.0.0"}, [("wide", "wide")])
    rlgen = Rlgen()
    PAPER.run_missing(replace(chosen, seeds=()), tmp_path / "ledger.jsonl", rlgen, lambda line: None)
    assert [words[0] for words in rlgen.commands] == ["fleet", "data", "data", "data"]
    scripted = str(tmp_path / "runs" / "data-scripted" / "datasets" / DATASET)
    fleet, first, _, merge = rlgen.commands
    # Some that are recorded are not exported.
    assert value(fleet, "--collect.episodes") == "75" and value(first, "--episodes") == "50"
    assert merge[2:4] == [scripted, "data/rl/1.0.0"] and value(merge, "--episodes") == "50"
    assert merge[merge.index("--weights") + 1 :][:2] == ["1", "3"]
    assert value(chosen.evaluate_command("half", 0, "wide"), "--split") == "wide"


@pytest.mark.unit
def test_labels_are_means_of_cards_and_leave_out_what_a_card_does_not_know(tmp_path, monkeypatch):
    chosen = plan(tmp_path, ("human",)).making
    monkeypatch.setattr(SOURCES.Making, "datasets", lambda *_: ["/x/runs/ab/datasets/d/1", "/x/runs/abcd/datasets/d/1"])
    known = {folder: card(Path(folder)) for folder in chosen.datasets("human")}
    first, second = known.values()
    first["quality"]["episodes"], second["quality"]["diversity"] = 12, {"distance": {"mean": 4.0}, "ways": None}
    monkeypatch.setattr(SOURCES, "read_card", lambda folder: known[str(folder)])
    labels = chosen.labels("human")
    assert labels["length"] == labels["distance between paths"] == 2.5 and "ways" not in labels


@pytest.mark.unit
@pytest.mark.parametrize(("source", "actor"), [("noise", "exploring"), ("clone", "clone")])
def test_others_act_in_runs_of_experts_which_are_left_as_they_were(source, actor, tmp_path, monkeypatch):
    monkeypatch.setattr(SOURCES, "open_plan", lambda folder: folder)
    states = [SimpleNamespace(state="done", name="a"), SimpleNamespace(state="failed", name="b")]
    monkeypatch.setattr(SOURCES, "read_states", lambda folder, plan: states)
    monkeypatch.setattr(SOURCES, "episodes_path", lambda folder, plan, one: folder / one.name)
    chosen = plan(tmp_path, (source,))
    (tmp_path / "runs" / "data-diffusion").mkdir(parents=True)
    [fleet, again, *_] = PAPER.steps_of(chosen)
    assert fleet[0] == {"run": "fleet", "source": "diffusion"} and again[0] == {"run": "collect", "source": source}
    first, export, last = again[1]()
    run = str(tmp_path / "runs" / "data-diffusion" / "a")
    assert (value(first, "--run"), value(first, "--collect.source")) == (run, actor)
    assert export[:3] == ["data", "export", run]
    assert (value(last, "--run"), value(last, "--collect.source")) == (run, "ppo")


@pytest.mark.unit
def test_a_label_that_orders_sources_as_their_success_does_has_a_rank_correlation_of_one():
    lines = []
    for rank, source in enumerate("abcde"):
        labels = {"length": -rank, "jerk": [3, 1, 4, 0, 2][rank], "no-ops": 1.0}
        labels |= {"ways": 1.0} if source != "c" else {}
        lines.append({"run": "train", "source": source, "seed": 0, "labels": labels})
        marks = {"task": "1" * (40 * rank) + "0" * (40 * (4 - rank))}
        lines.append({"run": "evaluate", "source": source, "seed": 0, "on": "benchmark", "outcomes": marks})
    rows = TABLES.dial(lines).split("\n")[2:]
    assert rows[0] == "| length | -1.00 (-1.00 to -1.00) |"
    # Ranks 3 1 4 0 2 beside 0 1 2 3 4: 1 - 6 * 26 / (5 * 24).
    assert rows[1].startswith("| jerk | -0.30 (") and rows[2:] == ["| no-ops | the same in all sources |"]
    assert "fewer than 4" in TABLES.dial(lines[:6])


@pytest.mark.unit
@pytest.mark.parametrize("study", ["table1", "table2", "dial"])
def test_every_study_says_its_commands(study, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paper.py", study, "--dry-run", "--seeds", "0", "--others", "libero_goal/1"])
    PAPER.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines))
    trained = [line for line in lines if line.startswith("rlgen vla train")]
    assert len(trained) == len(SOURCES.STUDIES[study])
    assert sum(line.startswith("rlgen eval") for line in lines) == len(trained) * (3 if study == "table2" else 2)


@pytest.mark.slow
def test_the_smallest_rows_are_run_by_the_command_line(tmp_path, monkeypatch):
    """A source of a fleet, and a mixture of it with another dataset, evaluated on wide resets as well."""
    options = ["--scale", "tiny", "--tasks", "libero_object/6", "--seeds", "0"]
    paths = ["--runs", str(tmp_path / "runs"), "--ledger", str(tmp_path / "ledger.jsonl")]
    fleet = ["--fleet", "--export.shards", "1"]

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["paper.py", *words])
        PAPER.main()
        return PAPER.read_metrics(tmp_path / "ledger.jsonl")

    monkeypatch.setattr(SOURCES, "read_card", read_card)
    lines = run("dial", *options, "--sources", "styles1", *paths, *fleet)
    assert [line["run"] for line in lines] == ["fleet", "merge", "train", "evaluate"]
    [other] = (tmp_path / "runs/tiny/data-styles1/datasets").glob("*/1.0.0")
    given = ["--data", f"diffusion={other}"]
    lines = run("table2", *options, "--sources", "half", *given, *paths, *fleet)[4:]
    assert [line["run"] for line in lines][:6] == ["fleet", "merge", "merge", "train", "evaluate", "evaluate"]
    assert [line["on"] for line in lines if line["run"] == "evaluate"] == ["benchmark", "wide"] * 2
    assert all(line["core_seconds"] > 1 for line in lines)
    assert all(set(marks) <= {"0", "1"} for line in lines for marks in line.get("outcomes", {}).values())
    [merged] = (tmp_path / "runs/tiny/data-half/datasets").glob("*/1.0.0")
    assert [part["taken"] for part in read_card(merged)["merged_from"].values()] == [1, 1]
    words = ["--sources", "styles1", "half", "--scale", "tiny", "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["paper_figures.py", *words, "--out", str(tmp_path / "kept")])
    load("paper_figures").main()
    kept = json.loads((tmp_path / "kept" / "quality.json").read_text())
    assert {name: value["episodes"] for name, value in kept.items()} == {"styles1": 2, "half": 2}
    assert kept["half"]["action_spread"] == pytest.approx(read_card(merged)["quality"]["action_spread"])
    assert {path.name for path in (tmp_path / "kept").glob("figure*")} == {
        f"figure{number}.{ending}" for number in (6, 7) for ending in ("png", "csv")
    }
