"""The tree of placeholder assets: written completely or not at all, whatever happens meanwhile."""

import errno
import os
from pathlib import Path

import pytest

from rlgen.libero.placeholders import tree
from rlgen.libero.placeholders.tree import content_key, placeholder_files, write_placeholders


def test_a_disk_that_fills_up_leaves_the_old_tree(tmp_path, monkeypatch):
    write_placeholders(tmp_path / "tree")
    (tmp_path / "tree/STAND-INS.txt").write_text("of an earlier version")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    written = []

    def fills_up(handle):
        written.append(handle)
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fills_up)
    with pytest.raises(OSError, match="full"):
        write_placeholders(tmp_path / "tree")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_a_damaged_tree_is_written_again(tmp_path):
    write_placeholders(tmp_path / "tree")
    (tmp_path / "tree/stable_hope_objects/milk/milk.xml").write_text("")
    write_placeholders(tmp_path / "tree")
    files = {name: (tmp_path / "tree" / name).read_bytes() for name in placeholder_files()}
    assert files == placeholder_files()
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_a_folder_of_other_files_is_left_unchanged(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="mine"):
        write_placeholders(tmp_path / "mine")
    assert (tmp_path / "mine/thesis.tex").read_text() == "years of work"


def test_after_a_failed_rename_the_old_tree_is_back(tmp_path, monkeypatch):
    write_placeholders(tmp_path / "tree")
    (tmp_path / "tree/stable_hope_objects/milk/milk.xml").write_text("of an earlier version")
    rename = os.rename

    def fails_for_the_new_one(source, target):
        if Path(source).name == "tree" and Path(source).parent != tmp_path:
            raise OSError(errno.EIO, "broken disk")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails_for_the_new_one)
    with pytest.raises(OSError, match="broken disk"):
        write_placeholders(tmp_path / "tree")
    assert (tmp_path / "tree/stable_hope_objects/milk/milk.xml").read_text() == "of an earlier version"
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_another_process_may_write_the_same_tree_meanwhile(tmp_path, monkeypatch):
    """The other one finishes between our check and our rename."""
    write = tree._write_durably

    def and_so_does_another(path, data):
        monkeypatch.setattr(tree, "_write_durably", write)
        write_placeholders(tmp_path / "tree")
        write(path, data)

    monkeypatch.setattr(tree, "_write_durably", and_so_does_another)
    write_placeholders(tmp_path / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
    assert (tmp_path / "tree/STAND-INS.txt").read_bytes() == placeholder_files()["STAND-INS.txt"]


def test_the_key_depends_on_the_contents(monkeypatch):
    key = content_key()
    assert content_key() == key
    monkeypatch.setattr(tree, "OBJECTS", tree.OBJECTS[1:])
    assert content_key() != key
