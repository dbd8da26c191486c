"""`rlgen quickstart`: the whole job on one task."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rlgen.cli.common import AssetGroup, AssetOptions, Inline, parse
from rlgen.cli.run import DEFAULT_RUN, run_stages_of, stored_or_preset
from rlgen.configs.schema import Config
from rlgen.core.errors import UserError
from rlgen.pipeline.stages import STAGES, is_finished

if TYPE_CHECKING:
    from rlgen.training.run import Run


@dataclass(frozen=True)
class QuickstartArguments:
    """Options of `rlgen quickstart`."""

    run: Path = DEFAULT_RUN
    """Directory of the run."""
    preset: str | None = None
    """Configuration to start from: quickstart (the default), or smoke, which tries everything in minutes."""
    resume: bool = False
    """Go on with a run that is finished."""
    overwrite: bool = False
    """Remove the run that is there and begin anew."""
    objects: AssetGroup = field(default_factory=AssetOptions)
    config: Annotated[Config, Inline] = field(default_factory=Config)

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise UserError("--resume and --overwrite: give one of them")


def quickstart(argv: Sequence[str]) -> None:
    """Runs the whole job on one task, from demonstrations to the report.

    An interrupted run resumes with the same command, from its stored configuration.
    """
    base = stored_or_preset(argv, DEFAULT_RUN, anew="--overwrite" in argv)
    arguments = parse(
        QuickstartArguments, argv, "rlgen quickstart", quickstart.__doc__ or "", QuickstartArguments(config=base)
    )

    def refuse_finished(run: "Run") -> None:
        if is_finished(run) and not arguments.resume:
            raise UserError(
                f"{run.folder} holds a finished run; pass --resume to keep it and go on, --overwrite to begin anew, "
                "or choose another --run"
            )

    run = run_stages_of(
        arguments.run,
        tuple(STAGES),
        arguments.config,
        arguments.objects,
        may_create=True,
        anew=arguments.overwrite,
        check=refuse_finished,
    )
    print(f"report: {run.folder / 'report.html'}", file=sys.stderr)
