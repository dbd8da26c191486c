"""LIBERO's HDF5 layout of demonstrations: names, and what a file says about its task.

One file a task, `data/demo_0` and on. In people's files the observation in row t was taken after action t; in
ours it was taken before it, which `data.attrs["rlgen_observation"]` says. `states[t]` is before action t in
both. What an `Episode` has and the layout has not (actor, seed, the state after the last action) is kept in
extra attributes and datasets that other readers pass over.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import UInt8

from rlgen.core.errors import UserError
from rlgen.core.types import Episode, RobotState

OBSERVATION_ATTRIBUTE = "rlgen_observation"
OBSERVED_BEFORE_ACTION = "before_action"
DIGEST_ATTRIBUTE = "rlgen_sha256"  # at the file: that every demonstration has one; at it: of the episode
PHYSICS_ATTRIBUTE = "physics"  # 0 at a demonstration that has no states
ROBOT_KEYS = {
    "position": "ee_pos",
    "axis_angle": "ee_ori",
    "gripper": "gripper_states",
    "joints": "joint_states",
}
ROBOT_SIZES = {"position": 3, "axis_angle": 3, "gripper": 2, "joints": 7}


@dataclass(frozen=True)
class DemoFileInfo:
    """What the file as a whole says about its task.

    Attributes:
      env_name: class of the environment, such as `Libero_Floor_Manipulation`.
      bddl_file_name: the task's BDDL file, `<suite>/<name>.bddl` at its end.
      language: the instruction as the BDDL file words it.
      model_file: MJCF of the scene; stored with every demonstration, as the benchmark does.
      domain_name: the BDDL domain.
      env_kwargs: how the environment was made (controller, cameras, control frequency).
    """

    env_name: str
    bddl_file_name: str
    language: str
    model_file: str
    domain_name: str = "robosuite"
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def problem_name(self) -> str:
        """The BDDL problem's name, which is the environment's in lower case."""
        return self.env_name.lower()


@dataclass(frozen=True)
class DemoImages:
    """Pictures of T observations as the renderer gives them: rows from the bottom up, not rotated."""

    agentview: UInt8[np.ndarray, "T h w 3"]
    eye_in_hand: UInt8[np.ndarray, "T h w 3"]


@dataclass(frozen=True)
class Demo:
    """One demonstration as it is written: an episode, the robot along it, and pictures or none.

    The robot has a row for each of the T states before an action, or for all T + 1; pictures have T.
    """

    episode: Episode
    robot: RobotState
    images: DemoImages | None = None


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
