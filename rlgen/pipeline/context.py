"""A run in hand: its configuration, its scene and its seeds, as every stage gets them, and the loop over stages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rlgen.core.progress import Progress, StageProgress
from rlgen.libero.scenes.assets import AssetSource, find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene
from rlgen.pipeline.stages import STAGES
from rlgen.training.run import Run, StageClock


@dataclass
class Context:
    """The run that stages work on.

    Attributes:
      run: configuration and folders.
      cache: folder of scenes and compiled programs, shared by runs.
    """

    run: Run
    cache: Path

    @cached_property
    def scene(self) -> Scene:
        """The task's scene, built on first use."""
        return load_scene(self.run.config.task, self.assets, self.cache)

    @property
    def assets(self) -> AssetSource:
        """The object assets that the run was started with; placeholders are made again where they are gone."""
        record = self.run.assets
        if record["kind"] == "placeholder" and not Path(record["path"]).is_dir():
            return find_assets(placeholders=True, cache=self.cache)
        return AssetSource(kind=record["kind"], path=Path(record["path"]), label=record["label"])

    def seed(self, *purpose: int | str) -> int:
        """Returns a seed for one purpose, from the run's root seed."""
        parts = [self.run.config.seed] + [int.from_bytes(str(part).encode(), "little") for part in purpose]
        return int(np.random.SeedSequence(parts).generate_state(1)[0])


@dataclass(frozen=True)
class Work:
    """One stage at work.

    Attributes:
      folder: of the stage's results.
      progress: the line that the user sees.
      clock: seconds that the stage has worked, over interruptions.
    """

    folder: Path
    progress: StageProgress
    clock: StageClock


@contextmanager
def _left_if_used(folder: Path) -> Iterator[Path]:
    """Removes a stage's folder if it ends with nothing in it: a stage that failed at once has not started."""
    try:
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()


def run_stages(context: Context, names: Sequence[str], progress: Progress) -> None:
    """Runs the stages that are not done yet.

    Args:
      context: of the run.
      names: of the stages, in order.
      progress: shows how far they are.
    """
    for name in names:
        if context.run.done(name):
            progress.skip(name, "done before")
            continue
        clock = StageClock(context.run, name)
        with progress.stage(name) as line, _left_if_used(context.run.stage_folder(name)) as folder:
            result = STAGES[name].run(context, Work(folder, line, clock))
        clock.save()
        context.run.finish(name, result)
