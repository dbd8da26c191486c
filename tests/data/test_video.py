"""Videos of episodes: colors, order, equal bytes, and what is wrong with a file."""

import io
import sys

import cv2
import numpy as np
import pytest
from moving_images import moving_images, psnr

from rlgen.core.errors import UserError
from rlgen.data.formats.lerobot import video_frames
from rlgen.data.formats.lerobot.video import AV1, FPS, H264, encode_video, joined_videos
from rlgen.data.formats.lerobot.video_frames import VideoFrames, VideoReader

SIZE, LENGTHS = 64, (7, 4, 9)
CODECS = pytest.mark.parametrize("codec", [AV1, H264], ids=lambda codec: codec.name)
FLOOR = 34.0
"""dB that a video has at least, of images without noise."""


@pytest.fixture(scope="module")
def episodes() -> list[np.ndarray]:
    return [moving_images(steps, SIZE, seed) for seed, steps in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def files(tmp_path_factory, episodes):
    """A file of all episodes for each codec."""
    folder, made = tmp_path_factory.mktemp("videos"), {}
    for codec in (AV1, H264):
        made[codec.name] = folder / f"{codec.name}.mp4"
        with open(made[codec.name], "wb") as file, joined_videos(file) as writer:
            for images in episodes:
                writer.add(encode_video(images, codec))
    return made


def frames_of(path, episode: int, size: int = SIZE) -> VideoFrames:
    return VideoFrames(VideoReader(FPS), path, sum(LENGTHS[:episode]), LENGTHS[episode], (size, size))


@CODECS
def test_images_come_back_with_their_colors_at_their_places(files, episodes, codec):
    for episode, images in enumerate(episodes):
        read = np.asarray(frames_of(files[codec.name], episode))
        assert psnr(read, images) > FLOOR
        # The nearest of all images of the episode is that of the same step.
        distances = np.abs(read[:, None].astype(int) - images[None]).mean((2, 3, 4))
        assert np.array_equal(distances.argmin(1), np.arange(len(images)))
    # What the floor would notice: another order of the colors, and either range taken for the other.
    assert psnr(read[..., ::-1], images) < FLOOR - 10
    for wrong in ((read - 16.0) * 255 / 219, read * 219 / 255 + 16.0):
        assert psnr(wrong.clip(0, 255), images) < FLOOR - 4


def test_another_decoder_sees_the_same_images(files, episodes):
    """OpenCV with an FFmpeg of its own, which knows nothing of the settings."""
    video = cv2.VideoCapture(str(files[H264.name]))
    assert video.get(cv2.CAP_PROP_FPS) == FPS and video.get(cv2.CAP_PROP_FRAME_COUNT) == sum(LENGTHS)
    for images in episodes:
        for image in images:
            done, frame = video.read()
            assert done and psnr(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), image) > FLOOR - 2
    assert not video.read()[0]


@CODECS
def test_an_image_does_not_depend_on_what_was_decoded_before_it(files, codec):
    frames, order = frames_of(files[codec.name], 2), np.random.default_rng(0).integers(0, LENGTHS[2], 30)
    whole = np.asarray(frames)
    for step in order.tolist():
        np.testing.assert_array_equal(frames[step], whole[step])
    np.testing.assert_array_equal(frames_of(files[codec.name], 2)[LENGTHS[2] - 1], whole[-1])
    np.testing.assert_array_equal(np.asarray(frames[2:5]), whole[2:5])
    np.testing.assert_array_equal(frames[-1], whole[-1])
    assert frames[2:5].shape == (3, SIZE, SIZE, 3) and len(frames) == len(whole)
    with pytest.raises(IndexError):
        frames[LENGTHS[2]]


