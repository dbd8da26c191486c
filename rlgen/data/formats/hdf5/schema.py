"""The arrays of others' HDF5 files that are read: in robomimic's layout, in LIBERO's, and in ACT's, a file an episode.

Nothing in such a file is called a state: it is what the robot's own sensors give. How wide states and actions are is
what the first episode has; names of the numbers are those of the arrays, and of actions what the controller says.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import LIBERO, Robot
from rlgen.data.episode import WIDTHS, width_error
from rlgen.data.formats.cameras import choose_cameras
from rlgen.data.formats.hdf5.layout import (
    OBSERVATION_ATTRIBUTE,
    OBSERVED_BEFORE_ACTION,
    ROBOT_KEYS,
    array,
    child,
    stored,
)
from rlgen.data.formats.hdf5.reader import expected_demos, task_and_prompt
from rlgen.data.formats.hdf5.robosuite import RobosuiteEnvironment, action_names, read_environment

INSTRUCTION = "language_instruction"
"""The attribute of a file, or of `data` or a demonstration in it, that has the instruction."""
# robomimic's default of what a policy sees of a robot besides images; the last is not there where there is no gripper.
_SENSORS = ("eef_pos", "eef_quat", "gripper_qpos")
_LIBERO_STATE = tuple(ROBOT_KEYS[name] for name in ("position", "axis_angle", "gripper"))
_AXES = {"pos": "xyz", "quat": "xyzw"}


@dataclass(frozen=True)
class Hdf5Schema:
    """The arrays of an episode that are read, by their keys.

    Attributes:
      action: in the group of the episode.
      observations: the group of the observations in that.
      images: likewise the group of the images.
      state: in `observations`, the parts of a state, one behind the other.
      joints: likewise the joints.
      cameras: in `images`, those of `CAMERAS` that there are.
      robot: widths and names.
    """

    action: str
    observations: str
    images: str
    state: tuple[str, ...]
    joints: tuple[str, ...]
    cameras: dict[str, str]
    robot: Robot = LIBERO

    @property
    def is_libero(self) -> bool:
        """Returns whether the layout is LIBERO's, whose images are raw."""
        return self.state == _LIBERO_STATE


@dataclass(frozen=True)
class Hdf5Episode:
    """An episode in an open file.

    Attributes:
      path: of the file.
      data: the group of all episodes, which has the attributes; in ACT's layout the file itself.
      group: of the episode.
      name: of the group; empty in ACT's layout.
      number: in the name.
      is_act: whether the layout is ACT's.
    """

    path: Path
    data: h5py.Group
    group: h5py.Group
    name: str
    number: int
    is_act: bool

    @property
    def where(self) -> str:
        """Returns file and group, for messages."""
        return f"{self.path}: {self.group.name}"


def episodes_of(file: h5py.File, path: Path) -> Iterator[Hdf5Episode]:
    """Yields the episodes of an open file; `UserError` where one is missing, or the layout is none of these."""
    if has_act_layout(file):
        yield Hdf5Episode(path, file["/"], file["/"], "", 0, is_act=True)
        return
    data = child(file, "data", path)
    for name, group in expected_demos(data, path):
        yield Hdf5Episode(path, data, group, name, int(name.removeprefix("demo_")), is_act=False)


def episode_group(file: h5py.File, number: int, path: Path) -> h5py.Group:
    """Returns the group of an episode of an open file.

    Args:
      file: that is open.
      number: of the episode.
      path: of the file.

    Raises:
      UserError: there is none.
    """
    return file["/"] if has_act_layout(file) else below(file, f"data/demo_{number}", path)


def below(group: h5py.Group, key: str, path: Path) -> h5py.Group:
    """Returns a group some levels below another one; errors are those of `layout.child`.

    Args:
      group: the outer one.
      key: names of the groups on the way, with slashes between them.
      path: of the file, for messages.
    """
    for part in key.split("/"):
        group = child(group, part, path)
    return group


def find_schema(episode: Hdf5Episode, *, any_robot: bool) -> Hdf5Schema:
    """Returns what is read of the episodes of a dataset, by the first of them.

    Args:
      episode: the first one.
      any_robot: whether states and actions may have other widths than those of LIBERO's robot.

    Raises:
      UserError: it lacks what is needed, or contradicts what it says of its environment.
    """
    path, group, environment, robots = episode.path, episode.group, RobosuiteEnvironment(), 0
    if episode.is_act:
        keys = ("action", "observations", "observations/images")
        state, joints = ("qpos",), ()
    else:
        keys = ("actions", "obs", "obs")
        if "obs" not in group:
            raise UserError(
                f"{episode.where}: no observations; make them of its states with robomimic's dataset_states_to_obs.py"
            )
        environment = read_environment(episode.data.attrs)
        state, joints, robots = _find_state(child(group, "obs", path), episode.where)
        if environment.robots and robots and len(environment.robots) != robots:
            raise UserError(
                f"{episode.where}/obs: states of {robots} robots, env_args has {len(environment.robots)}, "
                f"{', '.join(environment.robots)}; correct the file"
            )
    action, observations, images = keys
    obs, seen = below(group, observations, path), below(group, images, path)
    cameras = choose_cameras((key for key in seen if _is_camera(seen, key)), f"{path}: {seen.name}")
    widths = {
        name: sum(_width(obs, key, path) for key in of) for name, of in (("state", state), ("joint_state", joints))
    }
    widths = {"action": _width(group, action, path), **{name: width for name, width in widths.items() if width}}
    for name, width in widths.items():
        if width != WIDTHS[name] and not any_robot:
            raise width_error(f"{episode.where}: {name}", width, WIDTHS[name])
    of_joints = tuple(_width(obs, key, path) for key in joints)
    names = action_names(environment, widths["action"], of_joints, f"{episode.where}/{action}")
    robot = Robot(**widths, state_names=_names(obs, state, path) if robots else (), action_names=names)
    return Hdf5Schema(action, observations, images, state, joints, cameras, robot)


