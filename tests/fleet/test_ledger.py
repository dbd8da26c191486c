"""The ledger: whole lines only, whoever writes and whatever breaks; and what follows from its lines."""

import json
import resource
import subprocess
import sys

import pytest

from rlgen.core.errors import UserError
from rlgen.fleet.ledger import (
    COSTS,
    SILENT,
    Ledger,
    check_intact,
    read_ledger,
    state_of,
    stopped_in_a_row,
    total_costs,
)
from rlgen.libero.tasks.suites import find_task

TASK = find_task("libero_goal/7")
COST = {"core_seconds": 2.0, "device_seconds": 0.5, "wall_seconds": 3.0}
FREE = dict.fromkeys(COSTS, 0.0)


def line(kind: str, number: int = 0, **values) -> dict:
    return {"kind": kind, "task": TASK.id, "try": number, **values}


def running(now: float, number: int = 0, **costs) -> dict:
    return {"try": number, "stage": "bc", "now": now, **FREE, **costs}


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_last_line_is_not_read_and_gives_way_to_the_next(tmp_path, cut):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, task=TASK.id)
    ledger.append("stage", **{"try": 0}, stage="demos")
    whole = path.read_bytes()
    ledger.append("stage", **{"try": 0}, stage="bc")
    path.write_bytes(path.read_bytes()[:-cut])
    assert [entry["stage"] for entry in ledger.read()] == ["demos"]
    ledger.append("failed", **{"try": 0}, stage="ppo")
    assert [entry["stage"] for entry in ledger.read()] == ["demos", "ppo"]
    assert path.read_bytes().startswith(whole) and path.read_bytes().count(b"\n") == 2


def test_a_file_of_one_torn_line_is_begun_anew(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"kind": "stage", "ta' * 500)  # longer than a block that is read at a time
    Ledger(path, task=TASK.id).append("stage", **{"try": 0}, stage="demos")
    assert [entry["stage"] for entry in read_ledger(path)] == ["demos"] and path.read_bytes().count(b"\n") == 1


def test_two_processes_write_whole_lines_and_lose_none(tmp_path):
    path = tmp_path / "ledger.jsonl"
    code = (
        "import sys\nfrom pathlib import Path\nfrom rlgen.fleet.ledger import Ledger\n"
        f"ledger = Ledger(Path({str(path)!r}), task='t')\n"
        "for n in range(60): ledger.append('stage', **{'try': n}, who=sys.argv[1], text='x' * 3000)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, who]) for who in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    for who in "ab":
        assert [entry["try"] for entry in lines if entry["who"] == who] == list(range(60))


def test_where_the_disk_ends_no_half_of_a_line_stays(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, task=TASK.id)
    ledger.append("stage", **{"try": 0}, stage="demos")
    before, limit = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    code = (
        "import resource, signal\nfrom pathlib import Path\nfrom rlgen.core.errors import UserError\n"
        "from rlgen.fleet.ledger import Ledger\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 20}, {limit[1]}))\n"
        f"try: Ledger(Path({str(path)!r}), task='t').append('stage', **{{'try': 0}}, text='x' * 100)\n"
        "except UserError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert str(path) in said and said.count("\n") == 1
    assert path.read_bytes() == before


def test_lines_of_another_kind_are_passed_over(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_text(f'nonsense\n[1]\n{{"kind": "stage"}}\n{json.dumps(line("done"))}\n')
    assert read_ledger(path) == [line("done")]
    assert read_ledger(tmp_path / "none.jsonl") == []


def test_a_ledger_of_another_task_is_refused(tmp_path):
    check_intact([line("stage"), line("done")], tmp_path)
    with pytest.raises(UserError, match="is about"):
        check_intact([line("stage"), {**line("done"), "task": "libero_goal/other"}], tmp_path)


@pytest.mark.parametrize(
    ("lines", "now_running", "tries", "state", "number", "stage"),
    [
        ([], None, 3, "waiting", 0, ""),
        ([], running(100.0), 3, "running", 0, "bc"),
        ([], running(100.0 - 2 * SILENT), 3, "stopped", 0, "bc"),
        ([line("stage", stage="demos")], None, 3, "stopped", 0, "demos"),
        ([line("failed", reason="a")], None, 3, "stopped", 1, ""),
        ([line("failed", reason="a")], running(100.0, 1), 3, "running", 1, "bc"),
        ([line("failed", reason="a"), line("failed", 1, reason="b", stage="bc")], None, 2, "failed", 1, "bc"),
        # A larger limit than before: it goes on.
        ([line("failed", reason="a"), line("failed", 1, reason="b", stage="bc")], None, 3, "stopped", 2, "bc"),
        ([line("failed", reason="a"), line("done", 1, figures={"x": 1})], None, 1, "done", 1, ""),
    ],
)
def test_the_state_of_a_task_follows_from_its_lines(lines, now_running, tries, state, number, stage):
    found = state_of(TASK, lines, now_running, tries, now=100.0)
    assert (found.state, found.number, found.stage) == (state, number, stage)
    assert found.reasons == tuple(entry["reason"] for entry in lines if entry["kind"] == "failed")
    assert found.figures == ({"x": 1} if state == "done" else {})


def test_all_processes_of_a_task_are_charged():
    lines = [
        line("stage", **COST),
        line("stopped", **COST),
        line("failed", **COST, reason="a"),
        line("stage", 1, **COST),
    ]
    assert total_costs(lines) == {name: 4 * value for name, value in COST.items()}
    found = state_of(TASK, lines, running(10.0, 1, core_seconds=1.0), 3, now=10.0)
    assert found.costs == {"core_seconds": 9.0, "device_seconds": 2.0, "wall_seconds": 12.0}


def test_only_deaths_at_one_place_without_interruption_count():
    here = {"try": 0, "stage": "ppo", "mark": 1.5}
    killed = {"kind": "stopped", "why": "killed", **here}
    assert stopped_in_a_row([], here) == 0
    assert stopped_in_a_row([killed, killed], here) == 2
    assert stopped_in_a_row([killed, {**killed, "why": "interrupted"}, killed], here) == 2
    assert stopped_in_a_row([killed, {**killed, "mark": 1.0}, killed], here) == 1
    assert stopped_in_a_row([killed, line("stage")], here) == 0
