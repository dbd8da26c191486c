"""Getting at what is in an HDF5 file of demonstrations; whatever is wrong becomes one line that says where."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from rlgen.errors import UserError

# What h5py, NumPy and the json module raise for damaged contents.
DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    ArithmeticError,
    MemoryError,
    SystemError,
)
# No array of one demonstration comes near this; a damaged header may claim any size.
LARGEST = 1 << 30
_EXPECTED = "expected a LIBERO or robosuite demonstration file"


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Opens a file for reading; `UserError` for what is wrong with it, also while it is in use."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected HDF5 demonstrations")
    with named_damage(path), h5py.File(path, "r") as file:
        yield file


@contextmanager
def named_damage(path: Path, where: str = "") -> Iterator[None]:
    """Turns what damage raises into a `UserError` that names the file and `where` in it."""
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        place = f"{path}: {where}" if where else str(path)
        raise UserError(
            f"{place}: not readable HDF5, truncated or damaged ({reason}); fetch or record it again"
        ) from error


def child(group: h5py.Group, key: str, path: Path) -> h5py.Group:
    """The group `key` of a group."""
    found = _linked(group, key, path)
    if not isinstance(found, h5py.Group):
        raise UserError(f"{path}: {group.name}: no group '{key}'; {_EXPECTED}")
    return found


def array(group: h5py.Group, key: str, path: Path) -> np.ndarray:
    """The numbers of the dataset `key` of a group."""
    dataset = _linked(group, key, path)
    if not isinstance(dataset, h5py.Dataset):
        raise UserError(f"{path}: {group.name}: no dataset '{key}'; {_EXPECTED}")
    with named_damage(path, dataset.name):
        if dataset.dtype.kind not in "fiu" or dataset.shape in ((), None):
            raise UserError(f"{path}: {dataset.name}: {dataset.dtype} {dataset.shape}, expected an array of numbers")
        if dataset.nbytes > LARGEST:
            raise UserError(f"{path}: {dataset.name}: claims {dataset.nbytes} bytes, damaged; fetch it again")
        if dataset.external or dataset.is_virtual:
            raise UserError(f"{path}: {dataset.name}: its numbers are in another file; copy them into this one")
        return dataset[()]


def attribute(group: h5py.Group, key: str, path: Path) -> str:
    """An attribute of a group as text."""
    if key not in group.attrs:
        raise UserError(f"{path}: {group.name}: no attribute '{key}'; expected a LIBERO demonstration file")
    return str(group.attrs[key])


def _linked(group: h5py.Group, key: str, path: Path) -> h5py.Group | h5py.Dataset | None:
    """A member of this very file: a link may lead to any file of the machine."""
    with named_damage(path, f"{group.name}/{key}"):
        link = group.get(key, getlink=True)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise UserError(f"{path}: {group.name}/{key}: a link to somewhere else; copy the numbers into the file")
        return None if link is None else group[key]
