"""Merging of HDF5 exports as HDF5: demonstrations with physics states and raw images, in a file for each task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from rlgen.core.errors import UserError
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.hdf5.format import Hdf5Dataset, Hdf5Format
from rlgen.data.formats.hdf5.layout import Demo, DemoFileInfo
from rlgen.data.formats.hdf5.reader import read_info


class Selection(Protocol):
    """The position of a selected episode: index of its dataset, and its index in that."""

    @property
    def dataset(self) -> int:
        """Returns the index of its dataset."""
        ...

    @property
    def index(self) -> int:
        """Returns its index in that dataset."""
        ...


One = TypeVar("One", bound=Selection)


class MergedDemos(Sequence[Demo]):
    """The selected episodes of HDF5 exports, task after task, read when they are accessed.

    Args:
      folders: of the datasets.
      datasets: all of them.
      selected: the selected episodes.

    Attributes:
      tasks: `<suite>/<name>` of each episode, in order.

    Raises:
      UserError: a dataset is no HDF5 export, so that it has no physics states.
    """

    def __init__(self, folders: Sequence[Path], datasets: Sequence[Sequence[DatasetEpisode]], selected: Sequence[One]):
        self._datasets: list[Hdf5Dataset] = []
        for folder, dataset in zip(folders, datasets, strict=True):
            if not isinstance(dataset, Hdf5Dataset):
                raise UserError(
                    f"{folder}: no HDF5 export, so it has no physics states, which HDF5 holds; merge the HDF5 exports "
                    "of the same episodes, or choose another --format"
                )
            self._datasets.append(dataset)
        named = [(self._task(one), one) for one in selected]
        order = list(dict.fromkeys(task for task, _ in named))
        ordered = sorted(named, key=lambda pair: order.index(pair[0]))
        self.tasks, self._selected = [task for task, _ in ordered], [one for _, one in ordered]

    def __len__(self) -> int:
        return len(self._selected)

    def __getitem__(self, index: int) -> Demo:
        one = self._selected[index]
        return self._datasets[one.dataset].read_demo(one.index)

    @property
    def selected(self) -> list[One]:
        """Returns the selected episodes in the order of the result."""
        return self._selected

    def format(self) -> tuple[Hdf5Format, list[int]]:
        """Returns the format for these episodes, and the number of episodes in each file."""
        names = list(dict.fromkeys(self.tasks))
        return Hdf5Format(names, self._info), [self.tasks.count(name) for name in names]

    def _task(self, one: Selection) -> str:
        return self._datasets[one.dataset].entries[one.index].name.rsplit("/", 2)[0]

    def _info(self, task: str) -> DemoFileInfo:
        """Returns the description of a task's file, as that of its first episode has it."""
        one = self._selected[self.tasks.index(task)]
        dataset = self._datasets[one.dataset]
        return read_info(dataset.directory / dataset.entries[one.index].file)
