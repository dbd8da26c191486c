"""What every stage is given: the run, the scene, and somebody to tell."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.configs.schema import STAGES
from rlgen.core.progress import Progress
from rlgen.core.progress import Stage as StageLine
from rlgen.libero.scenes.assets import AssetSource
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene
from rlgen.training.run import Run, StageClock


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


def stage_function(name: str) -> Stage:
    """The function of a stage; its module is imported only when it runs."""
    return importlib.import_module(f"rlgen.pipeline.{name.replace('-', '_')}").run


def run_stages(context: Context, names: Sequence[str], progress: Progress) -> None:
    """Runs the stages that are not done yet."""
    for name in names:
        if context.run.done(name):
            progress.skip(name, "done before")
            continue
        clock = StageClock(context.run, name)
        with progress.stage(name) as line:
            result = stage_function(name)(context, Work(context.run.stage_folder(name), line, clock))
        clock.save()
        context.run.finish(name, result)


def all_stages() -> tuple[str, ...]:
    """The stages of the whole job, in order."""
    return STAGES
