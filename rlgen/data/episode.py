"""Recorded episodes as `.npz` files, and `DatasetEpisode`: an episode as every dataset format holds it.

A recorded `Episode` has physics states and actions but no images, which are rendered from the states when they are
needed. Its file is a NumPy archive of arrays and a JSON header, without pickled objects.

A `DatasetEpisode` has, for each of T steps, two images, the robot's state and the action taken on them. `pair_episode`
makes one from a recorded episode; `check_dataset_episode` is what every writer of datasets checks first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.errors import UserError
from rlgen.core.files import atomic_path, disk_errors
from rlgen.core.foreign.archives import named_damage, read_arrays
from rlgen.core.foreign.json_parts import json_text
from rlgen.core.types import LIBERO, Episode, Robot, RobotState
from rlgen.data.images import FrameSequence

# Files of episodes whose fixtures were drawn have the second format, as they must not be read without the draw.
FORMAT, FORMAT_WITH_FIXTURES = 1, 2
ACTION_TOLERANCE = 1e-6
_ARRAYS = {"initial_state": (None,), "states": (None, None), "actions": (None, None), "rewards": (None,)}
_FIELDS = {"task": str, "prompt": str, "source": str, "initial_index": int, "split": str, "seed": int, "success": bool}
_ADVICE = "delete it and record it again"
WIDTHS = {name: getattr(LIBERO, name) for name in ("state", "joint_state", "action")}
"""Numbers a step in each column of a `DatasetEpisode` of LIBERO's robot."""


def save_episode(path: Path, episode: Episode) -> None:
    """Writes a recorded episode to `path`, whole or not at all. Equal episodes give equal bytes.

    Raises:
      UserError: the episode is malformed, or an error of the disk.
    """
    path = Path(path)
    check_episode(episode, str(path))
    fields = {name: kind(getattr(episode, name)) for name, kind in _FIELDS.items()}
    drawn = episode.fixtures is not None
    header = json.dumps({"format": FORMAT_WITH_FIXTURES if drawn else FORMAT, **fields}).encode()
    names = (*_ARRAYS, "fixtures") if drawn else _ARRAYS
    arrays = {name: np.asarray(getattr(episode, name)) for name in names}
    with disk_errors(path), atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)


def load_episode(path: Path) -> Episode:
    """Reads what `save_episode` wrote.

    Raises:
      UserError: the file is missing, damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such episode file")
    with named_damage(path, "episode file", _ADVICE):
        text = read_arrays(path, {"header": (None,)})["header"].astype(np.uint8, copy=False).tobytes()
        header = {name: part.value for name, part in json_text(text, path, "header", _ADVICE).members().items()}
        if header["format"] not in (FORMAT, FORMAT_WITH_FIXTURES):
            raise ValueError(f"format {header['format']}, this version reads {FORMAT_WITH_FIXTURES}")
        drawn = {"fixtures": (None, None)} if header["format"] == FORMAT_WITH_FIXTURES else {}
        arrays = read_arrays(path, {**_ARRAYS, **drawn})
        fields = {name: _typed(header, name, kind) for name, kind in _FIELDS.items()}
    episode = Episode(**fields, **arrays)
    check_episode(episode, str(path))
    return episode


def load_episodes(folder: Path) -> list[Episode]:
    """Reads every `.npz` file of `folder`, sorted by name.

    Raises:
      UserError: there is no such folder, or one of the files is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of episodes; run the stage that writes it first")
    return [load_episode(path) for path in sorted(folder.glob("*.npz"))]


def check_episode(episode: Episode, where: str) -> None:
    """Checks that the shapes of a recorded episode agree and that its numbers are usable.

    Actions must be finite and in [-1, 1], states finite. Only the last state may be all NaN: files of human
    demonstrations do not store the state after the last action. States have no columns in an episode without physics.

    Args:
      episode: to check.
      where: beginning of the message, such as the file's path.

    Raises:
      UserError: the episode does not pass.
    """
    states, actions = np.asarray(episode.states), np.asarray(episode.actions)
    check_actions(actions, f"{where}: actions")
    steps = len(actions)
    if states.ndim != 2 or len(states) != steps + 1:
        raise UserError(f"{where}: states have shape {states.shape}, expected ({steps + 1}, D) for {steps} actions")
    if np.shape(episode.rewards) != (steps,):
        raise UserError(f"{where}: rewards have shape {np.shape(episode.rewards)}, expected ({steps},)")
    if np.shape(episode.initial_state) != states.shape[1:]:
        raise UserError(f"{where}: initial_state has shape {np.shape(episode.initial_state)}, not {states.shape[1:]}")
    recorded = states[:-1] if np.isnan(states[-1]).all() else states
    for name, values in (
        ("states", recorded),
        ("initial_state", np.asarray(episode.initial_state)[None]),
        ("rewards", episode.rewards),
    ):
        check_finite(values, f"{where}: {name}", "record the episode again")
    if episode.fixtures is not None:
        check_fixtures(np.asarray(episode.fixtures), where)


