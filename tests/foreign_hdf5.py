"""HDF5 as others write it: in robomimic's layout with images, and in ACT's, a file for each episode."""

import json
from importlib.util import find_spec
from pathlib import Path

import cv2
import h5py
import numpy as np
from moving_images import moving_images

STEPS, SIDE = 6, 16
HANDOVER = "handover/panda_panda/demo.hdf5"
CAMERAS = ("agentview_image", "robot0_eye_in_hand_image")
WIDTHS = {"eef_pos": 3, "eef_quat": 4, "gripper_qpos": 2, "joint_pos": 7}


def recorded_by_robosuite(name: str) -> Path:
    """Returns one of the files that come with robosuite: real demonstrations, as actions and physics states."""
    [package] = find_spec("robosuite").submodule_search_locations
    return Path(package) / "models/assets/demonstrations" / name


def images(seed: int, side: int = SIDE) -> dict[str, np.ndarray]:
    return {key: moving_images(STEPS, side, 2 * seed + index) for index, key in enumerate(CAMERAS)}


def sensors(robots: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns what robosuite's robots measure, as noise."""
    random = np.random.default_rng(seed)
    names = [(f"robot{robot}_{key}", width) for robot in range(robots) for key, width in WIDTHS.items()]
    return {name: random.normal(0, 0.3, (STEPS, width)) for name, width in names}


def env_args(robots: int = 1, kind: str = "OSC_POSE", name: str = "Lift", **controller) -> dict[str, str]:
    """Returns the attribute by which robomimic makes the environment."""
    settings = {"robots": ["Panda"] * robots, "controller_configs": {"type": kind, **controller}}
    return {"env_args": json.dumps({"env_name": name, "type": 1, "env_kwargs": settings})}


def write_robomimic(path: Path, demos: dict[int, dict[str, np.ndarray]], attributes: dict[str, str]) -> Path:
    """Writes a file of demonstrations.

    Args:
      path: of the file.
      demos: arrays of each, by its number; `actions` and `states` beside the observations, all others among them.
      attributes: of `data`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update({"total": STEPS * len(demos), **attributes})
        for number, arrays in demos.items():
            group = data.create_group(f"demo_{number}")
            group.attrs["num_samples"] = len(arrays["actions"])
            for key, values in arrays.items():
                group[key if key in ("actions", "states") else f"obs/{key}"] = values
    return path


def lift(path: Path, action: int = 7, robots: int = 1, demos: int = 2, **settings) -> Path:
    """Writes demonstrations of noise by one robot or several."""
    made = {}
    for number in range(demos):
        actions = np.random.default_rng(number).uniform(-1, 1, (STEPS, action))
        made[number] = {"actions": actions, **sensors(robots, number), **images(number)}
    return write_robomimic(path, made, env_args(robots, **settings))


def two_arms(path: Path) -> Path:
    """Writes the first steps of robosuite's own demonstrations of two arms with their actions and attributes.

    Its file has no observations; joints are from its physics states, the rest is noise.
    """
    made = {}
    with h5py.File(recorded_by_robosuite(HANDOVER)) as file:
        attributes = {key: file["data"].attrs[key] for key in ("env", "env_args")}
        for number in range(3):
            demo = file[f"data/demo_{number}"]
            arrays = {"actions": demo["actions"][:STEPS], "states": demo["states"][:STEPS]}
            made[number] = {**arrays, **sensors(2, number), **images(number)}
            made[number]["robot0_joint_pos"] = arrays["states"][:, 1:8]
    return write_robomimic(path, made, attributes)


def write_act(folder: Path, episodes: int = 2, *, jpeg: bool = False, instruction: str | None = "insert") -> Path:
    """Writes episodes of two arms as ACT records them, with a camera that is fixed and one at a wrist."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(episodes):
        random = np.random.default_rng(number)
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            file.attrs["sim"] = True
            if instruction is not None:
                file.attrs["language_instruction"] = instruction
            file["action"] = random.normal(size=(STEPS, 14)).astype(np.float32)
            file["observations/qpos"] = random.normal(size=(STEPS, 14)).astype(np.float32)
            file["observations/qvel"] = np.zeros((STEPS, 14), np.float32)
            if jpeg:
                file.attrs["compress"] = True
            for key, frames in zip(("cam_high", "cam_left_wrist"), images(number).values(), strict=True):
                file[f"observations/images/{key}"] = padded_jpegs(frames) if jpeg else frames
    return folder


def padded_jpegs(frames: np.ndarray) -> np.ndarray:
    """Returns images as rows of JPEG with zeros behind."""
    encoded = [cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].ravel() for frame in frames]
    rows = np.zeros((len(frames), max(map(len, encoded))), np.uint8)
    for row, data in zip(rows, encoded, strict=True):
        row[: len(data)] = data
    return rows
