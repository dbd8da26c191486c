"""Interrupted, rejected and repeated exports."""

import errno
import os
import resource
from contextlib import suppress

import pytest
from dataset_tools import write_rlds

from rlgen.core.errors import UserError
from rlgen.core.ownership import only_writer
from rlgen.data.formats.rlds.reader import read_rlds
from rlgen.data.formats.rlds.tfrecord import read_records
from rlgen.data.index import Provenance, read_provenance, write_provenance, write_starts

NAME = "libero_object_no_noops"
OPTIONS = {"size": 16, "description": "Test.", "shards": 4, "fingerprint": "one"}


class Killed(BaseException):
    """Passes through every `except Exception`, as a signal would."""


class OnDemand:
    """Episodes made when they are accessed, with the indices of those; the access after `fails_at` others fails."""

    def __init__(self, make, count: int, fails_at: int | None = None, error: BaseException | None = None):
        self.make, self.count, self.fails_at, self.error = make, count, fails_at, error or Killed()
        self.accessed = []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if len(self.accessed) == self.fails_at:
            raise self.error
        self.accessed.append(index)
        return self.make(index, steps=3)


def _contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, dataset_episode_of):
    """The files of an uninterrupted export of nine episodes."""
    folder = tmp_path_factory.mktemp("whole")
    return _contents(write_rlds(folder, NAME, OnDemand(dataset_episode_of, 9), **OPTIONS))


@pytest.mark.parametrize("fails_at", range(9))
def test_killed_at_any_episode_it_resumes_to_the_same_bytes(tmp_path, dataset_episode_of, whole, fails_at):
    folder = tmp_path / "interrupted"
    with pytest.raises(Killed):
        write_rlds(folder, NAME, OnDemand(dataset_episode_of, 9, fails_at), **OPTIONS)
    assert not (folder / NAME / "1.0.0").exists()
    (folder / NAME / ".1.0.0.partial" / ".left.part").write_bytes(b"by the kill")
    rest = OnDemand(dataset_episode_of, 9)
    again = write_rlds(folder, NAME, rest, **OPTIONS)
    assert _contents(again) == whole
    assert [path.name for path in (folder / NAME).iterdir()] == ["1.0.0"]
    finished = [start for start in (0, 2, 4, 6) if start <= fails_at][-1]
    assert rest.accessed == list(range(finished, 9))  # episodes of finished shards are not made again


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6, 9, 12, 17, 20, 23, 26, 27, 28, 29, 30])
def test_killed_at_any_rename_it_resumes_to_the_same_bytes(tmp_path, dataset_episode_of, whole, monkeypatch, call):
    calls = 0

    def counted(real):
        def replacement(*arguments):
            nonlocal calls
            calls += 1
            if calls == call:
                raise Killed
            return real(*arguments)

        return replacement

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(os, "rename", counted(os.rename))
        patch.setattr(os, "fsync", counted(os.fsync))
        with suppress(Killed):
            write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 9), **OPTIONS)
    assert _contents(write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 9), **OPTIONS)) == whole


def test_an_altered_finished_shard_is_written_again(tmp_path, dataset_episode_of, whole):
    folder = tmp_path / "interrupted"
    with pytest.raises(Killed):
        write_rlds(folder, NAME, OnDemand(dataset_episode_of, 9, 7), **OPTIONS)
    shard = sorted((folder / NAME / ".1.0.0.partial").glob("*tfrecord*"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    rest = OnDemand(dataset_episode_of, 9)
    assert _contents(write_rlds(folder, NAME, rest, **OPTIONS)) == whole
    assert rest.accessed == [2, 3, 6, 7, 8]


def test_an_unfinished_export_of_other_content_is_not_mixed_in(tmp_path, dataset_episode_of):
    with pytest.raises(Killed):
        write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 9, 7), **OPTIONS)
    other = OnDemand(lambda index, steps: dataset_episode_of(index + 50, steps), 9)
    directory = write_rlds(tmp_path, NAME, other, **{**OPTIONS, "fingerprint": "two"})
    assert next(iter(read_rlds(directory))).file_path == "episodes/0050.npz"
    assert other.accessed == list(range(9))


