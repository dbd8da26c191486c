"""What may be removed or replaced, and that one process writes into a folder."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from rlgen.core import ownership
from rlgen.core.errors import UserError
from rlgen.core.files import atomic_folder
from rlgen.core.ownership import (
    OutputKind,
    check_contents,
    check_file,
    check_names,
    check_replaceable,
    check_unneeded,
    clear_output,
    has_keys,
    is_vacant,
    only_writer,
    read_record,
    remove,
)

SOUP = OutputKind("a soup", "--out", "soup.json", lambda value: has_keys(value, "salt"), ("bowl/*", "spoon.*"))


def cook(folder, record='{"salt": 1}'):
    (folder / "bowl" / "deep").mkdir(parents=True)
    (folder / "bowl" / "deep" / "rest").write_text("broth")
    (folder / "spoon.txt").write_text("silver")
    (folder / ".spoon.txt.x1.part").write_text("half of it")
    (folder / "soup.json").write_text(record)
    return folder


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(folder, message, **options):
    before = names(folder)
    with pytest.raises(UserError, match=message) as caught:
        clear_output(folder, SOUP, **options)
    assert names(folder) == before and "\n" not in str(caught.value)


def test_what_is_recognized_is_cleared_and_the_folder_stays(tmp_path):
    folder = cook(tmp_path / "soup")
    clear_output(folder, SOUP)
    assert folder.is_dir() and names(folder) == []
    clear_output(folder, SOUP)
    clear_output(tmp_path / "nothing", SOUP)


@pytest.mark.parametrize("record", ["{}", "[]", "null", "salt", '{"salt": ', "[" * 100_000, '"salt"'])
def test_a_record_of_somebody_else_protects_its_folder(tmp_path, record):
    refused(cook(tmp_path / "soup", record), "is not a soup that rlgen wrote; move it away or choose another --out")


def test_a_folder_without_a_record_and_a_file_are_not_removed(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("x")
    refused(tmp_path / "thesis", "is not a soup")
    with pytest.raises(UserError, match="is a file"):
        clear_output(tmp_path / "thesis" / "chapter1.txt", SOUP)


def test_a_file_of_somebody_in_a_recognized_folder_is_named(tmp_path):
    folder = cook(tmp_path / "soup")
    (folder / "notes.txt").write_text("mine")
    refused(folder, r"notes\.txt is not part of a soup and would be removed; move it away or choose another --out")
    check_replaceable(folder, SOUP, entries=["notes.txt"])
    (folder / "notes.txt").unlink()
    (folder / "pot" / "deep").mkdir(parents=True)
    check_replaceable(folder, SOUP)
    (folder / "pot" / "deep" / "notes.txt").write_text("mine")
    refused(folder, r"pot/deep/notes\.txt is not part of a soup")
    check_contents(folder, SOUP, part="bowl")
    (folder / "pot" / "deep" / "notes.txt").unlink()
    (folder / "cupboard").symlink_to(tmp_path)
    refused(folder, "cupboard is not part of a soup")


def test_inputs_the_working_directory_and_the_home_stay(tmp_path, monkeypatch):
    folder = cook(tmp_path / "soup")
    refused(folder, "is or holds an input of this command", inputs=[folder])
    refused(folder, "is or holds an input", inputs=[None, str(folder / "bowl" / "deep" / "rest")])
    (tmp_path / "link").symlink_to(folder)
    refused(folder, "is or holds an input", inputs=[tmp_path / "link" / "bowl"])
    (folder / "bowl" / "outside").symlink_to(tmp_path)
    refused(folder, "is or holds an input", inputs=[folder / "bowl" / "outside"])
    monkeypatch.setenv("HOME", str(folder / "bowl"))
    refused(folder, "is or holds the home directory")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(folder / "bowl" / "deep")
    refused(folder, "is or holds the working directory")
    refused(tmp_path / "link", "is or holds the working directory")
    monkeypatch.chdir(tmp_path)
    check_replaceable(folder, SOUP, inputs=[tmp_path, tmp_path / "elsewhere", "soup2"])
    with pytest.raises(UserError, match="working directory"):
        check_unneeded(tmp_path.parent, [], option="--out")


def test_links_are_removed_and_their_targets_stay(tmp_path):
    folder = cook(tmp_path / "soup")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "precious").write_text("x")
    remove(folder / "bowl")
    (folder / "bowl").symlink_to(tmp_path / "store")
    (tmp_path / "link").symlink_to(folder)
    clear_output(tmp_path / "link", SOUP)
    assert (tmp_path / "link").is_symlink() and names(folder) == []
    assert (tmp_path / "store" / "precious").is_file()


def test_a_removal_that_was_killed_can_be_repeated(tmp_path, monkeypatch):
    folder, removed = cook(tmp_path / "soup"), []

    def stop_at_the_third(path):
        removed.append(path.name)
        if len(removed) == 3:
            raise KeyboardInterrupt
        remove(path)

    monkeypatch.setattr(ownership, "remove", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        clear_output(folder, SOUP)
    monkeypatch.undo()
    assert removed[-1] != "soup.json" and (folder / "soup.json").is_file()
    # As if a folder had been half removed.
    (folder / ".bowl.removed").mkdir()
    clear_output(folder, SOUP)
    assert names(folder) == []


def test_a_file_is_replaced_only_where_it_is_recognized(tmp_path):
    def recognize(path):
        return has_keys(read_record(path), "salt")

    check_file(tmp_path / "new.json", recognize, noun="a soup")
    (tmp_path / "ours.json").write_text(json.dumps({"salt": 0, "more": 1}))
    check_file(tmp_path / "ours.json", recognize, noun="a soup")
    (tmp_path / "theirs.json").write_text("{}")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    for name in ("theirs.json", "nowhere"):
        with pytest.raises(UserError, match=f"{name} is there and is not a soup that rlgen wrote"):
            check_file(tmp_path / name, recognize, noun="a soup")
    with pytest.raises(UserError, match="is a folder; choose another --json"):
        check_file(tmp_path, recognize, noun="a soup", option="--json")


def test_names_of_outputs_are_free_or_ours(tmp_path):
    check_names(tmp_path / "absent", SOUP)
    (tmp_path / "other.txt").write_text("x")
    check_names(tmp_path, SOUP)
    (tmp_path / "spoon.png").write_text("x")
    with pytest.raises(UserError, match=r"spoon\.png is there and is not part of a soup"):
        check_names(tmp_path, SOUP)
    (tmp_path / "soup.json").write_text('{"salt": 1}')
    check_names(tmp_path, SOUP)


def test_a_folder_is_vacant_where_nothing_of_somebody_is_in_it(tmp_path):
    assert is_vacant(tmp_path / "absent") and is_vacant(tmp_path)
    (tmp_path / ".lock").touch()
    assert is_vacant(tmp_path)
    (tmp_path / ".git").mkdir()
    assert not is_vacant(tmp_path) and not is_vacant(tmp_path / ".lock")


def test_what_a_folder_replaces_stays_until_the_new_one_is_there(tmp_path):
    with atomic_folder(tmp_path / "a") as folder:
        (folder / "one").touch()
    with pytest.raises(KeyError), atomic_folder(tmp_path / "a") as folder:
        raise KeyError
    assert names(tmp_path) == ["a", "a/one"]
    with atomic_folder(tmp_path / "a") as folder:
        (folder / "two").touch()
        assert (tmp_path / "a" / "one").is_file()
    assert names(tmp_path) == ["a", "a/two"]


def test_one_process_writes_into_a_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with only_writer(tmp_path / "a"):
        for name in ("a", "link", "a/../a"):
            refusal = pytest.raises(UserError, match=r"another process is writing here; .* choose another --run")
            with refusal, only_writer(tmp_path / name, "--run"):
                pass
        with only_writer(tmp_path / "b"):
            (tmp_path / "a" / "result").touch()
    with only_writer(tmp_path / "a"):
        pass
    # What was made for nothing is gone.
    assert names(tmp_path) == ["a", "a/result", "link"]


def test_folders_that_were_made_and_not_used_are_gone(tmp_path):
    with pytest.raises(KeyError), only_writer(tmp_path / "x" / "y" / "z"):
        raise KeyError
    assert names(tmp_path) == []


def test_a_killed_writer_leaves_no_lock(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom rlgen.core.ownership import only_writer\n"
        f"with only_writer(Path({str(tmp_path)!r})):\n    print('locked', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="another process is writing here"), only_writer(tmp_path):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    with only_writer(tmp_path):
        pass


def test_a_file_where_a_folder_is_expected_is_one_line(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    for path in (tmp_path / "report.html", tmp_path / "report.html" / "deeper"):
        with pytest.raises(UserError, match=r"report\.html is a file; .* choose another --out"), only_writer(path):
            pass
    assert (tmp_path / "report.html").read_text() == "mine"


def without_locks(refused_for):
    real = fcntl.flock

    def flock(handle, operation):
        if refused_for(os.fstat(handle).st_mode):
            raise OSError(errno.EBADF, "no locks")
        real(handle, operation)

    return flock


def test_a_file_is_locked_where_folders_cannot_be(tmp_path, monkeypatch, capsys):
    import stat

    monkeypatch.setattr(fcntl, "flock", without_locks(stat.S_ISDIR))
    with only_writer(tmp_path), pytest.raises(UserError, match="another process"), only_writer(tmp_path):
        pass
    with only_writer(tmp_path):
        assert is_vacant(tmp_path)
    assert capsys.readouterr().err == ""


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fcntl, "flock", without_locks(lambda mode: True))
    with only_writer(tmp_path):
        pass
    assert f"{tmp_path}: this file system has no locks" in capsys.readouterr().err


def test_a_patient_writer_waits_for_one_that_is_about_to_end(tmp_path):
    entered, times = threading.Event(), []

    def write() -> None:
        with only_writer(tmp_path / "out"):
            entered.set()
            time.sleep(0.5)
            times.append(time.monotonic())

    other = threading.Thread(target=write)
    other.start()
    entered.wait()
    with pytest.raises(UserError, match="another process"), only_writer(tmp_path / "out", patience=0.1):
        pass
    with only_writer(tmp_path / "out", patience=30):
        times.append(time.monotonic())
    other.join()
    assert times == sorted(times) and len(times) == 2
