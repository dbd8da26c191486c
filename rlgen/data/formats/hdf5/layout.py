"""LIBERO's HDF5 layout of demonstrations: names, the parts of a file, and checked access to its groups and arrays.

There is one file for each task, with the groups `data/demo_0`, `data/demo_1` and so on. In files of human
demonstrations, row t of the observations was taken after action t; in ours before it, which the attribute
`rlgen_observation` of `data` states. `states[t]` is before action t in both. The fields of an `Episode` that the layout
does not have (actor, seed, the state after the last action) are stored in extra attributes and datasets, which other
readers ignore.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import google_crc32c
import h5py
import numpy as np
from jaxtyping import UInt8

from rlgen.core.errors import UserError, first_line
from rlgen.core.foreign.archives import is_bomb
from rlgen.core.types import Episode, RobotState

OBSERVATION_ATTRIBUTE = "rlgen_observation"
OBSERVED_BEFORE_ACTION = "before_action"
DIGEST_ATTRIBUTE = "rlgen_sha256"  # of `data`: 1 if every demonstration has one; of a demonstration: its digest
# Of images: what a damaged index of chunks loses reads as black, and the checksums of the chunks do not say so.
IMAGES_ATTRIBUTE = "rlgen_crc32c"
PHYSICS_ATTRIBUTE = "physics"  # 0 for a demonstration without states
# Of `data`, as in the benchmark's files: their version, which its check of them compares, and the task's BDDL file.
TAG_ATTRIBUTE, TAG, BDDL_ATTRIBUTE = "tag", "libero-v1", "bddl_file_content"
# Poses of fixtures that were drawn for a demonstration; of `data`: their bodies, and the MJCF without the draw.
FIXTURES_ATTRIBUTE, MODEL_ATTRIBUTE = "rlgen_fixtures", "rlgen_model_file"
ROBOT_KEYS = {
    "position": "ee_pos",
    "axis_angle": "ee_ori",
    "gripper": "gripper_states",
    "joints": "joint_states",
}
ROBOT_SIZES = {"position": 3, "axis_angle": 3, "gripper": 2, "joints": 7}


@dataclass(frozen=True)
class DemoFileInfo:
    """The description of a file's task and environment.

    Attributes:
      env_name: class of the environment, such as `Libero_Floor_Manipulation`.
      bddl_file_name: the task's BDDL file, `<suite>/<name>.bddl` at its end.
      language: the instruction as the BDDL file words it.
      model_file: MJCF of the scene; stored with every demonstration, as the benchmark does it.
      domain_name: the BDDL domain.
      env_kwargs: arguments of the environment (controller, cameras, control frequency).
      fixtures: bodies in the MJCF of the fixtures, in the order of `Episode.fixtures`.
      bddl: text of the BDDL file; empty if it is not known, as in files of earlier versions.
    """

    env_name: str
    bddl_file_name: str
    language: str
    model_file: str
    domain_name: str = "robosuite"
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    fixtures: tuple[str, ...] = ()
    bddl: str = ""

    @property
    def problem_name(self) -> str:
        """Returns the name of the BDDL problem: that of the environment, in lower case."""
        return self.env_name.lower()

    def model_file_of(self, episode: Episode) -> str:
        """Returns the MJCF with the fixtures where they stood in an episode, as the benchmark's own files have it.

        Raises:
          ValueError: the episode has other fixtures.
        """
        if episode.fixtures is None:
            return self.model_file
        root = ElementTree.fromstring(self.model_file)
        bodies = {body.get("name"): body for body in root.iterfind("./worldbody/body")}
        for name, pose in zip(self.fixtures, episode.fixtures.tolist(), strict=True):
            for attribute, numbers in (("pos", pose[:3]), ("quat", pose[3:])):
                bodies[name].set(attribute, " ".join(map(repr, numbers)))
        return ElementTree.tostring(root, encoding="unicode")


@dataclass(frozen=True)
class DemoImages:
    """Images of T observations, in the raw orientation of renderers (`rlgen.data.images`)."""

    agentview: UInt8[np.ndarray, "T h w 3"]
    eye_in_hand: UInt8[np.ndarray, "T h w 3"]


@dataclass(frozen=True)
class Demo:
    """One demonstration.

    Attributes:
      episode: of T actions.
      robot: along it, with T rows (before each action) or T + 1 (and after the last one).
      images: before each action, or None.
    """

    episode: Episode
    robot: RobotState
    images: DemoImages | None = None


# The errors that h5py, NumPy and the json module raise for damaged contents.
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
# Bytes; no array of a demonstration comes near this, but a damaged header may claim any size.
LARGEST = 1 << 30
_EXPECTED = "expected a LIBERO or robosuite demonstration file"


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Opens a file for reading.

    Raises:
      UserError: the file is missing or damaged, also where this shows only inside the `with` block.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected HDF5 demonstrations")
    with named_damage(path), h5py.File(path, "r") as file:
        yield file


@contextmanager
def named_damage(path: Path, where: str = "") -> Iterator[None]:
    """Turns the errors of damaged contents into a `UserError` that names the file and `where` in it."""
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        located = f"{path}: {where}" if where else str(path)
        raise UserError(
            f"{located}: not readable HDF5, truncated or damaged ({first_line(error)}); fetch or record it again"
        ) from error


def child(group: h5py.Group, key: str, path: Path) -> h5py.Group:
    """Returns a group of a group.

    Args:
      group: the outer one.
      key: name of the inner one.
      path: of the file, for messages.

    Raises:
      UserError: there is none.
    """
    found = _linked(group, key, path)
    if not isinstance(found, h5py.Group):
        raise UserError(f"{path}: {group.name}: no group '{key}'; {_EXPECTED}")
    return found


def array(group: h5py.Group, key: str, path: Path) -> np.ndarray:
    """Returns the numbers of a dataset.

    Args:
      group: that the dataset is in.
      key: name of the dataset.
      path: of the file, for messages.

    Raises:
      UserError: there is none, it does not hold numbers, or it is damaged.
    """
    dataset = stored(group, key, path)
    with named_damage(path, dataset.name):
        return dataset[()]


def stored(group: h5py.Group, key: str, path: Path, largest: int = LARGEST) -> h5py.Dataset:
    """Returns a dataset of numbers, which are not read; errors are those of `array`.

    Args:
      group: that the dataset is in.
      key: name of the dataset.
      path: of the file, for messages.
      largest: bytes that it may have.
    """
    dataset = _linked(group, key, path)
    if not isinstance(dataset, h5py.Dataset):
        raise UserError(f"{path}: {group.name}: no dataset '{key}'; {_EXPECTED}")
    with named_damage(path, dataset.name):
        if dataset.dtype.kind not in "fiu" or dataset.shape in ((), None):
            raise UserError(f"{path}: {dataset.name}: {dataset.dtype} {dataset.shape}, expected an array of numbers")
        if dataset.nbytes > largest or is_bomb(dataset.nbytes, dataset.id.get_storage_size()):
            raise UserError(f"{path}: {dataset.name}: claims {dataset.nbytes} bytes, damaged; fetch it again")
        if dataset.external or dataset.is_virtual:
            raise UserError(f"{path}: {dataset.name}: its numbers are in another file; copy them into this one")
        return dataset


def attribute(group: h5py.Group, key: str, path: Path) -> str:
    """Returns an attribute as text.

    Args:
      group: that has the attribute.
      key: name of the attribute.
      path: of the file, for messages.

    Raises:
      UserError: there is none.
    """
    if key not in group.attrs:
        raise UserError(f"{path}: {group.name}: no attribute '{key}'; expected a LIBERO demonstration file")
    return str(group.attrs[key])


def images_checksum(images: UInt8[np.ndarray, "T h w 3"]) -> int:
    """Returns the CRC-32C of the bytes of some images."""
    return google_crc32c.value(images.tobytes())


def _linked(group: h5py.Group, key: str, path: Path) -> h5py.Group | h5py.Dataset | None:
    """Returns a member that is stored in this file; a link could lead to any file of the machine."""
    with named_damage(path, f"{group.name}/{key}"):
        link = group.get(key, getlink=True)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise UserError(f"{path}: {group.name}/{key}: a link to somewhere else; copy the numbers into the file")
        return None if link is None else group[key]