def first_action(episode: Hdf5Episode, schema: Hdf5Schema) -> int:
    """Returns the index of the action that belongs to the first row of the observations.

    LIBERO's human demonstrations have row t after action t, files that were made of them before it; the physics states,
    which are before it in both, tell them apart by the joints, the first numbers behind the time.
    """
    group, path = episode.group, episode.path
    said = episode.data.attrs.get(OBSERVATION_ATTRIBUTE)
    if not schema.is_libero or not schema.joints or "states" not in group or said == OBSERVED_BEFORE_ACTION:
        return 0
    states, joints = array(group, "states", path), array(child(group, "obs", path), schema.joints[0], path)
    if states.ndim != 2 or joints.ndim != 2 or not 1 < len(joints) == len(states):
        return 0
    if states.shape[1] <= joints.shape[1]:
        return 0
    known = states[:, 1 : 1 + joints.shape[1]]
    return int(np.abs(joints[:-1] - known[1:]).mean() < np.abs(joints - known).mean())


def instruction_of(episode: Hdf5Episode) -> str:
    """Returns the instruction: what the file says, or the name of its task, or of its environment in words.

    Raises:
      UserError: nothing in the file says it, or what says it is no text.
    """
    for place in (episode.group, episode.data, episode.group.file):
        if INSTRUCTION in place.attrs:
            value = place.attrs[INSTRUCTION]
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            if not isinstance(text, str) or not text.strip():
                raise UserError(f"{episode.path}: {place.name}: {INSTRUCTION} is {str(value)[:100]!r}, expected a text")
            return text
    if episode.is_act:
        raise UserError(f"{episode.path}: nothing in it says its instruction; give it the attribute {INSTRUCTION}")
    language = read_environment(episode.data.attrs).language
    task, prompt = task_and_prompt(episode.data, episode.path)
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in task.rpartition("/")[2])
    return language or prompt or " ".join(words.replace("_", " ").split())


def is_compressed(group: h5py.Group) -> bool:
    """Returns whether the images of a group are JPEG, as ACT's files say it."""
    return bool(group.file.attrs.get("compress", False))


def has_act_layout(file: h5py.File) -> bool:
    """Returns whether an open file is an episode in ACT's layout, whose actions are the positions of joints."""
    return "data" not in file and "action" in file and "observations" in file


def _find_state(obs: h5py.Group, where: str) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Returns the keys of a state's parts, and of the joints, and the number of robosuite's robots."""
    if set(_LIBERO_STATE) <= set(obs):
        return _LIBERO_STATE, tuple(key for key in (ROBOT_KEYS["joints"],) if key in obs), 0
    robots = 0
    while f"robot{robots}_{_SENSORS[0]}" in obs:
        robots += 1
    if not robots:
        raise UserError(
            f"{where}/obs: no robot0_{_SENSORS[0]} as of robosuite, no {_LIBERO_STATE[0]} as of LIBERO, but "
            f"{', '.join(list(obs)[:20]) or 'nothing'}; give what is the robot's state these names"
        )
    state = tuple(f"robot{i}_{sensor}" for i in range(robots) for sensor in _SENSORS if f"robot{i}_{sensor}" in obs)
    joints = tuple(f"robot{i}_joint_pos" for i in range(robots))
    return state, joints if set(joints) <= set(obs) else (), robots


def _names(obs: h5py.Group, keys: tuple[str, ...], path: Path) -> tuple[str, ...]:
    names = []
    for key in keys:
        width, axes = _width(obs, key, path), _AXES.get(key.rpartition("_")[2], "")
        names += [f"{key} {axis}" for axis in (axes if len(axes) == width else range(width))]
    return tuple(names)


def _width(group: h5py.Group, key: str, path: Path) -> int:
    dataset = stored(group, key, path)
    if dataset.ndim > 2:
        raise UserError(f"{path}: {dataset.name}: shape {dataset.shape}, expected a vector a step; convert it first")
    return 1 if dataset.ndim == 1 else dataset.shape[1]


def _is_camera(group: h5py.Group, key: str) -> bool:
    """Returns whether an array is of images, or of JPEGs."""
    if not isinstance(group.get(key, getlink=True), h5py.HardLink) or not isinstance(group[key], h5py.Dataset):
        return False
    shape = group[key].shape
    is_array, is_jpeg = len(shape) == 4 and shape[-1] == 3, len(shape) == 2 and is_compressed(group)
    return group[key].dtype == np.uint8 and (is_array or is_jpeg)
