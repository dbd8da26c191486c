"""LeRobot 2.1: what its readers look up in datasets of ours, and datasets of others, with images and with videos."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as parquet
import pytest
from dataset_doors import THROUGH
from moving_images import moving_images, psnr

from rlgen.core.errors import UserError
from rlgen.data.card import verify_files
from rlgen.data.dataset import VIDEO_FORMATS, dataset_format, encoded_format, open_dataset
from rlgen.data.formats.lerobot.v21 import LeRobotV21Format
from rlgen.data.formats.lerobot.video import H264, encode_video
from rlgen.data.index import read_index
from rlgen.data.shards import read_manifest
from rlgen.data.writer import write_dataset

NAME, SIZE, LENGTHS, SHARDS = "libero_object_no_noops", 64, (5, 8, 6, 4), (3, 1)
PROMPTS = ("push", "push", "turn", "push")
FILES = [f"data/chunk-000/episode_00000{index}.parquet" for index in range(4)]


@pytest.fixture(scope="module")
def episodes(dataset_episode_of):
    """Episodes of two prompts whose images are smooth, as arrays."""
    made = []
    for index, steps in enumerate(LENGTHS):
        images = {name: moving_images(steps, SIZE, 2 * index + k) for k, name in enumerate(("image", "wrist_image"))}
        episode = dataset_episode_of(index, steps, SIZE)
        made.append(replace(episode, **images, language_instruction=PROMPTS[index]))
    return made


def write(folder, episodes, kind="lerobot_v21"):
    format = encoded_format(kind, PROMPTS)
    return write_dataset(folder, NAME, episodes, format, lengths=SHARDS, size=SIZE, fingerprint="x")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, episodes):
    return write(tmp_path_factory.mktemp("v21"), episodes)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_step_is_where_lerobot_looks_for_it(dataset, episodes):
    info = json.loads((dataset / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["chunks_size"]) == ("v2.1", 10, 1000)
    assert (info["total_episodes"], info["total_frames"], info["total_chunks"]) == (4, sum(LENGTHS), 1)
    assert {"image", "wrist_image", "state", "actions"} <= set(info["features"])
    prompts = {line["task_index"]: line["task"] for line in lines(dataset / "meta/tasks.jsonl")}
    assert prompts == {0: "push", 1: "turn"}
    first = 0
    for index, (line, episode) in enumerate(zip(lines(dataset / "meta/episodes.jsonl"), episodes, strict=True)):
        steps = len(episode)
        assert line == {"episode_index": index, "tasks": [PROMPTS[index]], "length": steps}
        path = dataset / info["data_path"].format(episode_chunk=index // info["chunks_size"], episode_index=index)
        table = parquet.read_table(path)
        assert table.column_names == list(info["features"])
        rows = table.to_pylist()
        assert [row["index"] for row in rows] == list(range(first, first + steps))
        assert [row["frame_index"] for row in rows] == list(range(steps))
        assert {(row["episode_index"], prompts[row["task_index"]]) for row in rows} == {(index, PROMPTS[index])}
        np.testing.assert_allclose([row["timestamp"] for row in rows], np.arange(steps) / 10, atol=1e-6)
        np.testing.assert_array_equal([row["actions"] for row in rows], episode.action)
        np.testing.assert_array_equal([row["state"] for row in rows], episode.state)
        first += steps
    assert first == info["total_frames"]


def test_columns_are_described_in_words_that_old_readers_know(dataset):
    """`datasets` before version 4 has no `List`."""
    described = json.loads(parquet.read_schema(dataset / FILES[0]).metadata[b"huggingface"])["info"]["features"]
    assert described["image"] == {"_type": "Image"}
    number = {"dtype": "float32", "_type": "Value"}
    assert described["actions"] == {"feature": number, "length": 7, "_type": "Sequence"}
    assert set(described) == set(parquet.read_schema(dataset / FILES[0]).names)


def test_statistics_of_an_episode_have_the_shapes_that_lerobot_asserts(dataset, episodes):
    features = json.loads((dataset / "meta/info.json").read_text())["features"]
    for index, line in enumerate(lines(dataset / "meta/episodes_stats.jsonl")):
        statistics, episode = line["stats"], episodes[index]
        assert line["episode_index"] == index
        assert set(statistics) == {key for key, feature in features.items() if feature["dtype"] != "string"}
        for key, of in statistics.items():
            assert set(of) == {"min", "max", "mean", "std", "count"}
            shape = (3, 1, 1) if "image" in key else tuple(features[key]["shape"])
            assert all(np.shape(of[name]) == shape for name in ("min", "max", "mean", "std"))
            assert of["count"] == [4 if "image" in key else len(episode)]
        for name in ("min", "max", "mean", "std"):
            np.testing.assert_allclose(statistics["actions"][name], getattr(episode.action, name)(0), atol=1e-6)
        assert statistics["frame_index"]["max"] == [len(episode) - 1]
        shown = np.asarray(episode.image)[np.linspace(0, len(episode) - 1, 4).astype(int)] / 255
        np.testing.assert_allclose(np.ravel(statistics["image"]["mean"]), shown.mean((0, 1, 2)), atol=0.01)


@pytest.fixture(scope="module", params=[kind for kind in VIDEO_FORMATS if "v21" in kind])
def video(request, tmp_path_factory, episodes):
    return write(tmp_path_factory.mktemp("video"), episodes, request.param)


def test_every_episode_has_a_video_of_each_camera_where_lerobot_looks_for_it(video, dataset, episodes):
    av = pytest.importorskip("av")
    info, tables = (json.loads((folder / "meta/info.json").read_text()) for folder in (video, dataset))
    assert (info["total_videos"], tables["total_videos"], tables["video_path"]) == (2 * len(LENGTHS), 0, None)
    for index, episode in enumerate(episodes):
        place = {"episode_chunk": index // info["chunks_size"], "episode_index": index}
        table = parquet.read_table(video / info["data_path"].format(**place))
        assert set(info["features"]) - set(table.column_names) == {"image", "wrist_image"}
        assert "Image" not in table.schema.metadata[b"huggingface"].decode()
        for key in ("image", "wrist_image"):
            with av.open(str(video / info["video_path"].format(video_key=key, **place))) as container:
                times = [frame.time for frame in container.decode(video=0)]
            # lerobot looks for a frame by the time of its row.
            np.testing.assert_allclose(times, table["timestamp"].to_numpy(), atol=1e-6)
            assert len(times) == len(episode)
    for key in ("image", "wrist_image"):
        feature = info["features"][key]
        said = feature.pop("info")
        assert feature == {**tables["features"][key], "dtype": "video"}
        assert (said["video.height"], said["video.width"], said["video.fps"]) == (SIZE, SIZE, info["fps"])
        assert dataset_format(video) == f"lerobot_v21_{said['video.codec']}"


def test_statistics_of_videos_are_nearly_those_of_the_images(video, dataset):
    pairs = zip(*(lines(folder / "meta/episodes_stats.jsonl") for folder in (video, dataset)), strict=True)
    for one, other in pairs:
        for key in ("image", "wrist_image"):
            given, expected = (line["stats"].pop(key) for line in (one, other))
            assert given["count"] == [4] and np.shape(given["std"]) == (3, 1, 1)
            np.testing.assert_allclose(given["mean"], expected["mean"], atol=0.02)
        assert one == other


def test_a_video_that_is_damaged_or_missing_is_named(video, tmp_path):
    copy = shutil.copytree(video, tmp_path / "copy")
    path = copy / "videos/chunk-000/wrist_image/episode_000002.mp4"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"wrist_image/episode_000002\.mp4: not the video that export\.json lists"):
        open_dataset(copy)[2]
    path.unlink()
    with pytest.raises(UserError, match=r"wrist_image/episode_000002\.mp4: no such video; fetch or export"):
        open_dataset(copy)[2]
    assert len(np.asarray(open_dataset(copy)[3].wrist_image)) == LENGTHS[3]


@pytest.mark.unit
def test_a_folder_has_a_thousand_episodes():
    files = LeRobotV21Format(PROMPTS).files(NAME, [999, 1, 1, 1000, 1])
    assert [file.removeprefix("data/").removesuffix(".parquet") for file in files] == [
        "chunk-000/episode_000000",
        "chunk-000/episode_000999",
        "chunk-001/episode_001000",
        "chunk-001/episode_001001",
        "chunk-002/episode_002001",
    ]


def test_files_of_a_shard_are_listed_with_their_hashes(dataset, tmp_path):
    shards = read_manifest(dataset)[1]
    assert [list(shard.hashes) for shard in shards] == [FILES[:3], FILES[3:]]
    assert [(entry.file, entry.record) for entry in read_index(dataset)] == [(file, 0) for file in FILES]
    listed = {file: sha256 for shard in shards for file, sha256 in shard.hashes.items()}
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / FILES[1]).write_bytes(b"PAR1")
    found = verify_files(copy, {"shards": listed, "descriptions": {}})
    assert {file: found[file] for file in listed if file in found} == {FILES[1]: "altered"}
    with pytest.raises(UserError, match=r"episode_000001\.parquet: record 0 is damaged \(episode episodes/0001"):
        open_dataset(copy)[1]


def test_images_of_another_format_keep_their_bytes(dataset, tmp_path):
    tables = write(tmp_path / "three", open_dataset(dataset), "lerobot")
    again = write(tmp_path / "two", open_dataset(tables))
    for file in (*FILES, "meta/info.json", "meta/episodes.jsonl", "meta/episodes_stats.jsonl", "episodes.json"):
        assert (again / file).read_bytes() == (dataset / file).read_bytes()


@pytest.mark.parametrize("count", [0, 2, 3])
def test_too_few_episodes_are_told(episodes, tmp_path, count):
    with pytest.raises(UserError, match=f"the episodes end at {count} of 4"):
        write(tmp_path, iter(episodes[:count]))


# Datasets of others -------------------------------------------------------------------------------------------------


def edit_info(folder, change):
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def edit_lines(folder, change):
    path = folder / "meta/episodes.jsonl"
    rows = lines(path)
    change(rows)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture
def of_others(dataset, tmp_path):
    """A dataset without what this project alone writes."""
    folder = shutil.copytree(dataset, tmp_path / "theirs")
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    for file in FILES:
        parquet.write_table(parquet.read_table(folder / file).drop_columns(["prompt", "file_path"]), folder / file)
    edit_info(folder, lambda info: [info["features"].pop(key) for key in ("prompt", "file_path")])
    return folder


@pytest.fixture
def with_videos(of_others, episodes):
    """The same with a video of each camera and episode in place of the images."""
    for index, (file, episode) in enumerate(zip(FILES, episodes, strict=True)):
        for name in ("image", "wrist_image"):
            path = of_others / f"videos/chunk-000/{name}/episode_{index:06d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_video(getattr(episode, name), H264).data)
        table = parquet.read_table(of_others / file)
        parquet.write_table(table.drop_columns(["image", "wrist_image"]), of_others / file)

    def change(info):
        info.update(fps=20, video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4")
        for name in ("image", "wrist_image"):
            info["features"][name]["dtype"] = "video"

    edit_info(of_others, change)
    return of_others


def assert_same_numbers(folder, dataset):
    assert dataset_format(folder) == "lerobot"
    for index, (got, own) in enumerate(zip(open_dataset(folder), open_dataset(dataset), strict=True)):
        for name in ("state", "joint_state", "action"):
            np.testing.assert_array_equal(getattr(got, name), getattr(own, name))
        assert (got.language_instruction, got.file_path) == (own.language_instruction, f"theirs/{index}")


def test_images_of_others_are_the_same_bytes(of_others, dataset):
    assert_same_numbers(of_others, dataset)
    for got, own in zip(open_dataset(of_others), open_dataset(dataset), strict=True):
        assert got.image.data == own.image.data and got.wrist_image.data == own.wrist_image.data


def test_videos_of_others_have_every_image(with_videos, dataset, episodes):
    assert_same_numbers(with_videos, dataset)
    for got, given in zip(open_dataset(with_videos), episodes, strict=True):
        for name in ("image", "wrist_image"):
            assert all(psnr(getattr(got, name)[step], getattr(given, name)[step]) > 33 for step in range(len(given)))


def test_version_2_0_has_statistics_of_all_episodes_that_nobody_trusts(of_others, dataset):
    edit_info(of_others, lambda info: info.update(codebase_version="v2.0"))
    (of_others / "meta/episodes_stats.jsonl").unlink()
    (of_others / "meta/stats.json").write_text('{"actions": {"mean": [NaN], "std"')
    assert_same_numbers(of_others, dataset)


def test_episodes_are_found_by_their_index_whatever_the_order(of_others, dataset):
    """In folders of two, in no order, one without steps, and with one left out."""

    def change(rows):
        rows[2:] = [{**rows[2], "length": 0}]
        rows.reverse()

    edit_info(of_others, lambda info: info.update(chunks_size=1))
    edit_lines(of_others, change)
    (of_others / "data/chunk-001").mkdir()
    (of_others / FILES[1]).rename(of_others / "data/chunk-001/episode_000001.parquet")
    got = open_dataset(of_others)
    assert len(got) == 2
    np.testing.assert_array_equal(got[1].action, open_dataset(dataset)[1].action)


@pytest.mark.parametrize("door", ["quality", "merge"])
def test_datasets_of_others_go_through_commands(with_videos, tmp_path, door):
    THROUGH[door](with_videos, tmp_path / door)


def info_of(change):
    return lambda folder: edit_info(folder, change)


def row_of(key, value):
    return lambda folder: edit_lines(folder, lambda rows: rows[1].__setitem__(key, value))


def rename_camera(info):
    info["features"]["../../x"] = info["features"].pop("image")


REFUSED = {
    "another place": (
        info_of(lambda i: i.update(data_path="../{episode_chunk}/{episode_index}.parquet")),
        "data_path is '../",
    ),
    "another place of videos": (info_of(lambda i: i.update(video_path="/etc/{video_key}")), "video_path is '/etc/"),
    "places of another version": (
        info_of(lambda i: i.update(data_path="data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet")),
        "data_path is 'data/chunk-{chunk_index",
    ),
    "a version before": (info_of(lambda i: i.update(codebase_version="v1.6")), "of version v1.6, of which only"),
    "a camera outside": (info_of(rename_camera), "a camera named '../../x'"),
    "another robot": (
        info_of(lambda i: i["features"]["state"].update(shape=[14])),
        "state has 14 numbers a step, expected 8",
    ),
    "folders of none": (info_of(lambda i: i.update(chunks_size=0)), "chunks_size is 0, expected an integer from 1"),
    "no list": (lambda folder: (folder / "meta/episodes.jsonl").unlink(), "no readable episodes.jsonl (No such file"),
    "an empty list": (lambda folder: (folder / "meta/episodes.jsonl").write_text("\n"), "episodes.jsonl: no episodes"),
    "a list that is too deep": (
        lambda folder: (folder / "meta/episodes.jsonl").write_text("[" * 100_000),
        "no readable episodes.jsonl (nested too deeply)",
    ),
    "half a line": (
        lambda folder: (folder / "meta/episodes.jsonl").write_text('{"episode_index": 0, "tas'),
        "no readable episodes.jsonl (",
    ),
    "an episode twice": (row_of("episode_index", 2), "[2].episode_index is 2, expected an episode that is not there"),
    "an index outside": (row_of("episode_index", "../1"), "[1].episode_index is '../1', expected an integer"),
    "an index of -1": (row_of("episode_index", -1), "[1].episode_index is -1"),
    "a length of -1": (row_of("length", -1), "[1].length is -1"),
    "a length of a billion": (row_of("length", 10**9), "[1].length is 1000000000"),
    "a length that is too large": (row_of("length", 9), "the file has 8 rows, not those from 0 to 8"),
    "a length that is too small": (row_of("length", 7), "the file has 8 rows, not 7"),
    "no prompt": (row_of("tasks", []), "[1].tasks is a list of 0, expected a list with a task"),
    "a prompt that is none": (row_of("tasks", [5]), "[1].tasks[0] is 5, expected a text"),
    "a file that is missing": (lambda folder: (folder / FILES[1]).unlink(), "episode_000001.parquet: record 1 is"),
    "the file of another episode": (
        lambda folder: shutil.copy(folder / FILES[0], folder / FILES[1]) and edit_lines(
            folder, lambda rows: rows[1].update(length=5)
        ),
        "its rows are of episodes ['0']",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(of_others, name):
    change, message = REFUSED[name]
    change(of_others)
    with pytest.raises(UserError) as caught:
        open_dataset(of_others)[1]
    assert message in str(caught.value) and "\n" not in str(caught.value) and "theirs" in str(caught.value)


def test_numbers_that_are_not_finite_are_named(of_others):
    table = parquet.read_table(of_others / FILES[1])
    rows = table.to_pylist()
    rows[3]["actions"][2] = float("nan")
    parquet.write_table(type(table).from_pylist(rows, schema=table.schema), of_others / FILES[1])
    with pytest.raises(UserError, match=r"episode theirs/1\): action: not finite at step 3, number 2 is nan"):
        open_dataset(of_others)[1]


def test_a_video_that_is_missing_or_too_short_is_named(with_videos, episodes):
    path = with_videos / "videos/chunk-000/image/episode_000001.mp4"
    path.write_bytes(encode_video(np.asarray(episodes[1].image)[:6], H264).data)
    read = open_dataset(with_videos)[1]
    assert psnr(read.image[5], episodes[1].image[5]) > 33
    with pytest.raises(UserError, match=r"step 6: .*episode_000001\.mp4: frame 6 cannot be decoded"):
        read.image[6]
    path.unlink()
    with pytest.raises(UserError, match=r"episode_000001\.mp4: no such video"):
        open_dataset(with_videos)[1]
