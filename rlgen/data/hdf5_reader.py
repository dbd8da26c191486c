"""Demonstrations in LIBERO's HDF5 layout: reading ours, people's, and robosuite's own."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from rlgen.data.episodes import check_actions, check_episode
from rlgen.data.hdf5_layout import (
    OBSERVATION_ATTRIBUTE,
    OBSERVED_BEFORE_ACTION,
    ROBOT_KEYS,
    ROBOT_SIZES,
    DemoFileInfo,
)
from rlgen.errors import UserError
from rlgen.types import Episode, RobotState

_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, EOFError)
_SCENE_PREFIX = re.compile(r"^[A-Z_]*SCENE\d+_")


def read_demos(path: Path, *, clip: bool = False) -> list[Episode]:
    """Reads the demonstrations of one file in the order of their numbers.

    In a file that this project did not write, the source is `human`, the seed and the initial index are -1,
    the split is `train`, and the state after the last action, which was never recorded, is all NaN. Without
    `rewards` the episode counts as no success. robosuite's own files (no `bddl_file_name`) read as task
    `robosuite/<env>`.

    Args:
      path: the HDF5 file.
      clip: clip actions to [-1, 1] as robosuite does before it uses them, where people's device gave more.

    Raises:
      UserError: the file is missing, damaged, or not of this family; actions have the wrong size, are not
        finite, or (without `clip`) leave [-1, 1]. Names the file, the demonstration and the key.
    """
    path = Path(path)
    with _opened(path) as file:
        data = _child(file, "data", path)
        task, prompt = _task(data, path)
        return [_read_demo(data[name], path, task, prompt, clip) for name in _demo_names(data, path)]


def read_robot_states(path: Path) -> list[RobotState]:
    """The robot along each demonstration of a file.

    T + 1 rows in our files, aligned with `Episode.states`. T rows in people's files, where row t was taken
    after action t; use `observed_before_action` to tell.
    """
    path = Path(path)
    with _opened(path) as file:
        data = _child(file, "data", path)
        return [_read_robot(data[name], path) for name in _demo_names(data, path)]


def observed_before_action(path: Path) -> bool:
    """Whether row t of the observations was taken before action t (ours) or after it (people's files)."""
    path = Path(path)
    with _opened(path) as file:
        return _child(file, "data", path).attrs.get(OBSERVATION_ATTRIBUTE) == OBSERVED_BEFORE_ACTION


def read_info(path: Path) -> DemoFileInfo:
    """What the file says about its task; `UserError` where it lacks a part of it."""
    path = Path(path)
    with _opened(path) as file:
        data = _child(file, "data", path)
        problem = json.loads(_attribute(data, "problem_info", path))
        return DemoFileInfo(
            env_name=_attribute(data, "env_name", path),
            bddl_file_name=_attribute(data, "bddl_file_name", path),
            language=problem["language_instruction"],
            model_file=_attribute(data[_demo_names(data, path)[0]], "model_file", path),
            domain_name=problem.get("domain_name", "robosuite"),
            env_kwargs=json.loads(_attribute(data, "env_args", path)).get("env_kwargs", {}),
        )


def prompt_from_name(name: str) -> str:
    """The instruction a task's file name spells: `KITCHEN_SCENE3_turn_on_the_stove` without its scene."""
    return _SCENE_PREFIX.sub("", name).replace("_", " ")


def _read_demo(group: h5py.Group, path: Path, task: str, prompt: str, clip: bool) -> Episode:
    where = f"{path}: {group.name}"
    actions = _array(group, "actions", path)
    if clip and actions.dtype.kind == "f":
        actions = np.clip(actions, -1, 1)  # NaN stays and is refused below
    check_actions(actions, f"{where}/actions")
    states = _array(group, "states", path)
    if states.ndim != 2 or len(states) != len(actions):
        raise UserError(f"{where}/states: shape {states.shape}, expected ({len(actions)}, D) for as many actions")
    final = _array(group, "final_state", path) if "final_state" in group else np.full((1, states.shape[1]), np.nan)
    rewards = _rewards(group, path, len(actions))
    attributes = group.attrs
    episode = Episode(
        task=task,
        prompt=prompt,
        source=str(attributes.get("source", "human")),
        initial_index=int(attributes.get("initial_index", -1)),
        split=str(attributes.get("split", "train")),
        seed=int(attributes.get("seed", -1)),
        initial_state=np.asarray(attributes.get("init_state", states[0])),
        states=np.concatenate([states, final]),
        actions=actions,
        rewards=rewards,
        success=bool(attributes.get("success", (rewards > 0).any())),
    )
    check_episode(episode, where)
    return episode


def _rewards(group: h5py.Group, path: Path, steps: int) -> np.ndarray:
    if "rewards" not in group:
        return np.zeros(steps)
    return _array(group, "rewards", path).astype(group["rewards"].attrs.get("dtype", "<f8"))


def _read_robot(group: h5py.Group, path: Path) -> RobotState:
    obs = _child(group, "obs", path)
    parts = {}
    for name, key in ROBOT_KEYS.items():
        values = _array(obs, key, path)
        if "final_obs" in group:
            values = np.concatenate([values, _array(group["final_obs"], key, path)])
        if values.ndim != 2 or values.shape[1] != ROBOT_SIZES[name] or not np.isfinite(values).all():
            raise UserError(f"{path}: {obs.name}/{key}: shape {values.shape} or a number that is not finite, "
                            f"expected finite (T, {ROBOT_SIZES[name]})")  # fmt: skip
        parts[name] = values
    if len({len(values) for values in parts.values()}) != 1:
        raise UserError(f"{path}: {obs.name}: observations of different lengths; record the file again")
    return RobotState(**parts)


def _task(data: h5py.Group, path: Path) -> tuple[str, str]:
    """Task and prompt: as stored by us, else as the names of the files say it."""
    if "rlgen_task" in data.attrs:
        return str(data.attrs["rlgen_task"]), _attribute(data, "rlgen_prompt", path)
    if "bddl_file_name" in data.attrs:
        bddl = PurePosixPath(str(data.attrs["bddl_file_name"]))
        return f"{bddl.parent.name or path.parent.name}/{bddl.stem}", prompt_from_name(bddl.stem)
    if "env" in data.attrs:
        return f"robosuite/{data.attrs['env']}", ""
    raise UserError(
        f"{path}: data has no attribute 'bddl_file_name'; expected a LIBERO or robosuite demonstration file"
    )


def _demo_names(data: h5py.Group, path: Path) -> list[str]:
    names = sorted((name for name in data if re.fullmatch(r"demo_\d+", name)), key=lambda name: int(name[5:]))
    if not names:
        raise UserError(f"{path}: no data/demo_0 in it; expected a LIBERO or robosuite demonstration file")
    return names


def _child(group: h5py.Group, key: str, path: Path) -> h5py.Group:
    child = group.get(key)
    if not isinstance(child, h5py.Group):
        raise UserError(f"{path}: {group.name}: no group '{key}'; expected a LIBERO or robosuite demonstration file")
    return child


def _array(group: h5py.Group, key: str, path: Path) -> np.ndarray:
    dataset = group.get(key)
    if not isinstance(dataset, h5py.Dataset):
        raise UserError(f"{path}: {group.name}: no dataset '{key}'; expected a LIBERO or robosuite demonstration file")
    try:
        values = dataset[()]
    except _DAMAGE as error:
        raise _unreadable(path, error, dataset.name) from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise UserError(f"{path}: {dataset.name}: {dataset.dtype} {dataset.shape}, expected an array of numbers")
    return values


def _attribute(group: h5py.Group, key: str, path: Path) -> Any:
    if key not in group.attrs:
        raise UserError(f"{path}: {group.name}: no attribute '{key}'; expected a LIBERO demonstration file")
    return str(group.attrs[key])


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected HDF5 demonstrations")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except UserError:
        raise
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception, where: str = "") -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    place = f"{path}: {where}" if where else str(path)
    return UserError(f"{place}: not readable HDF5, truncated or damaged ({reason}); fetch or record it again")
