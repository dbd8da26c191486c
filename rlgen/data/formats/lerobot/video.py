"""Videos of LeRobot datasets: encoding the images of an episode, and joining episodes in one file.

The settings are those of lerobot's own recorder where it has any: every second frame is a key frame, so that two frames
at most are decoded for one, and `crf` 30 for AV1. An encoder has one thread, for the bytes of some depend on their
number; episodes are encoded beside each other instead. Needs PyAV, which the extra `video` installs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

from rlgen.core.errors import UserError
from rlgen.data.images import FrameSequence
from rlgen.data.metrics.smoothness import CONTROL_STEP

if TYPE_CHECKING:
    import av

FPS = round(1 / CONTROL_STEP)
PIXEL_FORMAT = "yuv420p"
_MUXER = {"fflags": "+bitexact"}  # without the version of FFmpeg


@dataclass(frozen=True)
class VideoCodec:
    """An encoder with its settings.

    Attributes:
      name: of the codec, as LeRobot's `info.json` has it.
      encoder: FFmpeg's name.
      options: of the encoder, as FFmpeg takes them.
      smallest: pixels that a side of an image must have.
    """

    name: str
    encoder: str
    options: dict[str, str]
    smallest: int


AV1 = VideoCodec("av1", "libsvtav1", {"g": "2", "crf": "30", "preset": "10", "svtav1-params": "lp=1"}, smallest=64)
# Without frames that are stored in another order than they are shown in, files can be joined as they are.
H264 = VideoCodec(
    "h264", "libx264", {"g": "2", "crf": "23", "preset": "medium", "bf": "0", "sc_threshold": "0"}, smallest=16
)


def import_av() -> ModuleType:
    """Returns PyAV.

    Raises:
      UserError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("videos need PyAV, which is not installed; run `uv sync --extra video`") from error
    os.environ.setdefault("SVT_LOG", "1")  # the encoder of AV1 prints its settings otherwise
    return av


@dataclass(frozen=True)
class EncodedVideo:
    """The images of one camera in an episode as the bytes of an MP4 file of their own.

    Attributes:
      data: the file.
      frames: number of images.
    """

    data: bytes
    frames: int


def encode_video(
    images: UInt8[np.ndarray, "T h w 3"] | FrameSequence, codec: VideoCodec, fps: int = FPS
) -> EncodedVideo:
    """Encodes the images of one camera in an episode. Equal images give equal bytes.

    Args:
      images: in the order in which they are shown.
      codec: the encoder.
      fps: images a second.

    Raises:
      UserError: PyAV is not installed, or the codec does not take images of this size.
    """
    av = import_av()
    height, width = images.shape[1:3]
    if height % 2 or width % 2 or min(height, width) < codec.smallest:
        raise UserError(
            f"images of {width}x{height} pixels cannot be encoded as {codec.name}: expected an even number of at least "
            f"{codec.smallest} along each side; choose another --image-size or codec"
        )
    out = io.BytesIO()
    with av.open(out, "w", format="mp4", options=_MUXER) as container:
        stream = container.add_stream(codec.encoder, fps, options=codec.options)
        stream.width, stream.height, stream.pix_fmt = width, height, PIXEL_FORMAT
        context = stream.codec_context
        context.thread_count = 1
        # What FFmpeg converts to by default; named, so that readers need not guess it from the size of an image.
        context.colorspace, context.color_range = av.video.reformatter.Colorspace.ITU601, 1
        for image in np.asarray(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame.reformat(format=PIXEL_FORMAT)))
        container.mux(stream.encode())
    return EncodedVideo(out.getvalue(), len(images))


class VideoJoiner:
    """A writer of the videos of several episodes, of `FPS` images a second, one after the other to one MP4 file."""

    def __init__(self, container: av.container.OutputContainer):
        """Takes the open file."""
        self._container, self._stream, self._frames = container, None, 0

    def add(self, video: EncodedVideo) -> None:
        """Writes the packets of a video behind those of the videos before it."""
        av = import_av()
        with av.open(io.BytesIO(video.data)) as source:
            stream = source.streams.video[0]
            if self._stream is None:
                self._stream = self._container.add_stream_from_template(stream, opaque=True)
                self._stream.time_base = stream.time_base
            start = int(Fraction(self._frames, FPS) / stream.time_base)
            for packet in source.demux(stream):
                if packet.dts is not None:  # the last one is empty
                    packet.pts, packet.dts, packet.stream = packet.pts + start, packet.dts + start, self._stream
                    self._container.mux(packet)
        self._frames += video.frames


@contextmanager
def joined_videos(file: BinaryIO) -> Iterator[VideoJoiner]:
    """Opens a file for the videos of several episodes."""
    with import_av().open(file, "w", format="mp4", options=_MUXER) as container:
        yield VideoJoiner(container)


def video_info(size: int, codec: VideoCodec, fps: int = FPS) -> dict[str, Any]:
    """Returns the block `info` of a video in LeRobot's `info.json`.

    Args:
      size: width and height, pixels.
      codec: of the videos.
      fps: images a second.
    """
    return {
        "video.height": size,
        "video.width": size,
        "video.codec": codec.name,
        "video.pix_fmt": PIXEL_FORMAT,
        "video.fps": fps,
        "video.channels": 3,
        "video.is_depth_map": False,
        "has_audio": False,
        "is_depth_map": False,
        **{f"video.{name}": _number(codec.options[name]) for name in ("g", "crf", "preset")},
    }


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text
