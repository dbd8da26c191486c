"""What an RLDS dataset's episodes are about: of which task, and whether this project exported them."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import Episode, RobotState
from rlgen.data.episode import DatasetEpisode, check_actions
from rlgen.data.formats.hdf5.layout import Demo, DemoImages
from rlgen.data.formats.hdf5.writer import stream_demos
from rlgen.data.formats.rlds.reader import RldsDataset, read_rlds
from rlgen.data.images import rotate_180
from rlgen.demos.imports.hdf5 import write_successes
from rlgen.demos.imports.options import Options, SceneOf
from rlgen.demos.imports.record import Imported
from rlgen.demos.imports.sources import Source, task_of
from rlgen.libero.envs.environment import DivergedError
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import map_ahead, replay
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task, all_tasks

_OURS = re.compile(r"(?P<task>[^/]+/[^/]+)/(?P<source>[^/]+)/(?P<split>train|heldout)-(?P<index>\d+)-(?P<seed>\d+)")
_NO_NOOPS = "_no_noops"


@dataclass(frozen=True)
class Origin:
    """Where an episode of ours began.

    Attributes:
      source: who acted.
      split: `train` or `heldout`.
      index: of the initial state in the split.
      seed: of the actor.
    """

    source: str
    split: str
    index: int
    seed: int


def origin_of(episode: DatasetEpisode) -> Origin | None:
    """The initial state that an export of ours names; None for other people's datasets."""
    match = _OURS.fullmatch(episode.file_path)
    return Origin(match["source"], match["split"], int(match["index"]), int(match["seed"])) if match else None


def episode_task(episode: DatasetEpisode, dataset: Path) -> Task:
    """The task of an episode: by the file that it came from, else by its instruction.

    Args:
      episode: of a dataset.
      dataset: its directory, `<suite>_no_noops/1.0.0`; the suite decides where several have the instruction.

    Raises:
      UserError: it is about no task of LIBERO.
    """
    ours = _OURS.fullmatch(episode.file_path)
    suite = dataset.parent.name.removesuffix(_NO_NOOPS)
    path = PurePosixPath(episode.file_path.replace("\\", "/"))
    task = task_of(ours["task"] if ours else "", PurePosixPath(suite) / path.name)
    if task is not None:
        return task
    told = [task for task in all_tasks() if task.prompt == episode.language_instruction.lower()]
    of_suite = [task for task in told if task.suite == suite]
    for found in (told, of_suite):
        if len(found) == 1:
            return found[0]
    raise UserError(
        f"{dataset}: {episode.file_path!r}, {episode.language_instruction!r}: no task of LIBERO that only it can be; "
        "leave the episode out"
    )


# Recorded robot states are rounded to single precision: metres and radians.
SAME_PATH = 1e-5


def episodes_by_task(source: Source, options: Options) -> tuple[dict[Task, list[int]], dict[str, str]]:
    """Numbers of the episodes of each task, and the episodes that cannot be read, with the reason.

    Raises:
      UserError: the dataset cannot be opened, or, without `skip_bad`, an episode cannot be read.
    """
    dataset = read_rlds(source.path)
    tasks: dict[Task, list[int]] = {}
    bad: dict[str, str] = {}
    for number in range(len(dataset)):
        try:
            episode = dataset[number]
            _check(episode, options, f"{source.path}: episode {number}")
            tasks.setdefault(episode_task(episode, source.path), []).append(number)
        except UserError as error:
            if not options.skip_bad:
                raise UserError(f"{error}; --skip-bad keeps the good episodes") from error
            bad[f"episode {number}"] = str(error)
    return tasks, bad


def import_rlds_task(
    source: Source, task: Task, numbers: list[int], out: Path, options: Options, scene_of: SceneOf
) -> Imported:
    """Imports the episodes of one task to `out`.

    Episodes that this project exported name their initial state: they are replayed from it, and kept where the
    robot goes the way that was recorded, so that they have physics states again. Other people's have none to begin
    at, and are written without: robot, actions and pictures.
    """
    dataset, scene = read_rlds(source.path), scene_of(task)
    ours = options.replay and origin_of(dataset[numbers[0]]) is not None
    result = Imported(str(source.path), "", task.id, read=len(numbers), kept=0, physics=ours)
    if ours:
        return _rebuilt(dataset, numbers, out, options, scene, result)
    sums: Counter[str] = Counter()

    def demos() -> Iterator[Demo]:
        for number in numbers[: options.count]:
            demo = _without_physics(dataset[number], task, options)
            sums.update(kept=1, steps=len(demo.episode))
            yield demo

    stream_demos(out, demos(), demo_file_info(scene))
    return replace(result, output=out.name, **sums)


