"""Pictures of the next episodes are encoded while one is being written."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from rlgen.data.frames import EncodedFrames, encode_frames
from rlgen.data.rlds_episode import RldsEpisode, check_rlds_episode

AHEAD = 2  # episodes behind the one that is written
_AT_ONCE = 16  # pictures that a thread takes

Pictures = UInt8[np.ndarray, "T h w 3"] | EncodedFrames


@dataclass(frozen=True)
class _Begun:
    """A view whose pictures threads are encoding."""

    parts: list[Future[EncodedFrames]]

    def result(self) -> EncodedFrames:
        """Waits for all of them."""
        done = [part.result() for part in self.parts]
        return EncodedFrames(tuple(picture for part in done for picture in part.data), done[0].size)


def encode_ahead(
    episodes: Iterable[RldsEpisode], size: int, pool: ThreadPoolExecutor | None = None
) -> Iterator[RldsEpisode]:
    """The same episodes, checked, with encoded pictures.

    With a `pool` up to `AHEAD` episodes more than the one that is given are in memory, and its threads at work.

    Raises:
      UserError: an episode that does not fit the schema with pictures of `size` pixels.
    """
    begun: deque[tuple[RldsEpisode, _Begun, _Begun]] = deque()
    for episode in episodes:
        check_rlds_episode(episode, size)
        if pool is None:
            yield replace(episode, image=encode_frames(episode.image), wrist_image=encode_frames(episode.wrist_image))
            continue
        begun.append((episode, _begin(episode.image, pool), _begin(episode.wrist_image, pool)))
        if len(begun) > AHEAD:
            yield _finish(*begun.popleft())
    while begun:
        yield _finish(*begun.popleft())


def _begin(pictures: Pictures, pool: ThreadPoolExecutor) -> _Begun:
    starts = range(0, len(pictures), _AT_ONCE)
    return _Begun([pool.submit(encode_frames, pictures[start : start + _AT_ONCE]) for start in starts])


def _finish(episode: RldsEpisode, image: _Begun, wrist: _Begun) -> RldsEpisode:
    return replace(episode, image=image.result(), wrist_image=wrist.result())
