"""A reader of demonstrations in LIBERO's HDF5 layout: ours, human ones, and robosuite's own files."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import Episode, RobotState
from rlgen.data.episode import check_actions, check_episode, check_finite, episode_digest
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
    ROBOT_SIZES,
    DemoFileInfo,
    DemoImages,
    array,
    attribute,
    child,
    images_checksum,
    named_damage,
    opened,
)
from rlgen.libero.tasks.suites import find_demo_task

MAX_MISSING = 1000  # demonstrations that are named as missing; a damaged count may be anything
OnBad = Callable[[str, UserError], None]
_SCENE_PREFIX = re.compile(r"^[A-Z_]*SCENE\d+_")


def read_demos(path: Path, *, clip: bool = False, only: Collection[str] | None = None) -> list[Episode]:
    """Reads the demonstrations of one file in the order of the numbers in their names.

    In a file that this project did not write, the source is `human`, the seed and the initial index are -1,
    the split is `train`, and the state after the last action, which was not recorded, is all NaN. Without
    `rewards` the episode counts as a failure. Files that do not say their task have that of their name and folder;
    episodes of robosuite's and robomimic's files have the task `robosuite/<env>`. States have no columns in episodes
    made from a dataset without physics.

    Args:
      path: the HDF5 file.
      clip: clip actions to [-1, 1], as robosuite does before it uses them; input devices of humans give more.
      only: names (such as `demo_0`) to read, each of which has to be there; all by default.

    Raises:
      UserError: the file is missing, damaged, of another layout, or lacks a demonstration that it should have; actions
        have the wrong size, are not finite, or (without `clip`) leave [-1, 1]. The message names the file, the
        demonstration and the key.
    """
    return [episode for _, episode in iterate_demos(path, clip=clip, only=only)]


def iterate_demos(
    path: Path, *, clip: bool = False, only: Collection[str] | None = None, on_bad: OnBad | None = None
) -> Iterator[tuple[str, Episode]]:
    """Yields the name (such as `demo_0`) and the episode of each demonstration, one in memory at a time.

    Otherwise as `read_demos`.

    Args:
      path: the HDF5 file.
      clip: clip actions to [-1, 1].
      only: names to read, each of which has to be there; all by default.
      on_bad: called with the name and the error of each demonstration that is missing or cannot be read, which is then
        skipped. By default the first such error is raised. Errors of the file as a whole are raised in either case.
    """
    path = Path(path)
    with opened(path) as file:
        data = child(file, "data", path)
        task, prompt = task_and_prompt(data, path)
        present = set(_demo_names(data, path))
        names = _expected_names(data, present)
        if only is not None:
            # One that is asked for and nowhere is missing, whatever the file's own count says.
            names = [name for name in names if name in only] + [name for name in only if name not in names]
        for name in names:
            try:
                with named_damage(path, f"/data/{name}"):
                    episode = _read_demo(_demo(data, name, present, path), path, task, prompt, clip)
            except UserError as error:
                if on_bad is None:
                    raise
                on_bad(name, error)
            else:
                yield name, episode


def read_robot_states(path: Path, *, only: Collection[str] | None = None) -> list[RobotState]:
    """Returns the robot along each demonstration of a file, or along those named in `only`.

    Our files have T + 1 rows, aligned with `Episode.states`. Files of human demonstrations have T rows, where row t was
    taken after action t; `observed_before_action` distinguishes them.
    """
    path = Path(path)
    with opened(path) as file:
        data = child(file, "data", path)
        names = (name for name in _demo_names(data, path) if only is None or name in only)
        return [_read_robot(data[name], path) for name in names]


def read_images(path: Path, name: str) -> DemoImages:
    """Reads the images of the demonstration `name`, in the raw orientation.

    Raises:
      UserError: there are none.
    """
    with opened(path) as file:
        return _read_images(child(child(file, "data", path), name, path), path)


def read_demo(path: Path, name: str) -> tuple[Episode, RobotState, DemoImages]:
    """Reads all of one demonstration of our files, without looking at the others: as fast in a file of thousands.

    Args:
      path: the HDF5 file.
      name: of the demonstration, such as `demo_0`.

    Raises:
      UserError: as `read_demos`, or there are no images.
    """
    with opened(Path(path)) as file:
        data = child(file, "data", path)
        task, prompt = task_and_prompt(data, path)
        with named_damage(path, f"/data/{name}"):
            if name not in data:
                raise UserError(f"{path}: /data/{name}: missing; fetch the file again")
            group = child(data, name, path)
            return _read_demo(group, path, task, prompt, False), _read_robot(group, path), _read_images(group, path)


def read_model_files(path: Path, names: Iterable[str]) -> Iterator[str]:
    """Yields the MJCF stored with each demonstration, which has the poses of its fixtures; empty if none is stored."""
    with opened(Path(path)) as file:
        data = child(file, "data", path)
        for name in names:
            yield str(child(data, name, path).attrs.get("model_file", ""))


def observed_before_action(path: Path) -> bool:
    """Returns whether row t of the observations was taken before action t (our files) or after it (human ones)."""
    path = Path(path)
    with opened(path) as file:
        return child(file, "data", path).attrs.get(OBSERVATION_ATTRIBUTE) == OBSERVED_BEFORE_ACTION


def read_info(path: Path) -> DemoFileInfo:
    """Reads the description of a file's task.

    Raises:
      UserError: the file is damaged or lacks a part of the description.
    """
    path = Path(path)
    with opened(path) as file:
        data = child(file, "data", path)
        problem = json.loads(attribute(data, "problem_info", path))
        described = (data, MODEL_ATTRIBUTE)
        if MODEL_ATTRIBUTE not in data.attrs:
            described = (data[_demo_names(data, path)[0]], "model_file")
        return DemoFileInfo(
            env_name=attribute(data, "env_name", path),
            bddl_file_name=attribute(data, "bddl_file_name", path),
            language=problem["language_instruction"],
            model_file=attribute(*described, path),
            domain_name=problem.get("domain_name", "robosuite"),
            env_kwargs=json.loads(attribute(data, "env_args", path)).get("env_kwargs", {}),
            fixtures=tuple(json.loads(str(data.attrs.get(FIXTURES_ATTRIBUTE, "[]")))),
            bddl=str(data.attrs.get(BDDL_ATTRIBUTE, "")),
        )


def prompt_from_name(name: str) -> str:
    """Returns the instruction in the name of a task's file, such as `KITCHEN_SCENE3_turn_on_the_stove`."""
    return _SCENE_PREFIX.sub("", name).replace("_", " ")


