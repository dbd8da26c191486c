"""The cost of a dataset's episodes, in bytes that are read: that of one does not grow with the number of the others."""

import gc
from pathlib import Path

import pytest
from export_of_noise import NAME, Items, make_format, shard_of

from rlgen.data.dataset import FORMATS, open_dataset
from rlgen.data.writer import write_dataset

FEW, FACTOR = 4, 6


def bytes_read() -> int:
    """Returns how many bytes this process has read, libraries of other languages included."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"])


class OneTask(Items):
    """Many episodes of noise in one task, and so in one file of any format."""

    def __getitem__(self, index: int):
        from dataclasses import replace

        item = super().__getitem__(index)
        if self._kind != "hdf5":
            return item
        return replace(item, episode=replace(item.episode, task="libero_object/task_0"))


def dataset_of(folder: Path, kind: str, count: int) -> Path:
    assert shard_of(0) == 0
    format = make_format(kind)
    if kind == "hdf5":
        format = type(format)(["libero_object/task_0"], format._info)
    return write_dataset(folder, NAME, OneTask(kind), format, lengths=(count,), size=16)


def read_twice(folder: Path) -> int:
    """Returns how many bytes a pass over the episodes reads, the second one, when what is imported late has been."""
    for _ in range(2):
        gc.collect()
        dataset, before = open_dataset(folder), bytes_read()
        for index in range(len(dataset)):
            dataset[index]
        read = bytes_read() - before
    return read


@pytest.mark.parametrize("kind", FORMATS)
def test_an_episode_costs_the_same_in_a_file_of_many(tmp_path, kind):
    few, many = (dataset_of(tmp_path / str(count), kind, count) for count in (FEW, FACTOR * FEW))
    assert read_twice(many) <= 1.25 * FACTOR * read_twice(few)
