"""LeRobot datasets of others, 2.0 to 3.0: the same files, found by their own descriptions in `meta/`.

Of the cameras one is the fixed one and one that at the hand, by their names. How wide states and actions are, and what
their numbers are called, is what `info.json` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError, first_line
from rlgen.core.foreign.json_parts import LARGEST_INTEGER, JsonPart, open_json
from rlgen.core.types import LIBERO, Robot
from rlgen.data.episode import WIDTHS, DatasetEpisode, width_error
from rlgen.data.formats.cameras import CAMERAS, choose_cameras
from rlgen.data.formats.lerobot.meta import DATA_PATH, VIDEO_PATH
from rlgen.data.formats.lerobot.table import LEROBOT, Footers, floats_of, images_of, read_rows, read_table
from rlgen.data.formats.lerobot.v2_episodes import is_version_2, read_episodes
from rlgen.data.formats.lerobot.v21_meta import DATA_PATH as V21_DATA_PATH
from rlgen.data.formats.lerobot.v21_meta import VIDEO_PATH as V21_VIDEO_PATH
from rlgen.data.formats.lerobot.video_frames import VideoFrames, VideoReader
from rlgen.data.images import LARGEST_SIDE, EncodedFrames, FrameSequence, image_size
from rlgen.data.index import IndexedDataset, IndexEntry, damaged_record
from rlgen.data.shards import MOST_STEPS

LEROBOT_INFO = "meta/info.json"
_ADVICE = "fetch the dataset again"
# Names of the columns by our names, as published datasets have them.
_COLUMNS = {
    "state": ("observation.state", "state"),
    "joint_state": ("joint_state", "observation.joint_state"),
    "action": ("action", "actions"),
}
_MOST_NUMBERS, _LONGEST_NAME = 1024, 200
_KEY = re.compile(r"[\w.-]+")
_VERSION = re.compile(r"v3\.\d+")


@dataclass(frozen=True)
class CameraColumn:
    """The column of a camera.

    Attributes:
      key: name of its column.
      size: height and width, pixels.
      is_video: whether its images are in videos, and not in the tables.
    """

    key: str
    size: tuple[int, int]
    is_video: bool


@dataclass(frozen=True)
class LeRobotSchema:
    """The content of `info.json`.

    Attributes:
      fps: frames a second.
      columns: of `WIDTHS`, their names in the dataset, for those that it has.
      cameras: of `image` and `wrist_image`, those that it has.
      robot: widths and names of the columns.
    """

    fps: float
    columns: dict[str, str]
    cameras: dict[str, CameraColumn]
    robot: Robot


@dataclass(frozen=True)
class Placement:
    """The place of an episode.

    Attributes:
      first_row: index of its first row in its table.
      videos: for each camera with videos the path of its file, and the index of the first image in it.
      is_alone: whether its table has no other rows.
    """

    first_row: int
    videos: dict[str, tuple[str, int]]
    is_alone: bool = False


@dataclass(frozen=True)
class ForeignLeRobotDataset(IndexedDataset):
    """Episodes of a LeRobot dataset that others wrote.

    Attributes:
      schema: of the dataset.
      placements: along `entries`.
    """

    format = LEROBOT
    noun = "a LeRobot dataset"
    schema: LeRobotSchema = field(kw_only=True)
    placements: list[Placement] = field(kw_only=True)

    @property
    def robot(self) -> Robot:
        """Returns the robot of `info.json`."""
        return self.schema.robot

    def read_episode(self, index: int) -> DatasetEpisode:
        """Reads the rows of an episode, and finds its images."""
        import pyarrow

        entry, place = self.entries[index], self.placements[index]
        path, schema = self.directory / entry.file, self.schema
        stored = [camera.key for camera in schema.cameras.values() if not camera.is_video]
        wanted = [*schema.columns.values(), *stored, "episode_index"]
        try:
            table = read_rows(path, place.first_row, entry.steps, wanted, self._footers)
            if place.is_alone and self._footers[path].num_rows != entry.steps:
                raise ValueError(f"the file has {self._footers[path].num_rows} rows, not {entry.steps}")
            numbers = set(table["episode_index"].to_pylist())
            if numbers != {entry.record}:
                raise ValueError(f"its rows are of episodes {sorted(map(str, numbers))[:3]}")
            columns = {name: floats_of(table, key) for name, key in schema.columns.items()}
            images = {name: self._images(table, camera, place) for name, camera in schema.cameras.items()}
        except UserError:
            raise
        except (OSError, pyarrow.ArrowException, LookupError, TypeError, ValueError) as error:
            raise damaged_record(path, entry.record, entry.name, first_line(error)) from error
        return DatasetEpisode(
            **{**dict.fromkeys(CAMERAS), **images},
            **{**dict.fromkeys(WIDTHS), **columns},
            language_instruction=entry.prompt,
            file_path=entry.name,
        )

    def _images(self, table: Any, camera: CameraColumn, place: Placement) -> FrameSequence:
        if not camera.is_video:
            data = images_of(table, camera.key)
            return EncodedFrames(data, image_size(data[0]))
        file, first = place.videos[camera.key]
        return VideoFrames(self._reader, self.directory / file, first, len(table), camera.size)

    @cached_property
    def _footers(self) -> Footers:
        return {}

    @cached_property
    def _reader(self) -> VideoReader:
        return VideoReader(self.schema.fps)


def read_foreign_lerobot(directory: Path, *, any_robot: bool = False) -> ForeignLeRobotDataset:
    """Opens a LeRobot 2.0, 2.1 or 3.0 dataset that others wrote.

    Args:
      directory: of the dataset.
      any_robot: whether states and actions may have other widths than those of LIBERO's robot.

    Raises:
      UserError: another version, cameras or widths that are not LIBERO's, or descriptions that are damaged or
        contradict each other.
    """
    schema = read_schema(directory, any_robot=any_robot)
    entries, placements = [], []
    for entry, placement in _read_episodes(directory, schema):
        entries.append(entry)
        placements.append(placement)
    size = max(max(camera.size) for camera in schema.cameras.values())
    return ForeignLeRobotDataset(directory, entries, size, schema=schema, placements=placements)


def read_schema(directory: Path, *, any_robot: bool = False) -> LeRobotSchema:
    """Reads `info.json`; arguments as of `read_foreign_lerobot`.

    Raises:
      UserError: as of `read_foreign_lerobot`.
    """
    info = open_json(directory / LEROBOT_INFO, _ADVICE)
    version = info.optional("codebase_version")
    is_old = version is not None and is_version_2(version.text(100))
    if version is None or not (is_old or _VERSION.fullmatch(version.text(100))):
        found = "without a version" if version is None else f"of version {version.text(100)}"
        raise UserError(
            f"{directory}: a LeRobot dataset {found}, of which only versions v2.0, v2.1 and v3.0 can be read; convert "
            "it with lerobot's own scripts"
        )
    paths = (V21_DATA_PATH, V21_VIDEO_PATH) if is_old else (DATA_PATH, VIDEO_PATH)
    for key, expected in zip(("data_path", "video_path"), paths, strict=True):
        template = info.optional(key)
        if template is not None and template.text() != expected:
            raise template.error(repr(expected))
    fps = info.member("fps").number()
    if not 0 < fps <= 1000:
        raise info.member("fps").error("frames a second, from 1 to 1000")
    features = info.member("features").members()
    columns = _find_columns(features, directory)
    robot = _find_robot({name: features[key] for name, key in columns.items()}, any_robot)
    return LeRobotSchema(fps, columns, _find_cameras(features, directory), robot)


def _find_columns(features: Mapping[str, JsonPart], directory: Path) -> dict[str, str]:
    found, path = {}, directory / LEROBOT_INFO
    for name, keys in _COLUMNS.items():
        key = next((key for key in keys if key in features), None)
        if key is None and name != "joint_state":
            raise UserError(f"{path}: features have no {' or '.join(keys)}; convert the dataset first")
        if key is not None:
            found[name] = key
    return found


def _find_robot(columns: Mapping[str, JsonPart], any_robot: bool) -> Robot:
    """Returns the widths of the columns and the names of their numbers."""
    fields: dict[str, Any] = {}
    for name, feature in columns.items():
        where = f"{feature.file}: {feature.place.rpartition('features.')[2]}"
        shape = [part.plain_integer(1, _MOST_NUMBERS) for part in feature.member("shape").elements(10)]
        if len(shape) != 1:
            raise UserError(f"{where} has shape {shape}, expected a vector; convert the dataset first")
        [fields[name]] = shape
        if shape != [WIDTHS[name]] and not any_robot:
            raise width_error(where, shape[0], WIDTHS[name])
        stored = feature.optional("names")
        names = () if stored is None else tuple(_names(stored))
        # One name for several numbers is that of the vector, as converters of public datasets have it.
        if len(names) > 1 and len(names) != shape[0]:
            raise UserError(f"{where} has {len(names)} names for {shape[0]} numbers; correct the file")
        if len(names) == shape[0] and name != "joint_state":
            fields[f"{name}_names"] = names
    return replace(LIBERO, **fields)


def _names(part: JsonPart, depth: int = 3) -> Iterator[str]:
    """Yields the names of a vector's numbers: a list, lists by the name of a group, or positions by name."""
    if depth == 0:
        raise part.error("names, or lists of names by the name of a group")
    if isinstance(part.value, str):
        yield _printable(part.text(_LONGEST_NAME))
    elif isinstance(part.value, list):
        for element in part.elements(_MOST_NUMBERS):
            yield from _names(element, depth - 1)
    elif isinstance(part.value, dict):
        members = part.members(_MOST_NUMBERS)
        positions = {name: each.value for name, each in members.items()}
        if members and all(type(position) is int for position in positions.values()):
            yield from (_printable(name[:_LONGEST_NAME]) for name in sorted(positions, key=positions.__getitem__))
        else:
            for each in members.values():
                yield from _names(each, depth - 1)


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name)


