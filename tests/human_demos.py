"""Files like those of human demonstrations, made from clean scripted ones by adding tremor."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from rlgen.core.types import Episode
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import replay
from rlgen.libero.scenes.demo_info import demo_file_info

MISSING_STEPS = 5  # first steps that the benchmark's own files lack
NOOPS = slice(20, 26)
OWN_ATTRIBUTES = ("rlgen_observation", "rlgen_task", "rlgen_prompt", "rlgen_sha256")
OWN_DEMO_ATTRIBUTES = ("source", "seed", "split", "initial_index", "success", "rlgen_sha256")


def add_tremor(scene, episode: Episode) -> Episode:
    """Returns an episode with a late start, six no-ops, and a hand that never quite stands still otherwise."""
    late = np.tile([0, 0, 0, 0, 0, 0, -1.0], (MISSING_STEPS, 1))
    actions = np.concatenate([late, episode.actions.astype(np.float64), np.tile(episode.actions[-1], (20, 1))])
    actions[:, 0] = np.clip(actions[:, 0] + 0.002 * (-1.0) ** np.arange(len(actions)), -1, 1)
    pause = np.zeros((NOOPS.stop - NOOPS.start, 7))
    pause[:, 6] = actions[NOOPS.start - 1, 6]
    actions = np.insert(actions, NOOPS.start, pause, axis=0)
    states, rewards = replay(scene, episode.initial_state, actions)
    assert rewards[-1] == 1
    return replace(episode, actions=actions, states=states, rewards=rewards)


def write_human_demos(path: Path, scene, episodes: list[Episode], **changes) -> Path:
    """Writes a file as the public ones are: no first steps, no last state, observations after the action, and none of
    this project's attributes."""
    recorded = [
        replace(
            episode,
            actions=episode.actions[MISSING_STEPS:],
            states=episode.states[MISSING_STEPS:],
            rewards=episode.rewards[MISSING_STEPS:],
            initial_state=episode.states[MISSING_STEPS],
            **changes,
        )
        for episode in episodes
    ]
    robots = [Observer(scene)(episode.states[1:]).robot for episode in recorded]
    write_demos(path, recorded, robots, demo_file_info(scene))
    with h5py.File(path, "r+") as file:
        data = file["data"]
        for key in OWN_ATTRIBUTES:
            del data.attrs[key]
        data.attrs["env_name"] = "Libero_Floor_Manipulation"
        data.attrs["bddl_file_name"] = f"/home/user/bddl_files/{scene.task.id}.bddl"
        for demo in data.values():
            for key in OWN_DEMO_ATTRIBUTES:
                del demo.attrs[key]
            del demo["final_state"]
    return path