@CODECS
def test_few_frames_are_decoded_for_one(files, codec, monkeypatch):
    """A key frame is never farther than one frame away, wherever the episode lies in the file."""
    import av

    with av.open(str(files[codec.name])) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.dts is not None]
    assert len(keys) == sum(LENGTHS)
    for first, length in zip(np.cumsum((0, *LENGTHS)), LENGTHS, strict=False):
        assert keys[first : first + length : 2] == [True] * ((length + 1) // 2)
    looked_at, real = [], video_frames._Decoder._index

    def noting(decoder, frame):
        looked_at.append(frame.pts)
        return real(decoder, frame)

    monkeypatch.setattr(video_frames._Decoder, "_index", noting)
    for index in (sum(LENGTHS) - 1, 0, 12, 13, 2):
        looked_at.clear()
        VideoReader(FPS).read(files[codec.name], index, (SIZE, SIZE))
        assert len(set(looked_at)) <= 2


def test_videos_of_others_may_store_frames_in_another_order(tmp_path):
    """Far key frames, and frames that are predicted from later ones."""
    import av

    images = moving_images(30, SIZE)
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("libx264", 10, options={"g": "12", "bf": "3", "crf": "18"})
        stream.width = stream.height = SIZE
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(tmp_path / "x.mp4")) as container:
        packets = [packet.pts for packet in container.demux(video=0) if packet.dts is not None]
    assert packets != sorted(packets)
    frames = VideoFrames(VideoReader(10), tmp_path / "x.mp4", 0, 30, (SIZE, SIZE))
    whole = np.asarray(frames)
    assert psnr(whole, images) > FLOOR
    for step in np.random.default_rng(0).permutation(30).tolist():
        np.testing.assert_array_equal(frames[step], whole[step])
        distances = np.abs(whole[step].astype(int) - images).mean((1, 2, 3))
        assert distances.argmin() == step


@CODECS
def test_equal_images_give_equal_bytes(episodes, codec):
    first, second = (encode_video(episodes[0], codec).data for _ in range(2))
    assert first == second
    files = []
    for _ in range(2):
        with io.BytesIO() as file:
            with joined_videos(file) as writer:
                writer.add(encode_video(episodes[0], codec))
            files.append(file.getvalue())
    assert files[0] == files[1]


def test_sizes_that_a_codec_does_not_take_are_one_line():
    with pytest.raises(UserError, match=r"images of 15x15 pixels cannot be encoded as h264: expected an even number"):
        encode_video(np.zeros((2, 15, 15, 3), np.uint8), H264)
    with pytest.raises(
        UserError, match=r"32x32 pixels cannot be encoded as av1: expected an even number of at least 64"
    ):
        encode_video(np.zeros((2, 32, 32, 3), np.uint8), AV1)


def test_a_missing_package_is_named_with_its_extra(monkeypatch, files):
    monkeypatch.setitem(sys.modules, "av", None)
    for use in (
        lambda: encode_video(np.zeros((2, 64, 64, 3), np.uint8), AV1),
        lambda: frames_of(files[AV1.name], 0)[0],
    ):
        with pytest.raises(UserError, match="videos need PyAV, which is not installed; run `uv sync --extra video`"):
            use()


@CODECS
def test_files_that_are_no_such_video_are_one_line(files, tmp_path, codec):
    whole = files[codec.name].read_bytes()
    path = tmp_path / "x.mp4"
    cases = {
        "empty": b"",
        "no video": b"ftyp" * 100,
        "cut": whole[: len(whole) // 2],
        "zeros inside": whole[:200] + bytes(len(whole) // 2) + whole[200 + len(whole) // 2 :],
    }
    for name, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"x\.mp4: frame \d+ cannot be decoded") as caught:
            np.asarray(frames_of(path, 1))
        assert "\n" not in str(caught.value), name
    path.unlink()
    with pytest.raises(UserError, match=r"x\.mp4: frame 7 cannot be decoded \(No such file or directory\)"):
        frames_of(path, 1)[0]
    with pytest.raises(UserError, match=r"x\.mp4: no such video"):
        frames_of(path, 1).check_sizes()
    with pytest.raises(UserError, match=r"images of \(64, 64\) pixels, expected \(32, 32\)"):
        frames_of(files[codec.name], 0, 32)[0]
    beyond = VideoFrames(VideoReader(FPS), files[codec.name], sum(LENGTHS) - 1, 2, (SIZE, SIZE))
    with pytest.raises(UserError, match=r"step 1: .*frame 20 cannot be decoded \(none at 1\.000 s\)"):
        np.asarray(beyond)
