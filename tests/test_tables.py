"""The tables of the documents are those of the committed results."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

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
