"""A run in hand: its configuration, its scene and its seeds, as every stage gets them, and the loop over stages."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rlgen.configs.devices import RunDevices
from rlgen.core.progress import Progress, StageProgress
from rlgen.libero.envs.wide_resets import with_resets
from rlgen.libero.scenes.assets import AssetSource, find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene
from rlgen.pipeline.stages import STAGES, is_done
from rlgen.training.run import Run, StageClock

if TYPE_CHECKING:
    from jax.sharding import Mesh

T = TypeVar("T")
Turns = Generator[Any, Any, T]
"""A stage that leaves the iterations of PPO to its caller, who may run those of several experts in one program.

It yields an `rl.ppo.Expert` where it needs an iteration, and is sent the new state and the metrics, or is thrown what
has gone wrong. All else, its checkpoints, evaluations and end, is its own.
"""


@dataclass
class Context:
    """The run that stages work on.

    Attributes:
      run: configuration and folders.
      cache: folder of scenes and compiled programs, shared by runs.
      devices: what cloning and PPO run on.
      pool: threads of PPO's environments, shared with other runs of this process; None for threads of its own.
    """

    run: Run
    cache: Path
    devices: RunDevices = field(default_factory=RunDevices)
    pool: ThreadPoolExecutor | None = None

    @cached_property
    def mesh(self) -> "Mesh | None":
        """The devices of cloning and PPO; None is one.

        Raises:
          UserError: there are fewer than asked for.
        """
        if self.devices.devices * self.devices.processes == 1:
            return None
        from rlgen.training.sharding import first_devices, make_mesh

        return make_mesh(devices=first_devices(self.devices.devices))

    def wait_for_all(self, name: str) -> None:
        """Waits until every process has come here; does nothing where there is one."""
        if self.devices.processes > 1:
            from rlgen.training.processes import wait_for_all

            wait_for_all(name)

    @cached_property
    def scene(self) -> Scene:
        """The task's scene with the run's resets, fixtures and observed objects, built on first use."""
        config = self.run.config
        scene = with_resets(load_scene(config.task, self.assets, self.cache), config.resets)
        return replace(scene, training_fixtures=config.fixtures, observed=config.policy.objects)

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


def take_turns(turns: Turns[T], mesh: "Mesh | None" = None) -> T:
    """Runs every iteration that a stage asks for, and returns what it returns.

    Args:
      turns: the stage.
      mesh: devices over which environments and minibatches are divided.
    """
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            expert = turns.send(answer) if error is None else turns.throw(error)
        except StopIteration as end:
            return end.value
        answer = error = None
        try:
            answer = expert.iterate(mesh)
        except BaseException as raised:
            error = raised


@contextmanager
def _left_if_used(folder: Path) -> Iterator[Path]:
    """Removes a stage's folder if it ends with nothing in it: a stage that failed at once has not started."""
    try:
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()


def run_stages(context: Context, names: Sequence[str], progress: Progress) -> None:
    """Runs the stages that are not done yet; every process of several calls it.

    Args:
      context: of the run.
      names: of the stages, in order.
      progress: shows how far they are.
    """
    take_turns(stage_turns(context, names, progress), context.mesh)


def stage_turns(context: Context, names: Sequence[str], progress: Progress) -> Turns[None]:
    """Does what `run_stages` does, and leaves the iterations of PPO to its caller, who gives what it yields its turn.

    Args:
      context: of the run.
      names: of the stages, in order.
      progress: shows how far they are.
    """
    done = {name for name in names if is_done(context.run, name)}
    context.wait_for_all("stages")
    for name in names:
        if name in done:
            progress.skip(name, "done before")
        elif STAGES[name].on_all_processes or context.devices.is_first:
            clock = StageClock(context.run, name)
            with progress.stage(name) as line, _left_if_used(context.run.stage_folder(name)) as folder:
                result = STAGES[name].run(context, Work(folder, line, clock))
                if isinstance(result, Generator):
                    result = yield from result
            if context.devices.is_first:
                clock.save()
                context.run.finish(name, result)
        context.wait_for_all(name)
