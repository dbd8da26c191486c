"""Episodes on disk in this project's own form: one `.npz` file an episode, nothing pickled."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.errors import UserError
from rlgen.core.files import atomic_path, disk_errors
from rlgen.core.types import ARM_JOINTS, ROBOT_STATE_SIZE, Episode, RobotState
from rlgen.data.images import EncodedFrames

FORMAT = 1
ACTION_TOLERANCE = 1e-6
_ARRAYS = ("initial_state", "states", "actions", "rewards")
_FIELDS = {
    "task": str,
    "prompt": str,
    "source": str,
    "initial_index": int,
    "split": str,
    "seed": int,
    "success": bool,
}
_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError, NotImplementedError)


def check_episode(episode: Episode, where: str) -> None:
    """Raises `UserError`, beginning with `where`, unless shapes agree and numbers are usable.

    Actions must be finite and in [-1, 1], states finite. The last state alone may be all NaN: people's
    files do not record the state after the last action. States of no numbers are those of an episode without
    physics.
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
        ("initial_state", episode.initial_state),
        ("rewards", episode.rewards),
    ):
        if not np.isfinite(values).all():
            raise UserError(f"{where}: {name} hold numbers that are not finite; record the episode again")


def check_actions(actions: np.ndarray, where: str) -> None:
    """Raises `UserError` unless `actions` is `[T, 7]`, T > 0, finite and in [-1, 1]."""
    if actions.dtype.kind != "f" or actions.ndim != 2 or actions.shape[1] != ACTION_SIZE or len(actions) == 0:
        raise UserError(f"{where}: shape {actions.shape} of {actions.dtype}, expected (T, {ACTION_SIZE}) of floats")
    if not np.isfinite(actions).all():
        step = int(np.flatnonzero(~np.isfinite(actions).all(axis=1))[0])
        raise UserError(f"{where}: not finite at step {step}; record the episode again")
    largest = float(np.abs(actions).max())
    if largest > 1 + ACTION_TOLERANCE:
        raise UserError(f"{where}: reach {largest:g}, expected [-1, 1]; clip them or use another file")


def episode_digest(episode: Episode) -> str:
    """SHA-256 of all that is in an episode, to the last bit, in hexadecimal."""
    total = hashlib.sha256()
    for field in fields(episode):
        value = np.asarray(getattr(episode, field.name))
        total.update(f"{field.name} {value.dtype.str} {value.shape}".encode())
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()


def save_episode(path: Path, episode: Episode) -> None:
    """Writes one episode to `path`, whole or not at all. The same episode gives the same bytes.

    Raises:
      UserError: the episode is malformed, or the disk refuses.
    """
    path = Path(path)
    check_episode(episode, str(path))
    fields = {name: kind(getattr(episode, name)) for name, kind in _FIELDS.items()}
    header = json.dumps({"format": FORMAT, **fields}).encode()
    arrays = {name: np.asarray(getattr(episode, name)) for name in _ARRAYS}
    with disk_errors(path), atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)


def load_episode(path: Path) -> Episode:
    """Reads what `save_episode` wrote.

    Raises:
      UserError: the file is missing, damaged or of another kind.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            header: dict[str, Any] = json.loads(file["header"].tobytes())
            arrays = {name: file[name] for name in _ARRAYS}
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}, this version reads {FORMAT}")
        fields = {name: _typed(header, name, kind) for name, kind in _FIELDS.items()}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such episode file") from error
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable episode file ({reason}); delete it and make it again") from error
    episode = Episode(**fields, **arrays)
    check_episode(episode, str(path))
    return episode


def load_episodes(folder: Path) -> list[Episode]:
    """Reads every `.npz` of `folder`, sorted by name; a missing folder is a `UserError`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of episodes; run the stage that writes it first")
    return [load_episode(path) for path in sorted(folder.glob("*.npz"))]


def _typed(header: dict[str, Any], name: str, kind: type) -> Any:
    value = header[name]
    if type(value) is not kind:
        raise ValueError(f"{name} is {value!r}, expected {kind.__name__}")
    return value


@dataclass(frozen=True)
class DatasetEpisode:
    """T pairs of an observation and the action taken on it.

    Attributes:
      image: front camera, rotated by 180 degrees; encoded when read from a dataset.
      wrist_image: camera in the hand, likewise.
      state: end-effector position (m), axis-angle (rad), finger joints (m).
      joint_state: arm joints, radians.
      action: in [-1, 1], the gripper (last number) exactly -1 or 1.
      language_instruction: the prompt.
      file_path: where the episode came from.
    """

    image: UInt8[np.ndarray, "T h w 3"] | EncodedFrames
    wrist_image: UInt8[np.ndarray, "T h w 3"] | EncodedFrames
    state: Float[np.ndarray, "T 8"]
    joint_state: Float[np.ndarray, "T 7"]
    action: Float[np.ndarray, "T 7"]
    language_instruction: str
    file_path: str

    def __len__(self) -> int:
        return len(self.action)


def pair_episode(
    episode: Episode,
    robot: RobotState,
    image: UInt8[np.ndarray, "T h w 3"] | EncodedFrames,
    wrist_image: UInt8[np.ndarray, "T h w 3"] | EncodedFrames,
    file_path: str,
) -> DatasetEpisode:
    """Pairs each action of `episode` with the robot's state and the pictures before it.

    `robot` has T or T + 1 rows, along `episode.states`; pictures have T and are rotated already.
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


def check_dataset_episode(episode: DatasetEpisode, size: int) -> None:
    """Raises `UserError`, naming the episode, unless it fits the schema with pictures of `size` pixels."""
    where, steps = episode.file_path, len(episode.action)
    if steps == 0:
        raise UserError(f"{where}: an episode of no steps; leave it out")
    for name, width in (("state", ROBOT_STATE_SIZE), ("joint_state", ARM_JOINTS), ("action", ACTION_SIZE)):
        values = np.asarray(getattr(episode, name))
        if values.shape != (steps, width) or not np.isfinite(values).all():
            raise UserError(f"{where}: {name} {values.shape} or a number not finite, expected finite {(steps, width)}")
    for name in ("image", "wrist_image"):
        shape = getattr(episode, name).shape
        if shape != (steps, size, size, 3):
            raise UserError(f"{where}: {name} has shape {shape}, expected {(steps, size, size, 3)}")
    if not np.isin(episode.action[:, -1], (-1, 1)).all():
        raise UserError(f"{where}: a gripper action that is neither -1 nor 1; round it before it is executed")
    if np.abs(episode.action).max() > 1:
        raise UserError(f"{where}: actions reach {np.abs(episode.action).max():g}, expected [-1, 1]")
