"""What an RLDS dataset's episodes are about: of which task, and whether this project exported them."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rlgen.data.rlds import RldsEpisode
from rlgen.errors import UserError
from rlgen.libero.tasks import Task, all_tasks
from rlgen.people.sources import task_of

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


def origin_of(episode: RldsEpisode) -> Origin | None:
    """The initial state that an export of ours names; None for other people's datasets."""
    match = _OURS.fullmatch(episode.file_path)
    return Origin(match["source"], match["split"], int(match["index"]), int(match["seed"])) if match else None


def episode_task(episode: RldsEpisode, dataset: Path) -> Task:
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
