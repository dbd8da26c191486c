"""Runs stages: each one once, in order, with a line of progress and a record of its seconds."""

import importlib
from collections.abc import Sequence

from rlgen.config import STAGES
from rlgen.report.progress import Progress
from rlgen.stages.context import Context, Stage, Work
from rlgen.train.run import StageClock


def stage_function(name: str) -> Stage:
    """The function of a stage; its module is imported only when it runs."""
    return importlib.import_module(f"rlgen.stages.{name.replace('-', '_')}").run


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
