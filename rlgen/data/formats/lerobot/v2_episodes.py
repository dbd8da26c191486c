"""The places of the episodes of others' LeRobot 2.0 and 2.1 datasets: a table and videos for each, by its index."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.core.foreign.json_parts import JsonPart, open_json, open_json_lines
from rlgen.data.formats.lerobot.v21_meta import EPISODES, INFO, episode_path, video_path
from rlgen.data.index import IndexEntry
from rlgen.data.shards import MOST_EPISODES, MOST_STEPS

Videos = dict[str, tuple[str, int]]
"""For each camera with videos the path of its file, and the index of the first image in it."""


def is_version_2(version: str) -> bool:
    """Returns whether a version of LeRobot's format, such as `v2.1`, has a file for each episode."""
    return version in ("v2.0", "v2.1")


def read_episodes(directory: Path, cameras: Sequence[str], advice: str) -> Iterator[tuple[IndexEntry, Videos]]:
    """Yields each episode that has steps, in the order of their indices.

    Args:
      directory: of the dataset.
      cameras: names of those whose images are in videos.
      advice: end of a message: what to do where a file is damaged.

    Raises:
      UserError: the list of episodes is damaged, or names one twice.
    """
    chunk = open_json(directory / INFO, advice).member("chunks_size").plain_integer(1, MOST_EPISODES)
    found: dict[int, JsonPart] = {}
    for row in open_json_lines(directory / EPISODES, advice).elements(MOST_EPISODES):
        index = row.member("episode_index")
        if index.plain_integer(0, MOST_EPISODES) in found:
            raise index.error("an episode that is not there yet")
        found[index.value] = row
    if not found:
        raise UserError(f"{directory / EPISODES}: no episodes; {advice}")
    for index in sorted(found):
        steps = found[index].member("length").plain_integer(0, MOST_STEPS)
        tasks = found[index].member("tasks")
        if not tasks.elements(MOST_STEPS):
            raise tasks.error("a list with a task")
        if steps:
            name = f"{directory.absolute().name}/{index}"
            entry = IndexEntry(episode_path(index, chunk), index, name, tasks.elements(MOST_STEPS)[0].text(), steps)
            yield entry, {key: (video_path(index, key, chunk), 0) for key in cameras}