def _read_demo(group: h5py.Group, path: Path, task: str, prompt: str, clip: bool) -> Episode:
    where = f"{path}: {group.name}"
    actions = array(group, "actions", path)
    samples = group.attrs.get("num_samples", len(actions))
    if samples != len(actions):
        raise UserError(f"{where}: num_samples says {samples}, there are {len(actions)} actions; fetch it again")
    if clip and actions.dtype.kind == "f" and DIGEST_ATTRIBUTE not in group.attrs:
        actions = np.clip(actions, -1, 1)  # NaN stays and is rejected below
    check_actions(actions, f"{where}/actions")
    states = _states(group, path, len(actions))
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
        states=states,
        actions=actions,
        rewards=rewards,
        success=bool(attributes.get("success", (rewards > 0).any())),
        fixtures=np.asarray(attributes[FIXTURES_ATTRIBUTE]) if FIXTURES_ATTRIBUTE in attributes else None,
    )
    check_episode(episode, where)
    written = attributes.get(DIGEST_ATTRIBUTE, "" if DIGEST_ATTRIBUTE in group.parent.attrs else None)
    if written is not None and written != episode_digest(episode):
        raise UserError(f"{where}: not as it was written; fetch or record the file again")
    return episode


def _states(group: h5py.Group, path: Path, steps: int) -> np.ndarray:
    """Returns `[T + 1, D]`; the last row is NaN if it was not recorded, and D is 0 without physics."""
    if not group.attrs.get(PHYSICS_ATTRIBUTE, True):
        return np.zeros((steps + 1, 0))
    states = array(group, "states", path)
    if states.dtype.kind != "f" or states.ndim != 2 or len(states) != steps:
        raise UserError(
            f"{path}: {group.name}/states: shape {states.shape} of {states.dtype}, "
            f"expected ({steps}, D) of floats for as many actions"
        )
    final = array(group, "final_state", path) if "final_state" in group else np.full((1, states.shape[1]), np.nan)
    return np.concatenate([states, final])


def _rewards(group: h5py.Group, path: Path, steps: int) -> np.ndarray:
    if "rewards" not in group:
        return np.zeros(steps)
    stored = array(group, "rewards", path)
    kind = np.dtype(str(group["rewards"].attrs.get("dtype", "<f8")))
    # A lost chunk reads as other bytes than 0 and 1.
    if kind.kind not in "fiu" or (stored.dtype.kind == "u" and not np.isin(stored, (0, 1)).all()):
        raise UserError(f"{path}: {group.name}/rewards: not rewards of 0 and 1; fetch or record the file again")
    return stored.astype(kind)


