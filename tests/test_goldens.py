"""The reference material is read to the last array, and none of it is skipped where it is there."""

import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace

import goldens
import pytest
from goldens import COMPARED, NOT_COMPARED, READERS, ReadCheck, all_arrays, left_over, readers
from shared import ABSENT, shared_dir

TESTS = Path(__file__).resolve().parent
CI = TESTS.parent / ".ci" / "run"


def test_every_file_has_tests_that_read_it_and_every_reader_a_file():
    arrays = all_arrays()
    assert [array for array in arrays if not readers(array)] == []
    for pattern in READERS:
        assert any(fnmatchcase(array.partition(":")[0], pattern) for array in arrays), pattern
    for pattern in NOT_COMPARED:
        assert any(fnmatchcase(array, pattern) for array in arrays), pattern


@pytest.mark.parametrize("name", sorted(COMPARED))
def test_readers_are_there(name):
    assert (TESTS / name).is_file()


def test_what_all_readers_have_left_is_left_over():
    arrays, everybody = set(all_arrays()), set(COMPARED)
    left = next(array for array in sorted(arrays) if readers(array) == ("nets/test_mlp.py",))
    assert left_over(arrays, everybody) == []
    assert left_over(arrays - {left}, everybody) == [left]
    # Some of its readers have not run.
    assert left_over(arrays - {left}, everybody - {"nets/test_mlp.py"}) == []


def session(*args: str, workers: bool = False) -> SimpleNamespace:
    output = {"workeroutput": {}} if workers else {}
    config = SimpleNamespace(args=list(args), invocation_params=SimpleNamespace(dir=TESTS.parent), **output)
    return SimpleNamespace(config=config, exitstatus=0, items=[])


def item(test: str) -> SimpleNamespace:
    return SimpleNamespace(nodeid=f"tests/nets/test_mlp.py::{test}", path=TESTS / "nets/test_mlp.py")


@pytest.mark.parametrize(
    ("selected", "deselected", "args", "passed", "fails"),
    [
        ("ab", "", ["tests"], "ab", True),
        ("ab", "", ["tests"], "a", False),
        ("a", "b", ["tests"], "a", False),
        ("a", "", ["tests/nets/test_mlp.py::a"], "a", False),
    ],
    ids=["all pass", "one fails", "one is deselected", "one is named"],
)
@pytest.mark.parametrize("workers", [False, True], ids=["one process", "workers"])
def test_a_session_that_reads_too_little_fails(monkeypatch, selected, deselected, args, passed, fails, workers):
    arrays = {array for array in all_arrays() if readers(array) == ("nets/test_mlp.py",)}
    left = sorted(arrays)[0]
    monkeypatch.setattr(goldens, "READ", arrays - {left})

    def collect(check, session):
        session.items = [item(test) for test in selected]
        check.pytest_deselected([item(test) for test in deselected])
        check.pytest_collection_finish(session)

    check, here = ReadCheck(), session(*args)
    if workers:
        worker, there = ReadCheck(), session(*args, workers=True)
        collect(worker, there)
        worker.pytest_sessionfinish(there)
        monkeypatch.setattr(goldens, "READ", set())
        check.pytest_testnodedown(there.config, None)
    else:
        collect(check, here)
    for test in passed:
        check.pytest_runtest_logreport(SimpleNamespace(when="call", passed=True, nodeid=item(test).nodeid))
    check.pytest_sessionfinish(here)
    assert check.left == ([left] if fails else [])
    assert here.exitstatus == (pytest.ExitCode.TESTS_FAILED if fails else 0)


def run_tests(shared: Path | str, *names: str) -> subprocess.CompletedProcess:
    arguments = [sys.executable, "-m", "pytest", "-n", "0", "-rs", "-p", "no:cacheprovider", *names]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["RLGEN_SHARED"] = str(shared)
    return subprocess.run(arguments, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=300)


NAMES = ("tests/diffusion/test_schedules.py", "tests/data/test_tfrecord.py")


@pytest.mark.parametrize("inside", [(), ("golden/dppo/public", "golden/rlds")], ids=["empty", "folders alone"])
def test_a_folder_without_what_belongs_into_it_is_an_error(tmp_path, inside):
    for part in inside:
        (tmp_path / part).mkdir(parents=True)
    done = run_tests(tmp_path, *NAMES)
    assert done.returncode not in (0, 5), done.stdout
    assert str(tmp_path) in done.stdout and "test_schedules.py" in done.stdout


def test_what_is_skipped_is_counted_by_the_gate(tmp_path):
    done = run_tests(tmp_path / "none", *NAMES)
    assert done.returncode == 0 and ABSENT in done.stdout
    [line] = [line for line in CI.read_text().splitlines() if line.startswith('skipped="$(')]
    log = tmp_path / "log"
    log.write_text(done.stdout)
    counted = subprocess.run(
        ["bash", "-c", f'log="$1"; {line}; echo "$skipped"', "bash", str(log)], capture_output=True, text=True
    )
    # A test, and a file of them whose cases are in the material.
    assert counted.stdout.split() == ["2"], done.stdout


@pytest.mark.parametrize("named", [True, False])
def test_no_cases_are_a_mistake(tmp_path, named):
    """As are loops over them: `cases` and `files` raise where they find none."""
    from dppo import cases, files

    shared_dir()
    with pytest.raises((KeyError, FileNotFoundError)):
        cases("01_schedules", "nothing") if named else files("none_*")
