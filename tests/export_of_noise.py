"""A small dataset of noise in any format; also a program that kills the writer of such a dataset at random moments.

It is a program of its own because it forks: each attempt is a process that has imported everything already.

    python export_of_noise.py FOLDER FORMAT=MOMENTS ...

For every format it writes `FOLDER/FORMAT/whole`, and MOMENTS times a dataset whose writer is killed with SIGKILL at a
random moment and then run again to its end. It prints the results of `kill_and_finish` as JSON.
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
from rlgen.data.dataset import encoded_format, open_dataset
from rlgen.data.episode import pair_episode
from rlgen.data.formats.hdf5.format import Hdf5Format, episode_name
from rlgen.data.formats.hdf5.layout import Demo, DemoFileInfo, DemoImages
from rlgen.data.writer import Format, write_dataset

NAME, SIZE, COUNT, STEPS = "libero_object_no_noops", 16, 9, 3
PAUSE = 0.004  # seconds that an episode takes at least, so that the moments are spread over the work
LENGTHS = (3, 2, 2, 2)


def make_demo(index: int) -> Demo:
    """Returns an episode of noise."""
    noise = np.random.default_rng(index)
    rows = STEPS + 1
    sizes = {"position": 3, "axis_angle": 3, "gripper": 2, "joints": 7}
    actions = noise.uniform(-1, 1, (STEPS, 7))
    actions[:, 6] = 1.0
    task = f"libero_object/task_{shard_of(index)}"
    states = noise.normal(size=(rows, 9))
    episode = Episode(task, "push", "noise", index, "train", index, states[0], states, actions, np.eye(STEPS)[-1], True)
    images = noise.integers(0, 256, (2, STEPS, SIZE, SIZE, 3), np.uint8)
    robot = RobotState(**{name: noise.normal(size=(rows, size)) for name, size in sizes.items()})
    return Demo(episode, robot, DemoImages(*images))


def shard_of(index: int) -> int:
    """Returns the shard that an episode is in."""
    return int(np.searchsorted(np.cumsum(LENGTHS), index, side="right"))


class Items(Sequence):
    """The episodes as a format takes them, made when they are accessed."""

    def __init__(self, kind: str, pause: float = 0.0):
        self._kind, self._pause = kind, pause

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int):
        time.sleep(self._pause)
        demo = make_demo(index)
        if self._kind == "hdf5":
            return demo
        images = demo.images.agentview, demo.images.eye_in_hand
        return pair_episode(demo.episode, demo.robot, *images, episode_name(demo.episode))


def make_format(kind: str) -> Format:
    """Returns the format for these episodes."""
    if kind != "hdf5":
        return encoded_format(kind, ["push"])
    tasks = [f"libero_object/task_{shard}" for shard in range(len(LENGTHS))]
    return Hdf5Format(tasks, lambda task: DemoFileInfo("Libero_X", f"{task}.bddl", "x", "<mujoco/>"))


def export(kind: str, folder: Path, pause: float = 0.0) -> Path:
    """Writes the dataset, or finishes it."""
    return write_dataset(
        folder, NAME, Items(kind, pause), make_format(kind), lengths=LENGTHS, size=SIZE, fingerprint="noise"
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def kill_and_finish(kind: str, folder: Path, moments: int) -> dict[str, object]:
    """Kills writers of one format at random moments, lets others finish, and compares the results.

    Returns:
      `different`: moments after which files differ from those of an uninterrupted run, and which, `unfinished`: the
      number of moments at which the dataset was not complete, `files`: the number of its files.
    """
    start = time.monotonic()
    assert os.waitpid(_fork(lambda: export(kind, folder / "whole", PAUSE)), 0)[1] == 0
    longest = time.monotonic() - start
    expected, different, unfinished = contents(folder / "whole"), [], 0
    for moment in range(moments):
        seconds = random.Random(f"{kind} {moment}").uniform(0.0, longest)
        killed = folder / f"killed-{moment}"
        _kill_after(kind, killed, seconds)
        unfinished += not (make_format(kind).folder(killed, NAME, "1.0.0")).exists()
        status = os.waitpid(_fork(lambda at=killed: export(kind, at)), 0)[1]
        found = contents(killed) if status == 0 else {}
        if found != expected:
            names = sorted(name for name in expected | found if expected.get(name) != found.get(name))
            different.append(f"after {seconds:.3f} s, status {status}: {', '.join(map(str, names))}")
    return {"different": different, "unfinished": unfinished, "files": len(expected)}


def _fork(work) -> int:
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child


def _kill_after(kind: str, folder: Path, seconds: float) -> None:
    child = _fork(lambda: export(kind, folder, PAUSE))
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main(folder: Path, moments: dict[str, int]) -> None:
    """Prints the result of `kill_and_finish` for each format."""
    with tempfile.TemporaryDirectory() as unused:
        open_dataset(export("rlds", Path(unused)))  # imports all that is imported late, and starts no thread
    print(json.dumps({kind: kill_and_finish(kind, folder / kind, count) for kind, count in moments.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), {kind: int(count) for kind, count in (pair.split("=") for pair in sys.argv[2:])})