def _read_robot(group: h5py.Group, path: Path) -> RobotState:
    obs = child(group, "obs", path)
    parts = {}
    for name, key in ROBOT_KEYS.items():
        values = array(obs, key, path)
        if "final_obs" in group:
            values = np.concatenate([values, array(child(group, "final_obs", path), key, path)])
        if values.ndim != 2 or values.shape[1] != ROBOT_SIZES[name]:
            raise UserError(f"{path}: {obs.name}/{key}: shape {values.shape}, expected (T, {ROBOT_SIZES[name]})")
        check_finite(values, f"{path}: {obs.name}/{key}", "fetch or record the file again")
        parts[name] = values
    if len({len(values) for values in parts.values()}) != 1:
        raise UserError(f"{path}: {obs.name}: observations of different lengths; record the file again")
    return RobotState(**parts)


def expected_demos(data: h5py.Group, path: Path) -> Iterator[tuple[str, h5py.Group]]:
    """Yields name and group of each demonstration; `UserError` for one that is missing."""
    present = set(_demo_names(data, path))
    for name in _expected_names(data, present):
        yield name, _demo(data, name, present, path)


def task_and_prompt(data: h5py.Group, path: Path) -> tuple[str, str]:
    """Returns task and prompt; `UserError` where nothing says them.

    They are what this project stored, or follow from the name of the BDDL file, of robosuite's environment, or of the
    file itself: regenerated files have no attributes.
    """
    if "rlgen_task" in data.attrs:
        return str(data.attrs["rlgen_task"]), attribute(data, "rlgen_prompt", path)
    environment = _environment(data)
    written = data.attrs.get("bddl_file_name", environment.get("bddl_file"))
    if written is not None:
        bddl = PurePosixPath(str(written))
        return f"{bddl.parent.name or path.parent.name}/{bddl.stem}", prompt_from_name(bddl.stem)
    if "env" in data.attrs:
        return f"robosuite/{data.attrs['env']}", ""
    named = find_demo_task("", path.absolute())
    if named is not None:
        return named.id, named.prompt
    if environment.get("env_name"):
        return f"robosuite/{environment['env_name']}", ""
    raise UserError(
        f"{path}: nothing in it says its task, and its name is none of LIBERO's; name it <suite>/<task>_demo.hdf5"
    )


def _read_images(group: h5py.Group, path: Path) -> DemoImages:
    obs = child(group, "obs", path)
    cameras = []
    for key in ("agentview_rgb", "eye_in_hand_rgb"):
        cameras.append(array(obs, key, path))
        written = obs[key].attrs.get(IMAGES_ATTRIBUTE)
        if written is not None and written != images_checksum(cameras[-1]):
            raise UserError(f"{path}: {obs.name}/{key}: not as it was written; fetch or export the file again")
    if any(images.ndim != 4 or images.shape[-1] != 3 or images.dtype != "uint8" for images in cameras):
        shapes = [images.shape for images in cameras]
        raise UserError(f"{path}: {obs.name}: images of {shapes}, expected (T, h, w, 3)")
    return DemoImages(*cameras)


def _environment(data: h5py.Group) -> dict[str, str]:
    """Returns the texts in `env_args`, which is all that robomimic's processed files say of their task."""
    try:
        stored = json.loads(data.attrs.get("env_args", "{}"))
    except (TypeError, ValueError, RecursionError):
        return {}
    return {key: text for key, text in stored.items() if isinstance(text, str)} if isinstance(stored, dict) else {}


def _demo_names(data: h5py.Group, path: Path) -> list[str]:
    names = sorted((name for name in data if re.fullmatch(r"demo_\d+", name)), key=_demo_number)
    if not names:
        raise UserError(f"{path}: no data/demo_0 in it; expected a LIBERO or robosuite demonstration file")
    return names


def _expected_names(data: h5py.Group, present: set[str]) -> list[str]:
    """Returns the names of the demonstrations that the file has or should have.

    Numbers have holes where failures were taken out: only the file's own count says that one is missing. Whatever looks
    like a demonstration under another name is one as well.
    """
    declared = int(data.attrs.get("num_demos", 0))
    absent = (name for name in map("demo_{}".format, range(declared)) if name not in present)
    missing = set(islice(absent, min(max(0, declared - len(present)), MAX_MISSING)))
    renamed = [name for name in data if name not in present and "actions" in (data.get(name) or ())]
    return sorted(present | missing, key=_demo_number) + renamed


def _demo_number(name: str) -> int:
    return int(name.removeprefix("demo_"))


def _demo(data: h5py.Group, name: str, present: set[str], path: Path) -> h5py.Group:
    if name not in present:
        count = f"missing, num_demos says {data.attrs.get('num_demos')} and there are {len(present)}"
        reason = "not a demonstration's name" if name in data else count
        raise UserError(f"{path}: /data/{name}: {reason}; fetch the file again")
    return child(data, name, path)