def check_finite(values: Float[np.ndarray, "T ..."], where: str, advice: str) -> None:
    """Checks that all numbers of T steps are finite.

    Args:
      values: a row a step.
      where: file, episode and key.
      advice: what to do.

    Raises:
      UserError: one is not; the message names its step and its position in the row.
    """
    values = np.asarray(values)
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    step, *position = (int(index) for index in np.argwhere(~np.isfinite(values))[0])
    number = f"number {position[0]}" if position else "it"
    raise UserError(f"{where}: not finite at step {step}, {number} is {values[(step, *position)]}; {advice}")


def check_fixtures(poses: np.ndarray, where: str) -> None:
    """Checks that poses of fixtures have shape `[F, 7]`, and that they are finite with quaternions of length 1.

    Raises:
      UserError: beginning with `where`, if they are not.
    """
    if poses.dtype.kind != "f" or poses.ndim != 2 or poses.shape[1] != 7 or len(poses) == 0:
        raise UserError(f"{where}: fixtures of shape {poses.shape} and {poses.dtype}, expected (F, 7) of floats")
    if not np.isfinite(poses).all() or not np.allclose(np.linalg.norm(poses[:, 3:], axis=1), 1.0, atol=1e-6):
        raise UserError(f"{where}: fixtures hold numbers that are no positions and unit quaternions; record it again")


def check_actions(actions: np.ndarray, where: str) -> None:
    """Checks that `actions` has shape `[T, 7]` with T > 0 and finite numbers in [-1, 1].

    Raises:
      UserError: beginning with `where`, if it has not.
    """
    if actions.dtype.kind != "f" or actions.ndim != 2 or actions.shape[1] != ACTION_SIZE or len(actions) == 0:
        raise UserError(f"{where}: shape {actions.shape} of {actions.dtype}, expected (T, {ACTION_SIZE}) of floats")
    check_finite(actions, where, "record the episode again")
    largest = float(np.abs(actions).max())
    if largest > 1 + ACTION_TOLERANCE:
        raise UserError(f"{where}: reach {largest:g}, expected [-1, 1]; clip them or use another file")


def episode_digest(episode: Episode) -> str:
    """Returns the SHA-256 of every field of an episode, in hexadecimal.

    The names of the fields are part of it, and it is stored in HDF5 files: renaming a field of `Episode` would make
    these files unreadable.
    """
    total = hashlib.sha256()
    for field in fields(episode):
        if getattr(episode, field.name) is None:  # episodes whose fixtures were not drawn keep their digest
            continue
        value = np.asarray(getattr(episode, field.name))
        total.update(f"{field.name} {value.dtype.str} {value.shape}".encode())
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()


def _typed(header: dict[str, Any], name: str, kind: type) -> Any:
    value = header[name]
    if type(value) is not kind:
        raise ValueError(f"{name} is {value!r}, expected {kind.__name__}")
    return value


@dataclass(frozen=True)
class DatasetEpisode:
    """T pairs of an observation and the action taken on it.

    Datasets of others may lack one of the cameras and the joints, which are None then.

    Attributes:
      image: front camera, in the orientation of datasets (`rlgen.data.images`); encoded if read from a dataset.
      wrist_image: camera at the hand, likewise.
      state: end-effector position (m), axis-angle (rad), finger joints (m); of other robots as `Robot` says.
      joint_state: arm joints, radians.
      action: in [-1, 1]; the gripper (last column) is exactly -1 (open) or 1 (close); of other robots anything.
      language_instruction: the prompt.
      file_path: identifies the episode it was made from.
    """

    image: UInt8[np.ndarray, "T h w 3"] | FrameSequence | None
    wrist_image: UInt8[np.ndarray, "T h w 3"] | FrameSequence | None
    state: Float[np.ndarray, "T S"]
    joint_state: Float[np.ndarray, "T J"] | None
    action: Float[np.ndarray, "T A"]
    language_instruction: str
    file_path: str

    def __len__(self) -> int:
        return len(self.action)


