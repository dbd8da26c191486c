"""Options of an import of demonstrations."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rlgen.core.errors import UserError
from rlgen.libero.rendering.renderer import RendererName
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task

SceneOf = Callable[[Task], Scene]


@dataclass(frozen=True)
class Options:
    """Of an import.

    Attributes:
      clip: clip actions to [-1, 1].
      skip_bad: keep the good episodes of damaged files and count the bad ones.
      replay: replay LIBERO's episodes; otherwise take episodes as they were recorded.
      drop_noops: leave no-ops out of the replays, as the community's datasets do.
      pictures: store pictures of both cameras, drawn anew.
      size: pixels a side of such pictures.
      view: how they are drawn.
      count: keep at most so many episodes of a task, all if None.
      threads: that replay and draw.
    """

    clip: bool = False
    skip_bad: bool = False
    replay: bool = True
    drop_noops: bool = True
    images: bool = False
    size: int = 256
    view: RendererName = "fast"
    count: int | None = None
    threads: int = 2

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise UserError(f"{self.count} episodes: expected 1 or more")
        if self.threads < 1 or self.size < 1:
            raise UserError(f"{self.threads} threads, pictures of {self.size} pixels: expected 1 or more of each")
        if self.images and not self.replay:
            raise UserError("images are rendered of replayed episodes; leave out --images or --no-replay")

    def identity(self) -> dict[str, Any]:
        """What decides the output."""
        return {key: value for key, value in asdict(self).items() if key != "threads"}