def test_a_finished_dataset_is_returned_rejected_or_replaced(tmp_path, dataset_episode_of, whole):
    directory = write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 9), **OPTIONS)
    same = OnDemand(dataset_episode_of, 9)
    assert write_rlds(tmp_path, NAME, same, **OPTIONS) == directory
    assert same.accessed == []
    with pytest.raises(UserError, match="--overwrite"):
        write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 5), **OPTIONS)
    with pytest.raises(Killed):
        write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 5, 4), overwrite=True, **OPTIONS)
    assert _contents(directory) == whole  # stays until the new one is complete
    write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 5), overwrite=True, **OPTIONS)
    assert len(read_rlds(directory)) == 5


def test_without_a_fingerprint_a_finished_dataset_is_not_reused(tmp_path, dataset_episode_of):
    options = {**OPTIONS, "fingerprint": ""}
    write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 2), **options)
    with pytest.raises(UserError, match="a dataset exists already"):
        write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 2), **options)


def test_killed_while_replacing_it_the_old_dataset_is_restored(tmp_path, dataset_episode_of):
    directory = write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 2), **OPTIONS)
    directory.rename(directory.with_name(".1.0.0.old"))
    with pytest.raises(UserError, match="--overwrite"):
        write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 5), **OPTIONS)
    assert len(read_rlds(directory)) == 2


def test_fewer_episodes_than_announced_are_rejected(tmp_path, dataset_episode_of):
    with pytest.raises(UserError, match="the episodes end at 3 of 9"):
        write_rlds(tmp_path, NAME, (dataset_episode_of(index) for index in range(3)), count=9, **OPTIONS)


def test_there_are_no_more_shards_than_episodes(tmp_path, dataset_episode_of):
    directory = write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 2), **OPTIONS)
    assert read_rlds(directory).lengths == [1, 1]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_error_of_the_disk_is_one_line_and_can_be_resumed_from(
    tmp_path, dataset_episode_of, whole, monkeypatch, code
):
    calls = 0

    def fail_later(handle):
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_later)
        with pytest.raises(UserError, match=f"cannot write .*1.0.0.*{os.strerror(code)}") as caught:
            write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 9), **OPTIONS)
    assert "\n" not in str(caught.value)
    shards = sorted((tmp_path / NAME / ".1.0.0.partial").glob("*tfrecord*"))
    assert shards and all(len(list(read_records(shard))) >= 2 for shard in shards)
    assert _contents(write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 9), **OPTIONS)) == whole


def test_a_disk_that_fills_inside_a_shard_is_one_line(tmp_path, dataset_episode_of):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, old[1]))
    try:
        with pytest.raises(UserError, match="File too large"):
            write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 9), **OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("*tfrecord*"))


def test_a_file_in_place_of_the_folder_is_named(tmp_path, dataset_episode_of):
    (tmp_path / NAME).write_text("precious")
    with pytest.raises(UserError, match="cannot write"):
        write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 2), **OPTIONS)
    assert (tmp_path / NAME).read_text() == "precious"


def test_a_second_writer_is_rejected(tmp_path, dataset_episode_of):
    with only_writer(tmp_path / NAME), pytest.raises(UserError, match="another process is writing here"):
        write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 2), **OPTIONS)
    write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 2), **OPTIONS)


def test_progress_counts_every_episode_once_and_ends_full(tmp_path, dataset_episode_of):
    calls = []
    episodes = OnDemand(dataset_episode_of, 9)
    write_rlds(tmp_path, NAME, episodes, on_progress=lambda *counts: calls.append(counts), **OPTIONS)
    assert calls == sorted(calls) and calls[0] == (0, 9) and calls[-1] == (9, 9)


def test_a_dataset_with_drawn_fixtures_and_origins_is_replaced(tmp_path, dataset_episode_of, fixtures_of):
    def finish(folder):
        write_starts(folder, [None] * 4, [fixtures_of(0), None, None, None])
        write_provenance(folder, [Provenance("s/t", "ppo", "train", 0, 7, "exact", "3.8.1", "fast"), None, None, None])

    options = {**OPTIONS, "shards": 2, "finish": finish, "overwrite": True}
    for fingerprint in ("one", "two"):
        folder = write_rlds(tmp_path, NAME, OnDemand(dataset_episode_of, 4), **{**options, "fingerprint": fingerprint})
    assert (folder / "fixtures.json").is_file()
    assert [origin and origin.seed for origin in read_provenance(folder, 4)] == [7, None, None, None]
