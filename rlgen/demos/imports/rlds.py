"""Import of RLDS datasets: exports of this project get their physics states back, others come without physics."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import Episode, FixturePoses, RobotState
from rlgen.data.episode import DatasetEpisode, check_actions, check_complete
from rlgen.data.formats.hdf5.layout import Demo, DemoImages
from rlgen.data.formats.hdf5.writer import stream_demos
from rlgen.data.formats.rlds.reader import RldsDataset, read_rlds
from rlgen.data.images import rotate_180
from rlgen.data.index import read_fixtures
from rlgen.demos.imports.hdf5 import write_successes
from rlgen.demos.imports.manifest import ImportResult
from rlgen.demos.imports.options import ImportOptions, SceneLoader
from rlgen.demos.imports.sources import Source
from rlgen.libero.envs.environment import DivergedError
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import map_ahead, replay
from rlgen.libero.envs.wide_resets import with_split
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task, all_tasks, find_demo_task

# `file_path` of an episode that this project exported.
_EXPORTED = re.compile(
    r"(?P<task>[^/]+/[^/]+)/(?P<source>[^/]+)/(?P<split>train|wide|heldout)-(?P<index>\d+)-(?P<seed>\d+)"
)
_NO_NOOPS = "_no_noops"
# Largest difference of a replayed robot state from the recorded one, metres and radians: those are single precision.
PATH_TOLERANCE = 1e-5


@dataclass(frozen=True)
class EpisodeOrigin:
    """The origin of an episode that this project exported.

    Attributes:
      source: of the actions, such as `scripted` or `ppo`.
      split: `train`, `wide` or `heldout`.
      index: of the initial state in the split.
      seed: of the actor.
    """

    source: str
    split: str
    index: int
    seed: int


HUMAN = EpisodeOrigin("human", "train", -1, -1)


def episode_origin(episode: DatasetEpisode) -> EpisodeOrigin | None:
    """Returns the origin that an export of this project names; None for other datasets."""
    match = _EXPORTED.fullmatch(episode.file_path)
    return EpisodeOrigin(match["source"], match["split"], int(match["index"]), int(match["seed"])) if match else None


def episode_task(episode: DatasetEpisode, dataset: Path) -> Task:
    """Returns the task of an episode: by the file that it came from, else by its instruction.

    Args:
      episode: of a dataset.
      dataset: its directory, `<suite>_no_noops/1.0.0`; the suite decides where several tasks have the instruction.

    Raises:
      UserError: no task of LIBERO, or several.
    """
    exported = _EXPORTED.fullmatch(episode.file_path)
    suite = dataset.parent.name.removesuffix(_NO_NOOPS)
    path = PurePosixPath(episode.file_path.replace("\\", "/"))
    task = find_demo_task(exported["task"] if exported else "", PurePosixPath(suite) / path.name)
    if task is not None:
        return task
    instructed = [task for task in all_tasks() if task.prompt == episode.language_instruction.lower()]
    of_suite = [task for task in instructed if task.suite == suite]
    for found in (instructed, of_suite):
        if len(found) == 1:
            return found[0]
    raise UserError(
        f"{dataset}: {episode.file_path!r}, {episode.language_instruction!r}: no task of LIBERO, or more than one; "
        "leave the episode out"
    )


def episodes_by_task(source: Source, options: ImportOptions) -> tuple[dict[Task, list[int]], dict[str, str]]:
    """Returns the indices of the episodes of each task, and the reason for each episode that cannot be read.

    Raises:
      UserError: the dataset cannot be opened, or, without `skip_bad`, an episode cannot be read.
    """
    dataset = read_rlds(source.path)
    tasks: dict[Task, list[int]] = {}
    bad: dict[str, str] = {}
    for index in range(len(dataset)):
        try:
            episode = dataset[index]
            _check(episode, options, f"{source.path}: episode {index}")
            tasks.setdefault(episode_task(episode, source.path), []).append(index)
        except UserError as error:
            if not options.skip_bad:
                raise UserError(f"{error}; --skip-bad keeps the good episodes") from error
            bad[f"episode {index}"] = str(error)
    return tasks, bad


def import_rlds_task(
    source: Source, task: Task, indices: list[int], out: Path, options: ImportOptions, load_scene: SceneLoader
) -> ImportResult:
    """Imports the episodes of one task to an HDF5 file.

    Episodes that this project exported name their initial state: they are replayed from it, and kept where the robot
    follows the recorded path, so that they have physics states again. Others name none, and are written with robot
    states, actions and images only.

    Args:
      source: an RLDS dataset.
      task: of the episodes.
      indices: of the episodes in the dataset.
      out: file to write.
      options: of the import.
      load_scene: loads the scene of a task.
    """
    dataset, scene = read_rlds(source.path), load_scene(task)
    exported = options.replay and episode_origin(dataset[indices[0]]) is not None
    result = ImportResult(str(source.path), "", task.id, read=len(indices), kept=0, physics=exported)
    if exported:
        return _import_replayed(dataset, indices, out, options, scene, result)
    sums: Counter[str] = Counter()

    def demos() -> Iterator[Demo]:
        for index in indices[: options.episodes]:
            demo = _demo_without_physics(dataset[index], task, options)
            sums.update(kept=1, steps=len(demo.episode))
            yield demo

    stream_demos(out, demos(), demo_file_info(scene))
    return replace(result, output=out.name, **sums)


def _import_replayed(
    dataset: RldsDataset, indices: list[int], out: Path, options: ImportOptions, scene: Scene, result: ImportResult
) -> ImportResult:
    failed: dict[str, str] = {}
    sums: Counter[str] = Counter()
    fixtures = read_fixtures(dataset.directory, len(dataset))

    def replayed(index: int) -> Episode | str:
        episode = dataset[index]
        return _replay_episode(scene, episode, episode_origin(episode), options, fixtures[index])

    def successes() -> Iterator[Episode]:
        for index, episode in zip(indices, map_ahead(replayed, indices, options.threads), strict=False):
            if isinstance(episode, str):
                failed[f"episode {index}"] = episode
                continue
            sums.update(kept=1, steps=len(episode))
            yield episode

    written = write_successes(out, scene, islice(successes(), options.episodes), demo_file_info(scene), options)
    return replace(result, output=out.name if written else "", failed=failed, **sums)


def _replay_episode(
    scene: Scene,
    recorded: DatasetEpisode,
    origin: EpisodeOrigin | None,
    options: ImportOptions,
    fixtures: FixturePoses | None,
) -> Episode | str:
    """Returns the episode with its physics states, or the reason why it has none."""
    if origin is None:
        return "it does not name its initial state, unlike the first one"
    initial = with_split(scene, origin.split).initial_states(origin.split)
    if origin.index >= len(initial):
        return f"initial state {origin.index} of {len(initial)} of split {origin.split}"
    actions = _actions(recorded, options)
    try:
        states, rewards = replay(scene.placed(fixtures), initial[origin.index], actions)
    except DivergedError as error:
        return str(error)
    robot = Observer(scene)(states).robot
    difference = np.abs(robot.vla_state[:-1].astype(np.float32) - recorded.state).max(axis=1)
    if difference.max() > PATH_TOLERANCE:
        step = int(np.argmax(difference > PATH_TOLERANCE))
        return f"the robot leaves the recorded path at step {step}: other assets, or another MuJoCo"
    if not rewards[-1]:
        return "the goal is not reached"
    episode = _episode(scene.task, recorded, actions, rewards, states, origin, initial[origin.index])
    return replace(episode, fixtures=fixtures)


def _demo_without_physics(recorded: DatasetEpisode, task: Task, options: ImportOptions) -> Demo:
    actions = _actions(recorded, options)
    rewards = np.zeros(len(actions), np.float32)
    rewards[-1] = 1  # these datasets keep successes only
    no_states = np.zeros((len(actions) + 1, 0))
    episode = _episode(task, recorded, actions, rewards, no_states, HUMAN, no_states[0])
    state = recorded.state.astype(np.float64)
    robot = RobotState(state[:, :3], state[:, 3:6], state[:, 6:8], recorded.joint_state.astype(np.float64))
    images = (rotate_180(np.asarray(frames)) for frames in (recorded.image, recorded.wrist_image))
    return Demo(episode, robot, DemoImages(*images))


def _episode(
    task: Task,
    recorded: DatasetEpisode,
    actions: np.ndarray,
    rewards: np.ndarray,
    states: np.ndarray,
    origin: EpisodeOrigin,
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


def _actions(recorded: DatasetEpisode, options: ImportOptions) -> np.ndarray:
    return np.clip(recorded.action, -1, 1) if options.clip else np.asarray(recorded.action)


def _check(episode: DatasetEpisode, options: ImportOptions, where: str) -> None:
    check_actions(_actions(episode, options), f"{where}: action")
    check_complete(episode, where)