def _rebuilt(
    dataset: RldsDataset, numbers: list[int], out: Path, options: Options, scene: Scene, result: Imported
) -> Imported:
    failed: dict[str, str] = {}
    sums: Counter[str] = Counter()

    def work(number: int) -> Episode | str:
        episode = dataset[number]
        return _rebuild(scene, episode, origin_of(episode), options)

    def kept() -> Iterator[Episode]:
        for number, episode in zip(numbers, map_ahead(work, numbers, options.threads), strict=False):
            if isinstance(episode, str):
                failed[f"episode {number}"] = episode
                continue
            sums.update(kept=1, steps=len(episode))
            yield episode

    written = write_successes(out, scene, islice(kept(), options.count), demo_file_info(scene), options)
    return replace(result, output=out.name if written else "", failed=failed, **sums)


def _rebuild(scene: Scene, recorded: DatasetEpisode, origin: Origin | None, options: Options) -> Episode | str:
    """The episode with its physics, or why that cannot be had."""
    if origin is None:
        return "it does not name its initial state, unlike the first one"
    initial = scene.initial_states(origin.split)
    if origin.index >= len(initial):
        return f"initial state {origin.index} of {len(initial)} of split {origin.split}"
    actions = _actions(recorded, options)
    try:
        states, rewards = replay(scene, initial[origin.index], actions)
    except DivergedError as error:
        return str(error)
    robot = Observer(scene)(states).robot
    apart = np.abs(robot.vla_state[:-1].astype(np.float32) - recorded.state).max(axis=1)
    if apart.max() > SAME_PATH:
        step = int(np.argmax(apart > SAME_PATH))
        return f"the robot leaves the recorded path at step {step}: other assets, or another MuJoCo"
    if not rewards[-1]:
        return "the goal is not reached"
    return _episode(scene.task, recorded, actions, rewards, states, origin, initial[origin.index])


def _without_physics(recorded: DatasetEpisode, task: Task, options: Options) -> Demo:
    actions = _actions(recorded, options)
    rewards = np.zeros(len(actions), np.float32)
    rewards[-1] = 1  # these datasets keep successes only
    none = np.zeros((len(actions) + 1, 0))
    episode = _episode(task, recorded, actions, rewards, none, Origin("human", "train", -1, -1), none[0])
    state = recorded.state.astype(np.float64)
    robot = RobotState(state[:, :3], state[:, 3:6], state[:, 6:8], recorded.joint_state.astype(np.float64))
    images = (rotate_180(np.asarray(view)) for view in (recorded.image, recorded.wrist_image))
    return Demo(episode, robot, DemoImages(*images))


def _episode(
    task: Task,
    recorded: DatasetEpisode,
    actions: np.ndarray,
    rewards: np.ndarray,
    states: np.ndarray,
    origin: Origin,
    initial_state: np.ndarray,
) -> Episode:
    return Episode(
        task=task.id,
        prompt=task.prompt,
        source=origin.source,
        initial_index=origin.index,
        split=origin.split,
        seed=origin.seed,
        initial_state=initial_state,
        states=states,
        actions=actions,
        rewards=rewards.astype(np.float32),
        success=True,
    )


def _actions(recorded: DatasetEpisode, options: Options) -> np.ndarray:
    return np.clip(recorded.action, -1, 1) if options.clip else np.asarray(recorded.action)


def _check(episode: DatasetEpisode, options: Options, where: str) -> None:
    actions = _actions(episode, options)
    check_actions(actions, f"{where}: action")
    for name, width in (("state", 8), ("joint_state", 7)):
        values = np.asarray(getattr(episode, name))
        if values.shape != (len(actions), width) or not np.isfinite(values).all():
            raise UserError(f"{where}: {name} {values.shape} or a number not finite, expected {(len(actions), width)}")
