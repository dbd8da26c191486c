"""A small dataset of any format, made of noise from fixed seeds; also as a program that is killed while it writes.

A program of its own, because it forks: each attempt is a process that has imported everything already.

    python export_of_noise.py FORMAT FOLDER MOMENTS

writes `FOLDER/whole`, then MOMENTS times a dataset whose writer is killed with SIGKILL at a random moment and then run
again to its end, and prints as JSON what those are that differ.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlgen.core.types import Episode, RobotState
from rlgen.data.dataset import open_dataset
from rlgen.data.episode import pair_episode
from rlgen.data.formats.array_record.format import ArrayRecordFormat
from rlgen.data.formats.hdf5.format import Hdf5Format, episode_name
from rlgen.data.formats.hdf5.layout import Demo, DemoFileInfo, DemoImages
from rlgen.data.formats.lerobot.format import LeRobotFormat
from rlgen.data.formats.rlds.format import RldsFormat
from rlgen.data.writer import write_dataset

NAME, SIZE, COUNT, STEPS = "libero_object_no_noops", 16, 9, 3
PAUSE = 0.004  # seconds an episode takes at least, so that the moments lie all over the work
LENGTHS = (3, 2, 2, 2)


def demo(number: int) -> Demo:
    """An episode of noise."""
    noise = np.random.default_rng(number)
    rows = STEPS + 1
    sizes = {"position": 3, "axis_angle": 3, "gripper": 2, "joints": 7}
    actions = noise.uniform(-1, 1, (STEPS, 7))
    actions[:, 6] = 1.0
    task = f"libero_object/task_{shard_of(number)}"
    states = noise.normal(size=(rows, 9))
    episode = Episode(
        task, "push", "noise", number, "train", number, states[0], states, actions, np.eye(STEPS)[-1], True
    )
    images = noise.integers(0, 256, (2, STEPS, SIZE, SIZE, 3), np.uint8)
    robot = RobotState(**{name: noise.normal(size=(rows, size)) for name, size in sizes.items()})
    return Demo(episode, robot, DemoImages(*images))


def shard_of(number: int) -> int:
    """The shard that an episode lies in."""
    return int(np.searchsorted(np.cumsum(LENGTHS), number, side="right"))


class Items(Sequence):
    """What a format is given, made when it is asked for."""

    def __init__(self, kind: str, pause: float = 0.0):
        self._kind, self._pause = kind, pause

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int):
        time.sleep(self._pause)
        made = demo(number)
        if self._kind == "hdf5":
            return made
        images = made.images.agentview, made.images.eye_in_hand
        return pair_episode(made.episode, made.robot, *images, episode_name(made.episode))


def layout(kind: str):
    """The format."""
    if kind == "hdf5":
        tasks = [f"libero_object/task_{shard}" for shard in range(len(LENGTHS))]
        return Hdf5Format(tasks, lambda task: DemoFileInfo("Libero_X", f"{task}.bddl", "x", "<mujoco/>"))
    return {"rlds": RldsFormat, "array_record": ArrayRecordFormat, "lerobot": lambda: LeRobotFormat(["push"])}[kind]()


def export(kind: str, folder: Path, pause: float = 0.0) -> Path:
    """Writes the dataset, or finishes it."""
    return write_dataset(
        folder, NAME, Items(kind, pause), layout(kind), lengths=LENGTHS, size=SIZE, fingerprint="noise"
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for hidden ones."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _fork(work) -> int:
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child


def _killed_after(kind: str, folder: Path, seconds: float) -> None:
    child = _fork(lambda: export(kind, folder, PAUSE))
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main(kind: str, folder: Path, moments: int) -> None:
    """As above."""
    with tempfile.TemporaryDirectory() as imports:
        open_dataset(export("rlds", Path(imports)))  # brings in all that is imported late, and starts no thread
    begun = time.monotonic()
    assert os.waitpid(_fork(lambda: export(kind, folder / "whole", PAUSE)), 0)[1] == 0
    longest = time.monotonic() - begun
    expected, different, unfinished = contents(folder / "whole"), [], 0
    for moment in range(moments):
        seconds = random.Random(f"{kind} {moment}").uniform(0.0, longest)
        broken = folder / f"broken-{moment}"
        _killed_after(kind, broken, seconds)
        unfinished += not (layout(kind).folder(broken, NAME, "1.0.0")).exists()
        done = os.waitpid(_fork(lambda at=broken: export(kind, at)), 0)[1]
        if done != 0 or contents(broken) != expected:
            different.append(seconds)
    print(json.dumps({"different": different, "unfinished": unfinished, "files": len(expected)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
