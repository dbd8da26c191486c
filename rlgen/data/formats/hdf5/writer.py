"""A writer of demonstrations in LIBERO's HDF5 layout."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, UInt8

from rlgen.core.errors import UserError
from rlgen.core.files import atomic_path, disk_errors
from rlgen.core.types import Episode, RobotState
from rlgen.data.episode import check_episode, episode_digest
from rlgen.data.formats.hdf5.layout import (
    BDDL_ATTRIBUTE,
    DIGEST_ATTRIBUTE,
    FIXTURES_ATTRIBUTE,
    IMAGES_ATTRIBUTE,
    MODEL_ATTRIBUTE,
    OBSERVATION_ATTRIBUTE,
    OBSERVED_BEFORE_ACTION,
    PHYSICS_ATTRIBUTE,
    ROBOT_KEYS,
    TAG,
    TAG_ATTRIBUTE,
    Demo,
    DemoFileInfo,
    DemoImages,
    images_checksum,
)

# Levels above 1 take longer and save 2 % of the benchmark's images; filters that save more are not in every library.
_GZIP = 1


def write_demos(
    path: Path,
    episodes: Sequence[Episode],
    robot_states: Sequence[RobotState],
    info: DemoFileInfo,
    images: Iterable[DemoImages] | None = None,
) -> None:
    """Writes episodes of one task to `path`, whole or not at all.

    Args:
      path: the file, by convention `<suite>/<name>_demo.hdf5`.
      episodes: at least one, all of the same task.
      robot_states: the robot along each episode, with T rows (before each action) or T + 1 (and after the last one).
      info: the task and its environment.
      images: of each episode, before each action; by default the file has none.

    Raises:
      UserError: an episode is malformed, or an error of the disk.
    """
    images = [None] * len(episodes) if images is None else images
    stream_demos(path, (Demo(*parts) for parts in zip(episodes, robot_states, images, strict=True)), info)


def stream_demos(path: Path, demos: Iterable[Demo], info: DemoFileInfo) -> int:
    """Writes demonstrations of one task, one in memory at a time; returns their number.

    Args:
      path: the file, by convention `<suite>/<name>_demo.hdf5`.
      demos: at least one.
      info: the task and its environment.

    Raises:
      UserError: a demonstration is malformed, or an error of the disk.
    """
    path, count, total = Path(path), 0, 0
    with disk_errors(path), atomic_path(path) as temporary, creating(temporary) as file:
        data = file.create_group("data")
        first = None
        for demo in demos:
            first = first or demo.episode
            _check(demo.episode, first, path, count)
            _write_demo(data.create_group(f"demo_{count}"), info, demo.episode, demo.robot, demo.images)
            count, total = count + 1, total + len(demo.episode)
        if first is None:
            raise UserError(f"{path}: episodes of no task, expected at least one")
        _write_info(data, info, first, count, total)
    return count


def _check(episode: Episode, first: Episode, path: Path, index: int) -> None:
    tasks = sorted({first.task, episode.task})
    if len(tasks) != 1 or episode.prompt != first.prompt:
        raise UserError(f"{path}: episodes of {tasks}, expected one task and prompt a file")
    check_episode(episode, f"{path}: demo_{index}")


def _write_info(data: h5py.Group, info: DemoFileInfo, first: Episode, count: int, total: int) -> None:
    data.attrs["env_name"] = info.env_name
    problem = {"problem_name": info.problem_name, "domain_name": info.domain_name}
    data.attrs["problem_info"] = json.dumps({**problem, "language_instruction": info.language})
    data.attrs["macros_image_convention"] = "opengl"
    data.attrs["bddl_file_name"] = info.bddl_file_name
    if info.bddl:
        data.attrs[BDDL_ATTRIBUTE] = info.bddl
    data.attrs[TAG_ATTRIBUTE] = TAG
    env_args = {"type": 1, "env_name": info.env_name, "problem_name": info.problem_name}
    env_args |= {"bddl_file": info.bddl_file_name, "env_kwargs": dict(info.env_kwargs)}
    data.attrs["env_args"] = json.dumps(env_args)
    data.attrs["num_demos"] = count
    data.attrs["total"] = total
    data.attrs[OBSERVATION_ATTRIBUTE] = OBSERVED_BEFORE_ACTION
    data.attrs[DIGEST_ATTRIBUTE] = 1
    data.attrs["rlgen_task"] = first.task
    data.attrs["rlgen_prompt"] = first.prompt


def _write_demo(
    group: h5py.Group, info: DemoFileInfo, episode: Episode, robot: RobotState, images: DemoImages | None
) -> None:
    steps = len(episode)
    rows = len(robot.position)
    if rows not in (steps, steps + 1):
        raise ValueError(f"{group.name}: robot state has {rows} rows, expected {steps} or {steps + 1}")
    group.attrs["num_samples"] = steps
    group.attrs["model_file"] = info.model_file_of(episode)
    if episode.fixtures is not None:
        group.attrs[FIXTURES_ATTRIBUTE] = episode.fixtures
        if MODEL_ATTRIBUTE not in group.parent.attrs:
            group.parent.attrs[FIXTURES_ATTRIBUTE] = json.dumps(info.fixtures)
            group.parent.attrs[MODEL_ATTRIBUTE] = info.model_file
    if episode.has_physics:
        group.attrs["init_state"] = episode.initial_state
        _store(group, "states", episode.states[:steps])
        _store(group, "final_state", episode.states[steps:])
    else:
        group.attrs[PHYSICS_ATTRIBUTE] = 0
    group.attrs[DIGEST_ATTRIBUTE] = episode_digest(episode)
    for name in ("source", "split"):
        group.attrs[name] = getattr(episode, name)
    for name in ("seed", "initial_index", "success"):
        group.attrs[name] = int(getattr(episode, name))
    dones = np.zeros(steps, np.uint8)
    dones[-1] = 1
    _store(group, "actions", episode.actions)
    _store(group, "robot_states", _robot_states_matrix(robot)[:steps])
    _store(group, "rewards", _as_bytes_if_binary(episode.rewards)).attrs["dtype"] = episode.rewards.dtype.str
    _store(group, "dones", dones)
    obs = group.create_group("obs")
    _store(obs, "ee_states", np.concatenate([robot.position, robot.axis_angle], axis=1)[:steps])
    for name, key in ROBOT_KEYS.items():
        _store(obs, key, getattr(robot, name)[:steps])
        if rows > steps:
            _store(group, f"final_obs/{key}", getattr(robot, name)[steps:])
    if images is not None:
        _store_images(obs, "agentview_rgb", images.agentview, steps)
        _store_images(obs, "eye_in_hand_rgb", images.eye_in_hand, steps)


def _store(group: h5py.Group, key: str, values: np.ndarray) -> h5py.Dataset:
    """Stores an array with a checksum, by which a reader notices damage."""
    # A chunk that a damaged file no longer finds reads as the fill value, which readers reject.
    fill = np.nan if values.dtype.kind == "f" else 255
    return group.create_dataset(key, data=values, chunks=values.shape, fletcher32=True, fillvalue=fill)


def _store_images(obs: h5py.Group, key: str, images: UInt8[np.ndarray, "T h w 3"], steps: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != steps:
        raise ValueError(f"{obs.name}/{key}: {images.dtype} {images.shape}, expected uint8 ({steps}, h, w, 3)")
    chunks = (1, *images.shape[1:])
    stored = obs.create_dataset(
        key, data=images, chunks=chunks, fletcher32=True, compression="gzip", compression_opts=_GZIP
    )
    stored.attrs[IMAGES_ATTRIBUTE] = images_checksum(images)


def _as_bytes_if_binary(rewards: Float[np.ndarray, " T"]) -> np.ndarray:
    """Returns rewards of 0 and 1 as bytes, as files of human demonstrations hold them, and others unchanged."""
    return rewards.astype(np.uint8) if np.isin(rewards, (0, 1)).all() else rewards


def _robot_states_matrix(robot: RobotState) -> Float[np.ndarray, "T 9"]:
    """Returns the finger joints (2), the position of the end effector (3) and its quaternion (x, y, z, w)."""
    angle = np.linalg.norm(robot.axis_angle, axis=1, keepdims=True)
    # sin(angle / 2) / angle, which is 1/2 at an angle of 0
    scale = 0.5 * np.sinc(angle / (2 * np.pi))
    quaternion = np.concatenate([robot.axis_angle * scale, np.cos(angle / 2)], axis=1)
    return np.concatenate([robot.gripper, robot.position, quaternion], axis=1)


class _DeferredErrors(io.FileIO):
    """A file that keeps the first error of the disk and ignores what follows.

    HDF5 prints pages if a write fails, so it runs to its end and the error is raised afterwards.
    """

    error: OSError | None = None

    def write(self, data) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while self.error is None and written < len(view):
            try:
                written += super().write(view[written:])
            except OSError as error:
                self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size) if self.error is None else size or 0
        except OSError as error:
            self.error = error
            return size or 0


@contextmanager
def creating(path: Path) -> Iterator[h5py.File]:
    """Yields a new file; an error of the disk is raised at the end of the block."""
    with _DeferredErrors(path, "w+") as sink:
        # Version 1.8 of the format has checksums in its headers, and all libraries in use read it.
        with h5py.File(sink, "w", libver=("v108", "v108")) as file:
            yield file
        if sink.error is not None:
            raise sink.error
