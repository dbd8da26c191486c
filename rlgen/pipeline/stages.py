"""The stages of a run, in order: what each does, which part of the configuration it reads, and its function.

A stage reads what earlier stages left in the run's directory and leaves its own results there, so that it can be run,
repeated and resumed alone. Its module is imported only when it runs: the table is also what `--help` is made of.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgen.configs.differences import differences
from rlgen.configs.schema import Config
from rlgen.configs.stored import to_json
from rlgen.core.errors import UserError
from rlgen.core.ownership import OutputKind, check_contents, check_unneeded
from rlgen.training.run import RECORD, Run, change_config, is_run_record

if TYPE_CHECKING:
    from rlgen.pipeline.context import Context, Turns, Work

Result = dict[str, Any]


def _demos(context: "Context", work: "Work") -> Result:
    from rlgen.pipeline.demos import run

    return run(context, work)


def _bc(context: "Context", work: "Work") -> Result:
    from rlgen.pipeline.bc import run

    return run(context, work)


def _ppo(context: "Context", work: "Work") -> "Turns[Result]":
    from rlgen.pipeline.ppo import run

    return run(context, work)


def _collect(context: "Context", work: "Work") -> Result:
    from rlgen.pipeline.collect import run

    return run(context, work)


def _export(context: "Context", work: "Work") -> Result:
    from rlgen.pipeline.export import run

    return run(context, work)


def _quality(context: "Context", work: "Work") -> Result:
    from rlgen.pipeline.quality import run

    return run(context, work)


def _vla_train(context: "Context", work: "Work") -> Result:
    from rlgen.pipeline.vla_train import run

    return run(context, work)


def _evaluate(context: "Context", work: "Work") -> Result:
    from rlgen.pipeline.evaluate import run

    return run(context, work)


def _report(context: "Context", work: "Work") -> Result:
    from rlgen.pipeline.report import run

    return run(context, work)


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
      run: does the stage's work and returns its result, JSON values that are stored as `done.json`; or returns a
        generator that does, and leaves iterations of PPO to its caller (`pipeline.context.Turns`).
      reads: sections of the configuration that this stage is the first to read; once the stage has started, they
        cannot be changed.
      help: what it does, in one line.
      beside: a setting of which every value has results of its own in the stage's folder, beside each other: it may be
        changed, and the stage then runs again for the new value. The result has the value under the setting's name.
      on_all_processes: every process of a run on several takes part; other stages are the first one's.
    """

    run: "Callable[[Context, Work], Result | Turns[Result]]"
    reads: tuple[str, ...]
    help: str
    on_all_processes: bool = False
    beside: str | None = None


STAGES = {
    "demos": Stage(
        _demos, ("task", "seed", "resets", "demos"), "demonstrations, scripted or from a file; successes only"
    ),
    "bc": Stage(_bc, ("policy", "bc"), "behavior cloning of the policy on the demonstrations", True),
    "ppo": Stage(_ppo, ("ppo",), "PPO, from the cloned policy", True),
    "collect": Stage(
        _collect, ("collect",), "successful episodes of the trained policy, without exploration noise", beside="source"
    ),
    "export": Stage(_export, ("export",), "the collected episodes with rendered images, as an RLDS dataset"),
    "quality": Stage(_quality, (), "quality of the demonstrations compared with that of the collected episodes"),
    "vla-train": Stage(_vla_train, ("vla",), "a flow VLA, trained on the exported dataset alone"),
    "evaluate": Stage(_evaluate, ("evaluate",), "success of every actor from the stored initial states"),
    "report": Stage(_report, (), "summary.json and report.html, from the results of the other stages"),
}


# What stages leave in their folders, in this version and before.
_RESULTS = ("*.json", "*.jsonl", "*.npz", "*.png", "*.csv", "*.gif", "*.tfrecord-*", "*/DATASET.md", "demos.hdf5")
_RESULTS += ("checkpoints/*", "expert/*", "tensorboard/*", "model/*", "corrections/*")
RUN = OutputKind(
    "a run",
    "--run",
    RECORD,
    is_run_record,
    ("report.html", "summary.json", *(f"{stage}/{pattern}" for stage in STAGES for pattern in _RESULTS)),
)


def is_done(run: Run, name: str) -> bool:
    """Returns whether a stage is done, and for the present value of the setting that it keeps results `beside` by."""
    beside = STAGES[name].beside
    if beside is None or not run.done(name):
        return run.done(name)
    section = getattr(run.config, STAGES[name].reads[0])
    # Earlier versions had only the default.
    return run.result(name).get(beside, getattr(type(section), beside)) == getattr(section, beside)


def is_finished(run: Run) -> bool:
    """Returns whether all stages of a run are done."""
    return all(run.done(name) for name in STAGES)


def clear_from(run: Run, name: str, inputs: Iterable[Path | str | None] = ()) -> list[str]:
    """Removes the results of a stage and of those after it.

    Args:
      run: of the stage.
      name: of the stage.
      inputs: files that the run reads.

    Returns:
      Names of the stages that had results.

    Raises:
      UserError: an input, a file of somebody, the working directory or the home directory is among the results;
        nothing is removed.
    """
    cleared, inputs = [stage for stage in stages_from(name) if run.started(stage)], tuple(inputs)
    for stage in cleared:
        check_unneeded(run.folder / stage, inputs, option=RUN.option)
        check_contents(run.folder, RUN, part=stage)
    for stage in cleared:
        run.clear(stage)
    return cleared


def stages_from(name: str) -> list[str]:
    """Returns the names of a stage and of those after it."""
    return list(STAGES)[list(STAGES).index(name) :]


def check_config(run: Run, config: Config, *, repeat_from: str | None = None) -> None:
    """Raises `UserError` where a stage that has started read other values; the message names the settings.

    Args:
      run: with the stored configuration.
      config: the new configuration.
      repeat_from: stage that is repeated together with those after it.
    """
    stored, now = to_json(run.config), to_json(config)
    repeated = [] if repeat_from is None else stages_from(repeat_from)
    for name, stage in STAGES.items():
        for section in stage.reads:
            before, after = getattr(run.config, section), getattr(config, section)
            if stage.beside is not None:
                after = replace(after, **{stage.beside: getattr(before, stage.beside)})
            if before != after and run.started(name) and name not in repeated:
                changed = differences({section: stored[section]}, {section: now[section]})
                raise UserError(
                    f"{', '.join(changed)}: other than what stage {name} of {run.folder} was run with; "
                    f"repeat it with `{run.repeat(name)}` or choose another --run"
                )


def with_config(run: Run, config: Config, log: Callable[[str], None]) -> Run:
    """Returns a run with a changed configuration, which is stored.

    Args:
      run: with the stored configuration.
      config: the new configuration.
      log: receives a line that says which settings differ, if any do.

    Raises:
      UserError: as `check_config`.
    """
    check_config(run, config)
    if config == run.config:
        return run
    log(f"changed in {run.folder}: {', '.join(differences(to_json(run.config), to_json(config)))}")
    return change_config(run, config)
