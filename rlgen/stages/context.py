"""What every stage is given: the run, the scene, and somebody to tell."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.libero.assets import AssetSource
from rlgen.libero.bundles import load_scene
from rlgen.libero.scene import Scene
from rlgen.report.progress_line import Stage as StageLine
from rlgen.train.run import Run, StageClock


@dataclass
class Context:
    """The run in hand.

    Attributes:
      run: configuration and folders.
      cache: where scenes and compiled programs are kept between runs.
    """

    run: Run
    cache: Path

    @cached_property
    def scene(self) -> Scene:
        """The task's scene, built the first time."""
        return load_scene(self.run.config.task, self.assets, self.cache)

    @property
    def assets(self) -> AssetSource:
        """What the run was started with."""
        record = self.run.assets
        return AssetSource(kind=record["kind"], path=Path(record["path"]), label=record["label"])

    def seed(self, *purpose: int | str) -> int:
        """A seed for one purpose, from the run's root seed."""
        words = [self.run.config.seed] + [int.from_bytes(str(word).encode(), "little") for word in purpose]
        return int(np.random.SeedSequence(words).generate_state(1)[0])


@dataclass(frozen=True)
class Work:
    """One stage at work: its folder, the line that a person sees, and its clock."""

    folder: Path
    progress: StageLine
    clock: StageClock


Stage = Callable[[Context, Work], dict[str, Any]]
