"""Reads HDF5 demonstrations with robomimic's data set for training: `python read_robomimic.py DATASET OUT ...`."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import robomimic.utils.obs_utils as ObsUtils
from robomimic.utils.dataset import SequenceDataset

IMAGES = ("agentview_rgb", "eye_in_hand_rgb")
NUMBERS = ("ee_pos", "ee_ori", "gripper_states")


def main(folder: str, out: str) -> None:
    """Reads every step as a sequence of length 1; images are turned by 180 degrees, as in the other formats."""
    ObsUtils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": list(NUMBERS), "rgb": list(IMAGES)}})
    columns: dict[str, list] = {name: [] for name in ("lengths", "prompts", "actions", "states", *IMAGES)}
    for path in sorted(Path(folder).rglob("*.hdf5")):
        with h5py.File(path) as file:
            environment = json.loads(file["data"].attrs["env_args"])
            if not {"env_name", "type", "env_kwargs"} <= environment.keys():
                raise ValueError(f"{path}: env_args has {sorted(environment)}")
            prompt = json.loads(file["data"].attrs["problem_info"])["language_instruction"]
        keys = [*NUMBERS, *IMAGES]
        # As LIBERO's own training calls it: its files have no observations after the last action.
        options = {"dataset_keys": ["actions", "rewards", "dones"], "load_next_obs": False}
        dataset = SequenceDataset(str(path), obs_keys=keys, **options)
        position = 0
        for demo in sorted(dataset.demos, key=lambda name: int(name.split("_")[1])):
            length = dataset._demo_id_to_demo_length[demo]
            start = dataset._demo_id_to_start_indices[demo]
            items = [dataset[start + step] for step in range(length)]
            position += length
            columns["lengths"].append(length)
            columns["prompts"].append(prompt)
            columns["actions"] += [item["actions"][0] for item in items]
            columns["states"] += [np.concatenate([item["obs"][name][0] for name in NUMBERS]) for item in items]
            for name in IMAGES:
                columns[name].append(items[0]["obs"][name][0][::-1, ::-1])
        if position != len(dataset):
            raise ValueError(f"{path}: {len(dataset)} sequences, its demonstrations have {position} steps")
    image, wrist_image = (np.stack(columns.pop(name)) for name in IMAGES)
    arrays = {name: np.array(values) for name, values in columns.items()}
    version_text = f"robomimic {version('robomimic')}"
    np.savez(out, version=version_text, first_image=image, first_wrist_image=wrist_image, **arrays)


if __name__ == "__main__":
    for given, written in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        main(given, written)
