"""LeRobot datasets with videos, and those of others: the same episodes, wherever their rows and frames are."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from dataset_doors import THROUGH
from moving_images import moving_images, psnr

from rlgen.core.errors import UserError
from rlgen.data.card import verify_files
from rlgen.data.dataset import VIDEO_FORMATS, dataset_format, encoded_format, open_dataset
from rlgen.data.frames import DECODED_BYTES, frames_from_episodes, open_frames, read_frames
from rlgen.data.index import read_index
from rlgen.data.loader import Loader, LoaderOptions
from rlgen.data.writer import write_dataset

NAME, SIZE, LENGTHS, SHARDS = "libero_object_no_noops", 64, (5, 8, 6, 4), (3, 1)
CAMERAS = ("observation.images.image", "observation.images.image2")
OURS = ("export.json", "episodes.json")  # without them a dataset is one of others


@pytest.fixture(scope="module")
def episodes(dataset_episode_of):
    """Episodes of two prompts whose images are smooth, as arrays."""
    made = []
    for index, steps in enumerate(LENGTHS):
        images = {name: moving_images(steps, SIZE, 2 * index + k) for k, name in enumerate(("image", "wrist_image"))}
        prompt = "push" if index < 2 else "turn"
        made.append(replace(dataset_episode_of(index, steps, SIZE), **images, language_instruction=prompt))
    return made


def write(folder, episodes, kind, **options):
    format = encoded_format(kind, [episode.language_instruction for episode in episodes])
    options = {"lengths": SHARDS, "size": SIZE, "fingerprint": "x", **options}
    return write_dataset(folder, NAME, episodes, format, **options)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory, episodes):
    folder = tmp_path_factory.mktemp("lerobot")
    return {kind: write(folder, episodes, kind) for kind in (*VIDEO_FORMATS, "lerobot")}


@pytest.fixture(params=[kind for kind in VIDEO_FORMATS if "v21" not in kind])
def video(request, datasets):
    return datasets[request.param]


@pytest.fixture(params=VIDEO_FORMATS)
def any_video(request, datasets):
    return datasets[request.param]


@pytest.fixture
def copy_of(tmp_path):
    return lambda folder: shutil.copytree(folder, tmp_path / "copy")


def test_a_video_has_what_the_table_had(any_video, datasets, episodes):
    read, tables = open_dataset(any_video), open_dataset(datasets["lerobot"])
    assert dataset_format(any_video) in VIDEO_FORMATS and len(read) == len(LENGTHS)
    for got, table, given in zip(read, tables, episodes, strict=True):
        for name in ("state", "joint_state", "action"):
            np.testing.assert_array_equal(getattr(got, name), getattr(given, name))
            np.testing.assert_array_equal(getattr(got, name), getattr(table, name))
        assert (got.language_instruction, got.file_path) == (given.language_instruction, given.file_path)
        for name in ("image", "wrist_image"):
            assert getattr(got, name).shape == getattr(given, name).shape
            assert psnr(getattr(got, name), getattr(given, name)) > 34


def test_descriptions_say_where_each_episode_is_in_the_videos(video):
    info = json.loads((video / "meta/info.json").read_text())
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    for camera in CAMERAS:
        feature = info["features"][camera]
        assert (feature["dtype"], feature["shape"]) == ("video", [SIZE, SIZE, 3])
        said = feature["info"]
        assert (said["video.height"], said["video.width"], said["video.fps"]) == (SIZE, SIZE, 20)
        assert said["video.codec"] == dataset_format(video).removeprefix("lerobot_")
        assert (said["video.pix_fmt"], said["has_audio"], said["is_depth_map"]) == ("yuv420p", False, False)
    rows = parquet.read_table(video / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    starts = (0, 5, 13, 0)
    for row, length, start, file in zip(rows, LENGTHS, starts, (0, 0, 0, 1), strict=True):
        for camera in CAMERAS:
            assert (row[f"videos/{camera}/chunk_index"], row[f"videos/{camera}/file_index"]) == (0, file)
            assert row[f"videos/{camera}/from_timestamp"] == pytest.approx(start / 20)
            assert row[f"videos/{camera}/to_timestamp"] == pytest.approx((start + length) / 20)
        table = parquet.read_table(video / f"data/chunk-000/file-{file:03d}.parquet")
        assert not set(CAMERAS) & set(table.column_names)
    statistics = json.loads((video / "meta/stats.json").read_text())[CAMERAS[0]]
    assert np.shape(statistics["mean"]) == (3, 1, 1) and 0.3 < np.mean(statistics["mean"]) < 0.6


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kind", VIDEO_FORMATS)
def test_threads_and_a_second_time_give_the_same_bytes(tmp_path, datasets, episodes, kind):
    with ThreadPoolExecutor(2) as executor:
        folder = write(tmp_path, episodes, kind, executor=executor)
    assert contents(folder) == contents(datasets[kind])


def test_an_interrupted_shard_begins_again_and_finished_videos_stay(tmp_path, datasets, episodes):
    kind, given = "lerobot_h264", list(episodes)

    class Interrupted(list):
        def __getitem__(self, index):
            if index == 3:
                raise KeyboardInterrupt
            return given[index]

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, Interrupted(given), kind)
    partial = datasets[kind].with_name(".1.0.0.partial")
    partial = tmp_path / partial.relative_to(datasets[kind].parents[2])
    kept = {p: p.stat().st_mtime_ns for p in partial.rglob("*.mp4")}
    assert len(kept) == 2 and not list(partial.rglob("*.part"))

    class Second(list):
        def __getitem__(self, index):
            assert index == 3
            return given[index]

    folder = write(tmp_path, Second(given), kind)
    assert contents(folder) == contents(datasets[kind])
    assert {folder / p.relative_to(partial): time for p, time in kept.items()}.items() <= {
        p: p.stat().st_mtime_ns for p in folder.rglob("*.mp4")
    }.items()


@pytest.mark.parametrize("episode", [0, 2, 3])
def test_videos_that_are_damaged_or_missing_are_one_line(video, copy_of, episode):
    folder = copy_of(video)
    path = folder / "videos" / CAMERAS[1] / "chunk-000" / f"file-{int(episode == 3):03d}.mp4"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"image2/chunk-000/file-00\d\.mp4: not the video that export\.json lists"):
        open_dataset(folder)[episode]
    path.unlink()
    with pytest.raises(UserError, match=r"image2/chunk-000/file-00\d\.mp4: no such video; fetch or export") as caught:
        open_dataset(folder)[episode]
    assert "\n" not in str(caught.value)
    assert open_dataset(folder)[3 if episode < 3 else 0].image.shape[1:] == (SIZE, SIZE, 3)


def test_training_reads_the_same_frames_from_memory_and_from_the_file(any_video, episodes):
    batches = {}
    for limit in (DECODED_BYTES, 0):
        source = frames_from_episodes(list(open_dataset(any_video)), size=32, most=limit)
        loader = Loader(source, LoaderOptions(batch=4, horizon=3, steps=5, workers=2))
        batches[limit] = list(loader)
        assert isinstance(source.image, np.ndarray) == bool(limit)
    for one, two in zip(*batches.values(), strict=True):
        for name in ("image", "wrist_image", "state", "action_chunks"):
            np.testing.assert_array_equal(one[name], two[name])
    batch = read_frames(open_frames(any_video), np.array([22, 0, 13]), 1)
    for row, (episode, step) in enumerate(((3, 3), (0, 0), (2, 0))):
        assert psnr(batch["image"][row], episodes[episode].image[step]) > 33


# Datasets of others -------------------------------------------------------------------------------------------------


def as_of_others(folder):
    """Removes what this project alone writes."""
    for name in OURS:
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize("kind", [*VIDEO_FORMATS, "lerobot"])
def test_a_dataset_of_others_has_the_same_episodes(datasets, copy_of, kind):
    folder = as_of_others(copy_of(datasets[kind]))
    assert dataset_format(folder) == "lerobot"
    for index, (got, own) in enumerate(zip(open_dataset(folder), open_dataset(datasets[kind]), strict=True)):
        for name in ("state", "joint_state", "action", "image", "wrist_image"):
            np.testing.assert_array_equal(np.asarray(getattr(got, name)), np.asarray(getattr(own, name)))
        assert (got.language_instruction, got.file_path) == (own.language_instruction, f"copy/{index}")


def test_rows_are_found_whatever_the_row_groups_are(datasets, copy_of):
    """As `datasets` writes them: groups of a number of rows, whatever the episodes are."""
    folder = as_of_others(copy_of(datasets["lerobot_h264"]))
    for path in (folder / "data").rglob("*.parquet"):
        parquet.write_table(parquet.read_table(path), path, row_group_size=4)
    for got, own in zip(open_dataset(folder), open_dataset(datasets["lerobot_h264"]), strict=True):
        np.testing.assert_array_equal(got.action, own.action)
        np.testing.assert_array_equal(got.state, own.state)


def edit_info(folder, change):
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def rename(old, new):
    def change(info):
        info["features"][new] = info["features"].pop(old)

    return change


def edit_row(key, value):
    def change(folder):
        path = folder / "meta/episodes/chunk-000/file-000.parquet"
        rows = parquet.read_table(path).to_pylist()
        rows[1][key] = value
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)

    return change


def info_of(change):
    return lambda folder: edit_info(folder, change)


REFUSED = {
    "another version": (
        info_of(lambda i: i.update(codebase_version="v4.0")),
        "of version v4.0, of which only versions v2.0, v2.1 and v3.0",
    ),
    "two fixed cameras": (
        info_of(rename(CAMERAS[1], "observation.images.side")),
        "one that is fixed and one at the hand",
    ),
    "no action": (info_of(lambda i: i["features"].pop("action")), "features have no action or actions"),
    "another robot": (
        info_of(lambda i: i["features"]["observation.state"].update(shape=[14])),
        "observation.state has 14 numbers a step, expected 8",
    ),
    "another place": (info_of(lambda i: i.update(data_path="../{chunk_index}.parquet")), "data_path is '../"),
    "no frames a second": (info_of(lambda i: i.update(fps=0)), "fps is 0, expected frames a second"),
    "a camera outside": (info_of(rename(CAMERAS[0], "../../x")), "a camera named '../../x'"),
    "rows of another episode": (edit_row("dataset_from_index", 7), "its rows are of episodes ['1', '2']"),
    "rows behind the end": (edit_row("length", 10**4), "the file has 19 rows, not those from 5 to 10004"),
    "a length of -1": (edit_row("length", -1), "length is -1"),
    "no prompt": (edit_row("tasks", []), "episode 1 has no task"),
    "no time": (edit_row(f"videos/{CAMERAS[0]}/from_timestamp", float("nan")), "from_timestamp is nan"),
    "a time behind the end": (edit_row(f"videos/{CAMERAS[0]}/from_timestamp", 60.0), "frame 1200 cannot be decoded"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(datasets, copy_of, name):
    folder = as_of_others(copy_of(datasets["lerobot_h264"]))
    change, message = REFUSED[name]
    change(folder)
    with pytest.raises(UserError) as caught:
        np.asarray(open_dataset(folder)[1].image)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_names_of_published_datasets_are_known(datasets, copy_of):
    """As openpi's converter and others name the columns; the joints are not there."""
    folder = as_of_others(copy_of(datasets["lerobot"]))
    names = dict(
        zip((*CAMERAS, "observation.state", "action"), ("image", "wrist_image", "state", "actions"), strict=True)
    )
    for old, new in names.items():
        edit_info(folder, rename(old, new))
    edit_info(folder, lambda info: info["features"].pop("joint_state"))
    for path in (folder / "data").rglob("*.parquet"):
        table = parquet.read_table(path).drop_columns(["joint_state", "prompt", "file_path"])
        parquet.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), path)
    got, own = open_dataset(folder)[2], open_dataset(datasets["lerobot"])[2]
    assert got.joint_state is None and got.image.data == own.image.data and got.wrist_image.data == own.wrist_image.data
    np.testing.assert_array_equal(got.action, own.action)


def test_videos_of_others_go_through_every_command(datasets, copy_of, tmp_path):
    folder = as_of_others(copy_of(datasets["lerobot_av1"]))
    for door, go in THROUGH.items():
        go(folder, tmp_path / door)


def test_videos_are_listed_with_their_hashes(datasets):
    folder = datasets["lerobot_av1"]
    assert len(read_index(folder)) == len(LENGTHS)
    listed = {
        entry["file"]: entry["sha256"]
        for shard in json.loads((folder / "export.json").read_text())["finished"]
        for entry in shard["beside"]
    }
    assert len(listed) == 4 and verify_files(folder, {"shards": listed, "descriptions": {}}).keys().isdisjoint(listed)
