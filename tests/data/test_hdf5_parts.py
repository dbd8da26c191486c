"""A killed export of HDF5 goes on within a file: no demonstration that was stored is made again."""

from pathlib import Path

import h5py
import pytest
from export_of_noise import LENGTHS, NAME, SIZE, Items, contents, make_format

from rlgen.core.errors import UserError
from rlgen.data import writer
from rlgen.data.formats.hdf5.parts import DemoParts, join_parts
from rlgen.data.formats.hdf5.reader import read_demos, read_info
from rlgen.data.shards import parts_folder
from rlgen.data.writer import write_dataset

COUNT = sum(LENGTHS)


class Killed(BaseException):
    """Passes through every `except Exception`, as a signal would."""


class Counting(Items):
    """The episodes, with the indices of those that were made; the access after `fails_at` others fails."""

    def __init__(self, fails_at: int | None = None):
        super().__init__("hdf5")
        self.fails_at, self.made = fails_at, []

    def __getitem__(self, index):
        if len(self.made) == self.fails_at:
            raise Killed
        self.made.append(index)
        return super().__getitem__(index)


def export(folder: Path, items, fingerprint: str = "noise") -> Path:
    options = {"lengths": LENGTHS, "size": SIZE, "fingerprint": fingerprint}
    return write_dataset(folder, NAME, items, make_format("hdf5"), **options)


def partial_of(folder: Path) -> Path:
    target = make_format("hdf5").folder(folder, NAME, "1.0.0")
    return target.with_name(f".{target.name}.partial")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return contents(export(tmp_path_factory.mktemp("whole"), Counting()))


@pytest.mark.parametrize("fails_at", (0, 1, 3, 4, COUNT - 1))
def test_no_demonstration_is_made_twice(tmp_path, whole, fails_at):
    with pytest.raises(Killed):
        export(tmp_path, Counting(fails_at))
    rest = Counting()
    assert contents(export(tmp_path, rest)) == whole
    assert rest.made == list(range(fails_at, COUNT))


def test_killed_between_the_file_and_the_manifest_nothing_is_made_again(tmp_path, whole, monkeypatch):
    real, calls = writer.write_manifest, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise Killed
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_manifest", killed)
        with pytest.raises(Killed):
            export(tmp_path, Counting())
    rest = Counting()
    assert contents(export(tmp_path, rest)) == whole
    assert rest.made == list(range(LENGTHS[0], COUNT))


def test_a_damaged_part_and_those_behind_it_are_made_again(tmp_path, whole):
    with pytest.raises(Killed):
        export(tmp_path, Counting(2))
    [folder] = partial_of(tmp_path).glob("*.parts")
    first, second = sorted(folder.iterdir())
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    assert second.is_file()
    rest = Counting()
    assert contents(export(tmp_path, rest)) == whole
    assert rest.made == list(range(COUNT))


def test_parts_of_another_plan_are_not_used(tmp_path):
    with pytest.raises(Killed):
        export(tmp_path, Counting(2), fingerprint="other")
    rest = Counting()
    folder = export(tmp_path, rest)
    assert rest.made == list(range(COUNT))
    assert not list(folder.rglob("*.parts"))


def test_a_file_of_somebody_beside_the_parts_is_not_removed(tmp_path):
    with pytest.raises(Killed):
        export(tmp_path, Counting(2))
    (partial_of(tmp_path) / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt is not part of a dataset"):
        export(tmp_path, Counting())


def test_joined_parts_are_the_demonstrations_in_order(tmp_path):
    items, info = Items("hdf5"), make_format("hdf5")._info("libero_object/task_0")
    parts = DemoParts(tmp_path / "x.hdf5")
    for index in range(LENGTHS[0]):
        parts.append(items[index], info)
    assert parts.join() == sum(len(items[index].episode) for index in range(LENGTHS[0]))
    assert [episode.seed for episode in read_demos(tmp_path / "x.hdf5")] == [0, 1, 2]
    assert read_info(tmp_path / "x.hdf5") == info
    with h5py.File(tmp_path / "x.hdf5") as file:
        assert file["data"].attrs["num_demos"] == LENGTHS[0]
    assert parts_folder(tmp_path / "x.hdf5").is_dir()


def test_parts_of_two_tasks_are_no_file(tmp_path):
    items, format = Items("hdf5"), make_format("hdf5")
    files = []
    for index, task in ((0, "libero_object/task_0"), (3, "libero_object/task_1")):
        parts = DemoParts(tmp_path / f"{index}.hdf5")
        parts.append(items[index], format._info(task))
        files += parts.files
    with pytest.raises(UserError, match="expected one task and prompt a file"):
        join_parts(tmp_path / "x.hdf5", files)
    assert not (tmp_path / "x.hdf5").exists()