def _find_cameras(features: Mapping[str, JsonPart], directory: Path) -> dict[str, CameraColumn]:
    kinds = {key: str(part.member("dtype").value) for key, part in features.items()}
    cameras = {
        key: CameraColumn(key, _image_size(features[key]), kind == "video")
        for key, kind in kinds.items()
        if kind in ("image", "video") and "depth" not in key.lower()
    }
    for key in cameras:
        if not _KEY.fullmatch(key):
            raise UserError(
                f"{directory / LEROBOT_INFO}: a camera named {key[:100]!r}; expected letters, digits and dots"
            )
    return {name: cameras[key] for name, key in choose_cameras(cameras, str(directory)).items()}


def _image_size(feature: JsonPart) -> tuple[int, int]:
    """Returns height and width of a camera's images, whose channels are the first or the last axis."""
    shape = [part.plain_integer(1, LARGEST_SIDE) for part in feature.member("shape").elements(10)]
    if len(shape) != 3 or 3 not in (shape[0], shape[2]):
        raise feature.member("shape").error("height, width and 3 channels")
    return (shape[0], shape[1]) if shape[2] == 3 else (shape[1], shape[2])


def _read_episodes(directory: Path, schema: LeRobotSchema) -> Iterator[tuple[IndexEntry, Placement]]:
    """Yields entry and placement of each episode that has steps, in the order of `meta/episodes`."""
    import pyarrow

    videos = [camera.key for camera in schema.cameras.values() if camera.is_video]
    if is_version_2(open_json(directory / LEROBOT_INFO, _ADVICE).member("codebase_version").text(100)):
        for entry, files in read_episodes(directory, videos, _ADVICE):
            yield entry, Placement(0, files, is_alone=True)
        return
    integers = ["episode_index", "length", "dataset_from_index", "data/chunk_index", "data/file_index"]
    integers += [f"videos/{key}/{part}" for key in videos for part in ("chunk_index", "file_index")]
    times = [f"videos/{key}/from_timestamp" for key in videos]
    paths = sorted((directory / "meta/episodes").glob("chunk-*/file-*.parquet"))
    if not paths:
        raise UserError(f"{directory}: no meta/episodes/chunk-000/file-000.parquet; {_ADVICE}")
    first_rows: dict[str, int] = {}  # index in the dataset of the first row of each table
    for path in paths:
        try:
            for row in read_table(path, [*integers, *times, "tasks"]).to_pylist():
                _check_row(row, integers, times)
                if row["length"]:
                    file = _path(DATA_PATH, row, "data")
                    first = row["dataset_from_index"] - first_rows.setdefault(file, row["dataset_from_index"])
                    name = f"{directory.absolute().name}/{row['episode_index']}"
                    entry = IndexEntry(file, row["episode_index"], name, row["tasks"][0], row["length"])
                    yield entry, Placement(first, {key: _find_video(row, key, schema.fps) for key in videos})
        except (OSError, pyarrow.ArrowException, LookupError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not readable, {first_line(error)}; {_ADVICE}") from error


def _check_row(row: Mapping[str, Any], integers: list[str], times: list[str]) -> None:
    """Raises `ValueError` where the row of an episode has something else than indices, times and a prompt."""
    for key in integers:
        if type(row[key]) is not int or not 0 <= row[key] < (MOST_STEPS if key == "length" else LARGEST_INTEGER):
            raise ValueError(f"{key} is {row[key]!r}")
    for key in times:
        if type(row[key]) is not float or not 0 <= row[key] < MOST_STEPS:
            raise ValueError(f"{key} is {row[key]!r}")
    if not row["tasks"] or not isinstance(row["tasks"][0], str):
        raise ValueError(f"episode {row['episode_index']} has no task")


def _find_video(row: Mapping[str, Any], key: str, fps: float) -> tuple[str, int]:
    """Returns the path of the video of a camera, and the index of the episode's first image in it."""
    return _path(VIDEO_PATH, row, f"videos/{key}", key), round(row[f"videos/{key}/from_timestamp"] * fps)


def _path(template: str, row: Mapping[str, Any], place: str, key: str = "") -> str:
    indices = {name: row[f"{place}/{name}"] for name in ("chunk_index", "file_index")}
    return template.format(**indices, video_key=key)
