"""The tables of the documents are those of the committed results."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from rlgen.fleet.assemble import read_states
from rlgen.fleet.plan import open_plan

ROOT = Path(__file__).resolve().parents[1]


def load_tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "experiments" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "experiments"))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


TABLES = load_tables()


@pytest.mark.parametrize("document", TABLES.DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_stand_as_the_script_makes_them(document):
    text = document.read_text()
    assert TABLES.with_tables(text, TABLES.all_tables()) == text, "run experiments/tables.py --write"


def test_every_marker_has_a_table_and_every_table_is_shown():
    shown = [set(re.findall(r"<!-- ([a-z-]+) -->", path.read_text())) for path in TABLES.DOCUMENTS]
    assert shown[0] <= {"quickstart"}, "the README has one table of results at most"
    assert set().union(*shown) == set(TABLES.all_tables())


def test_every_committed_result_can_be_read():
    results = sorted((ROOT / "experiments" / "results").rglob("*.json"))
    assert results
    for path in results:
        json.loads(path.read_text())


def test_what_is_committed_of_a_fleet_opens_as_one_and_names_no_folder_of_the_machine(tmp_path):
    sys.path.insert(0, str(ROOT / "experiments"))
    try:
        from fleet_results import copy
        from fleet_tables import FLEETS
    finally:
        sys.path.pop(0)
    fleet, folder = tmp_path / "fleet", tmp_path / "assets"
    shutil.copytree(FLEETS / "diffusion", fleet)
    record = json.loads((fleet / "fleet.json").read_text())
    record["assets"]["path"] = str(folder)
    (fleet / "fleet.json").write_text(json.dumps(record))
    ledger = next(fleet.rglob("ledger.jsonl"))
    first = json.loads(ledger.read_text().splitlines()[0])
    failed = {**first, "kind": "failed", "reason": f"{fleet}/tasks/x/0: damaged; {folder}/mug: missing"}
    ledger.write_text(json.dumps(failed) + "\n")
    copy(fleet, tmp_path / "out")
    copied = (tmp_path / "out" / ledger.relative_to(fleet)).read_text()
    assert json.loads(copied)["reason"] == "tasks/x/0: damaged; mug: missing"
    assert not any(str(tmp_path) in file.read_text() for file in (tmp_path / "out").rglob("*") if file.is_file())
    plan = open_plan(tmp_path / "out")
    assert plan.assets["path"] == "assets"
    assert [state.reasons for state in read_states(tmp_path / "out", plan) if state.reasons]
