"""People's files, made from clean demonstrations by a hand that trembles."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from rlgen.core.types import Episode
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import replay
from rlgen.libero.scenes.demo_info import demo_file_info

LOST = 5  # first steps that the benchmark's own files lack
NOOPS = slice(20, 26)
OURS = ("rlgen_observation", "rlgen_task", "rlgen_prompt", "rlgen_sha256")
OURS_OF_A_DEMO = ("source", "seed", "split", "initial_index", "success", "rlgen_sha256")


def tremble(scene, episode: Episode) -> Episode:
    """Returns an episode with a late start, six no-ops, and a hand that never quite stands still otherwise."""
    late = np.tile([0, 0, 0, 0, 0, 0, -1.0], (LOST, 1))
    actions = np.concatenate([late, episode.actions.astype(np.float64), np.tile(episode.actions[-1], (20, 1))])
    actions[:, 0] = np.clip(actions[:, 0] + 0.002 * (-1.0) ** np.arange(len(actions)), -1, 1)
    pause = np.zeros((NOOPS.stop - NOOPS.start, 7))
    pause[:, 6] = actions[NOOPS.start - 1, 6]
    actions = np.insert(actions, NOOPS.start, pause, axis=0)
    states, rewards = replay(scene, episode.initial_state, actions)
    assert rewards[-1] == 1
    return replace(episode, actions=actions, states=states, rewards=rewards)


def write_peoples(path: Path, scene, episodes: list[Episode], **changes) -> Path:
    """A file as people's are: no first steps, no last state, observations after the action, nothing of ours."""
    shown = [
        replace(
            episode,
            actions=episode.actions[LOST:],
            states=episode.states[LOST:],
            rewards=episode.rewards[LOST:],
            initial_state=episode.states[LOST],
            **changes,
        )
        for episode in episodes
    ]
    robots = [Observer(scene)(episode.states[1:]).robot for episode in shown]
    write_demos(path, shown, robots, demo_file_info(scene))
    with h5py.File(path, "r+") as file:
        data = file["data"]
        for key in OURS:
            del data.attrs[key]
        data.attrs["env_name"] = "Libero_Floor_Manipulation"
        data.attrs["bddl_file_name"] = f"/home/somebody/bddl_files/{scene.task.id}.bddl"
        for demo in data.values():
            for key in OURS_OF_A_DEMO:
                del demo.attrs[key]
            del demo["final_state"]
    return path
