"""Options of an import of human demonstrations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlgen.core.errors import UserError
from rlgen.libero.rendering.renderer import RendererName
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task

SceneLoader = Callable[[Task], Scene]


@dataclass(frozen=True)
class ImportOptions:
    """Options of an import.

    Attributes:
      clip: clip actions to [-1, 1].
      skip_bad: keep the good episodes of damaged files and count the bad ones.
      replay: replay LIBERO's episodes; otherwise take episodes as recorded.
      drop_noops: leave no-ops out of the replays, as public datasets do.
      images: store images of both cameras, rendered from the replayed states.
      image_size: height and width of these images, pixels.
      renderer: of these images.
      episodes: most episodes of a task, all if None.
      threads: that replay and render.
    """

    clip: bool = False
    skip_bad: bool = False
    replay: bool = True
    drop_noops: bool = True
    images: bool = False
    image_size: int = 256
    renderer: RendererName = "fast"
    episodes: int | None = None
    threads: int = 2

    def __post_init__(self) -> None:
        if self.episodes is not None and self.episodes < 1:
            raise UserError(f"{self.episodes} episodes: expected 1 or more")
        if self.threads < 1 or self.image_size < 1:
            raise UserError(f"{self.threads} threads, images of {self.image_size} pixels: expected 1 or more of each")
        if self.images and not self.replay:
            raise UserError("images are rendered of replayed episodes; leave out --images or --no-replay")

    def identity(self) -> dict[str, Any]:
        """Returns the options that decide the output, by their names in `import.json`."""
        return {
            "clip": self.clip,
            "skip_bad": self.skip_bad,
            "replay": self.replay,
            "drop_noops": self.drop_noops,
            "pictures": self.images,
            "size": self.image_size,
            "view": self.renderer,
            "count": self.episodes,
        }
