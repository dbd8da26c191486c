"""Small good data of every kind, of noise, to be damaged."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from rlgen.configs.schema import Config
from rlgen.core.types import Episode, RobotState
from rlgen.data.card import HEADINGS, write_card
from rlgen.data.dataset import encoded_format, open_dataset
from rlgen.data.episode import pair_episode, save_episode
from rlgen.data.formats.hdf5.format import Hdf5Format, episode_name
from rlgen.data.formats.hdf5.layout import Demo, DemoFileInfo, DemoImages
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.data.index import INDEX, write_starts
from rlgen.data.metrics.quality import dataset_quality
from rlgen.data.shards import MANIFEST
from rlgen.data.writer import write_dataset
from rlgen.training.run import create_run

NAME, PROMPT, TASK, SIZE, STEPS = "libero_object_no_noops", "push", "libero_object/push", 16, 3
LENGTHS = (2, 1)
_OWN = ("name", "format", "episodes", "steps", "picture_size", "shards", "descriptions")
_INFO = DemoFileInfo("Libero_X", f"{TASK}.bddl", PROMPT, "<mujoco/>" * 100)


def make_demo(index: int) -> Demo:
    """Returns a demonstration of noise."""
    random = np.random.default_rng(index)
    actions = random.uniform(-1, 1, (STEPS, 7))
    actions[:, 6] = 1.0
    states = random.normal(size=(STEPS + 1, 9))
    rewards = np.eye(STEPS)[-1]
    episode = Episode(TASK, PROMPT, "scripted", index, "train", index, states[0], states, actions, rewards, True)
    robot = RobotState(*(random.normal(size=(STEPS + 1, size)) for size in (3, 3, 2, 7)))
    images = random.integers(0, 256, (2, STEPS, SIZE, SIZE, 3), np.uint8)
    return Demo(episode, robot, DemoImages(*images))


def make_dataset(folder: Path, kind: str) -> Path:
    """Writes a dataset with its card, and returns its folder.

    Args:
      folder: for datasets.
      kind: one of `rlgen.data.dataset.FORMATS` or `VIDEO_FORMATS`.
    """
    demos = [make_demo(index) for index in range(sum(LENGTHS))]

    def finish(folder: Path) -> None:
        write_starts(folder, [demo.episode.initial_state for demo in demos])
        facts = {key: f"about {key}" for key in HEADINGS if key not in _OWN}
        facts["replay"] = {"how": "replayed", "succeeded": len(demos), "exported": len(demos)}
        write_card(folder, facts | {"quality": dataset_quality(open_dataset(folder)).summary()})

    pairs = [_pair(demo) for demo in demos]
    encoded = kind != "hdf5"
    return write_dataset(
        folder,
        NAME,
        pairs if encoded else demos,
        encoded_format(kind, [PROMPT]) if encoded else Hdf5Format([TASK], lambda task: _INFO),
        lengths=LENGTHS if encoded else [len(demos)],
        size=SIZE,
        fingerprint="noise",
        finish=finish,
    )


def make_foreign(folder: Path) -> Path:
    """Writes an RLDS dataset without index, manifest and card, as others write it."""
    at = make_dataset(folder, "rlds")
    for path in at.iterdir():
        if "tfrecord" not in path.name and path.name not in ("dataset_info.json", "features.json"):
            path.unlink()
    assert not (at / INDEX).exists() and not (at / MANIFEST).exists()
    return at


def make_foreign_lerobot(folder: Path, kind: str) -> Path:
    """Writes a LeRobot dataset with nothing but LeRobot's own files, as others write it."""
    at = make_dataset(folder, kind)
    for path in at.iterdir():
        if path.is_file():
            path.unlink()
    return at


def make_episode(folder: Path) -> Path:
    """Writes a recorded episode."""
    path = folder / "episode.npz"
    save_episode(path, make_demo(0).episode)
    return path


def make_run(folder: Path) -> Path:
    """Writes the directory of a run with two finished stages."""
    run = create_run(folder / "run", Config(), {"kind": "placeholder", "path": None, "label": "x"})
    for stage, result in (("demos", {"episodes": 4}), ("collect", {"episodes": 2, "tried": 3})):
        run.stage_folder(stage)
        run.finish(stage, result)
    (run.folder / "demos/clock.json").write_text('{"seconds": 1.5}')
    return run.folder


def make_demos(folder: Path) -> Path:
    """Writes an HDF5 file of demonstrations."""
    demos = [make_demo(index) for index in range(sum(LENGTHS))]
    path = folder / "push_demo.hdf5"
    write_demos(path, [demo.episode for demo in demos], [demo.robot for demo in demos], _INFO)
    return path


def make_foreign_hdf5(folder: Path) -> Path:
    """Writes demonstrations with images in LIBERO's layout, without what this project alone writes."""
    demos = [make_demo(index) for index in range(sum(LENGTHS))]
    episodes, robots, images = ([getattr(demo, name) for demo in demos] for name in ("episode", "robot", "images"))
    path = folder / "theirs" / "push_demo.hdf5"
    path.parent.mkdir(parents=True)
    write_demos(path, episodes, robots, _INFO, images)
    with h5py.File(path, "r+") as file:

        def strip(_: str, part: h5py.Group | h5py.Dataset) -> None:
            for key in [key for key in part.attrs if key.startswith("rlgen")]:
                del part.attrs[key]

        file.visititems(strip)
    return path.parent


# Each kind of data: the kind of its doors, whether its contents have hashes, and how it is made.
SOURCES: dict[str, tuple[str, bool, Callable[[Path], Path]]] = {
    "RLDS": ("dataset", True, lambda folder: make_dataset(folder, "rlds")),
    "RLDS of others": ("foreign", False, make_foreign),
    "array_record": ("dataset", True, lambda folder: make_dataset(folder, "array_record")),
    "LeRobot": ("dataset", True, lambda folder: make_dataset(folder, "lerobot")),
    "LeRobot 2.1": ("dataset", True, lambda folder: make_dataset(folder, "lerobot_v21")),
    "LeRobot with videos": ("dataset", True, lambda folder: make_dataset(folder, "lerobot_h264")),
    "LeRobot 2.1 with videos": ("dataset", True, lambda folder: make_dataset(folder, "lerobot_v21_h264")),
    "LeRobot of others": ("foreign", False, lambda folder: make_foreign_lerobot(folder, "lerobot_h264")),
    "LeRobot 2.1 of others": ("foreign", False, lambda folder: make_foreign_lerobot(folder, "lerobot_v21")),
    "HDF5": ("dataset", True, lambda folder: make_dataset(folder, "hdf5")),
    "HDF5 of others": ("foreign", False, make_foreign_hdf5),
    "HDF5 of demonstrations": ("demos", True, make_demos),
    "episode (NPZ)": ("episode", False, make_episode),
    "run (JSON)": ("run", False, make_run),
}


def _pair(demo: Demo):
    images = (demo.images.agentview, demo.images.eye_in_hand)
    return pair_episode(demo.episode, demo.robot, *images, episode_name(demo.episode))