def pair_episode(
    episode: Episode,
    robot: RobotState,
    image: UInt8[np.ndarray, "T h w 3"] | FrameSequence,
    wrist_image: UInt8[np.ndarray, "T h w 3"] | FrameSequence,
    file_path: str,
) -> DatasetEpisode:
    """Pairs each action of a recorded episode with the robot's state and the images before it.

    Args:
      episode: of T actions.
      robot: along `episode.states`; T or T + 1 rows.
      image: of the front camera before each action, in the orientation of datasets.
      wrist_image: of the camera at the hand, likewise.
      file_path: identifies the episode.
    """
    steps = len(episode)
    return DatasetEpisode(
        image=image,
        wrist_image=wrist_image,
        state=robot.vla_state[:steps].astype(np.float32),
        joint_state=robot.joints[:steps].astype(np.float32),
        action=episode.actions.astype(np.float32),
        language_instruction=episode.prompt,
        file_path=file_path,
    )


def check_vectors(vectors: Mapping[str, np.ndarray | None], steps: int, where: str, robot: Robot = LIBERO) -> None:
    """Checks numbers of a dataset: their widths and lengths, and that they are finite.

    Args:
      vectors: some of the columns of `WIDTHS`, by name; those that are None are passed over.
      steps: of the episode.
      where: file and episode.
      robot: of the dataset.

    Raises:
      UserError: they do not fit; the message names column, step and value, or both widths.
    """
    for name, values in vectors.items():
        if values is None:
            continue
        expected = getattr(robot, name)
        if values.dtype.kind not in "fiu" or values.ndim != 2 or len(values) != steps:
            raise UserError(
                f"{where}: {name} of shape {values.shape} and {values.dtype}, expected {expected} numbers for each "
                f"of {steps} steps; fetch or export the dataset again"
            )
        if values.shape[1] != expected:
            raise width_error(f"{where}: {name}", values.shape[1], expected, robot)
        check_finite(values, f"{where}: {name}", "leave the episode out, or export the dataset again")


def width_error(where: str, found: int, expected: int, robot: Robot = LIBERO) -> UserError:
    """Returns the error for states or actions of another robot.

    Args:
      where: file and key.
      found: numbers a step.
      expected: those of `robot`.
      robot: of the dataset.
    """
    is_libero = robot.is_libero and robot.joint_state == LIBERO.joint_state
    whose = "those of LIBERO's robot; convert" if is_libero else "as the dataset's description says; correct"
    return UserError(f"{where} has {found} numbers a step, expected {expected}, {whose} the dataset first")


def checked(episode: DatasetEpisode, where: str, robot: Robot = LIBERO) -> DatasetEpisode:
    """Returns an episode that was read from a dataset, if it can be one.

    Args:
      episode: as it was read.
      where: file and episode.
      robot: of the dataset.

    Raises:
      UserError: its columns have different lengths, other widths, or numbers that are not finite.
    """
    steps = len(episode.action)
    if steps == 0:
        raise UserError(f"{where}: an episode of no steps; leave it out")
    for name in ("image", "wrist_image"):
        images = getattr(episode, name)
        if images is not None and len(images) != steps:
            raise UserError(
                f"{where}: {name} of {len(images)} steps, actions of {steps}; fetch or export the dataset again"
            )
        if images is not None and not isinstance(images, np.ndarray):
            try:
                images.check_sizes()
            except UserError as error:
                raise UserError(f"{where}: {name}: {error}") from error
    check_vectors({name: getattr(episode, name) for name in WIDTHS}, steps, where, robot)
    return episode


def check_complete(episode: DatasetEpisode, where: str) -> None:
    """Checks that an episode has both cameras and the joints, as what is written here has.

    Args:
      episode: of a dataset of others.
      where: file and episode.

    Raises:
      UserError: it has not.
    """
    for name in ("image", "wrist_image", "joint_state"):
        if getattr(episode, name) is None:
            raise UserError(f"{where}: no {name}, which what is written here has; leave it out: it trains as it is")


def check_dataset_episode(episode: DatasetEpisode, size: int) -> None:
    """Checks that an episode fits the schema of datasets, with images of `size` pixels a side.

    Raises:
      UserError: it does not; the message names the episode.
    """
    where, steps = episode.file_path, len(episode.action)
    check_complete(episode, where)
    checked(episode, where)
    for name in ("image", "wrist_image"):
        images = getattr(episode, name)
        if images.shape != (steps, size, size, 3):
            raise UserError(f"{where}: {name} has shape {images.shape}, expected {(steps, size, size, 3)}")
        if isinstance(images, np.ndarray) and images.dtype != np.uint8:
            raise UserError(f"{where}: {name} is of {images.dtype}, expected uint8 from 0 to 255; convert it first")
    if not np.isin(episode.action[:, -1], (-1, 1)).all():
        raise UserError(f"{where}: a gripper action that is neither -1 nor 1; round it before it is executed")
    if np.abs(episode.action).max() > 1:
        raise UserError(f"{where}: actions reach {np.abs(episode.action).max():g}, expected [-1, 1]")
