"""`rlgen fleet TASKS`: an expert for each of many tasks, and their datasets; its status and its single jobs."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rlgen.cli.common import (
    AssetGroup,
    AssetOptions,
    Inline,
    ProgressLines,
    TaskWords,
    check_known_preset,
    given,
    log,
    parse,
    wants_help,
)
from rlgen.configs.presets import expert_presets
from rlgen.configs.ranges import Count, Settings
from rlgen.configs.schema import Config
from rlgen.core.errors import UserError
from rlgen.core.ownership import clear_output, only_writer, read_record
from rlgen.core.process import cache_folder, end_with_parent, pin_threads, prepare_process

if TYPE_CHECKING:
    from rlgen.fleet.plan import FleetPlan
    from rlgen.libero.scenes.assets import AssetSource
    from rlgen.libero.tasks.suites import Task

DEFAULT_OUT = Path("runs/fleet")
OUT = "--out"
SourceName = Literal["diffusion", "gaussian", "clone", "scripted"]
EngineName = Literal["local", "ray", "slurm", "skypilot", "jobset"]


@dataclass(frozen=True)
class FleetArguments(Settings):
    """Options of `rlgen fleet`."""

    tasks: TaskWords
    """Suites, tasks (libero_goal/7, a name, an instruction), or all; those of the plan where it is resumed."""
    out: Path = DEFAULT_OUT
    """Folder of the fleet: a run for each task, the ledger, the datasets, the page."""
    source: SourceName = "diffusion"
    """Who acts in the datasets: an expert by either policy, its clone without PPO, or the scripted expert."""
    engine: EngineName = "local"
    """local: processes of this machine; ray: a cluster; the others write scripts that run the same jobs."""
    jobs: Count | None = None
    """Jobs at a time, each of --workers threads; by default as many as keep all cores busy and have memory."""
    together: Count = 1
    """Experts that a job trains in one program, of tasks of one size; an accelerator gains by it, a CPU nothing."""
    tries: Count = 3
    """Runs of a task, each from another seed, after which it is given up."""
    preset: str | None = None
    """state (the default) for a few cores, narrow for images there, vision for an accelerator, tiny to try."""
    overwrite: bool = False
    """Remove the fleet that is there and begin anew."""
    objects: AssetGroup = field(default_factory=AssetOptions)
    config: Annotated[Config, Inline] = field(default_factory=Config)


def fleet(argv: Sequence[str]) -> None:
    """Trains an expert for each task of suites, collects its successes and exports them, a dataset for each suite.

    What fails is tried again from another seed and never stops the rest. The same command resumes wherever it ended,
    and `rlgen fleet status DIR` shows how far it is.
    """
    stored = _stored(argv)
    arguments = parse(FleetArguments, argv, "rlgen fleet", fleet.__doc__ or "", _default(argv, stored))
    _check_options(argv, arguments)
    prepare_process()
    from rlgen.fleet.assemble import read_states, unfinished
    from rlgen.fleet.launch import RENDERERS
    from rlgen.fleet.plan import FLEET, store_plan

    root, tasks = arguments.out, _tasks(arguments, stored)
    assets = _assets(stored, arguments.objects)
    plan = _plan(argv, arguments, stored, tasks, assets)
    if arguments.engine == "ray":
        from rlgen.fleet.on_ray import import_ray

        import_ray()
    with only_writer(root, OUT):
        if arguments.overwrite:
            clear_output(root, FLEET, inputs=(plan.config.demos.file, assets.path))
        changed = store_plan(root, plan)
        log(f"{len(plan.tasks)} tasks; object assets: {assets.label}; fleet {root}")
        if changed:
            log(f"changed in {root}: {', '.join(changed)}")
        if arguments.engine in RENDERERS:
            return _write_scripts(arguments, plan)
        left = unfinished(read_states(root, plan))
        unfinished_jobs = _run(arguments, plan, left) if left else []
        _assemble(root, plan, assets)
    if unfinished_jobs:
        raise UserError(f"{len(unfinished_jobs)} jobs could not be run: {'; '.join(unfinished_jobs)}")


def _stored(argv: Sequence[str]) -> "FleetPlan | None":
    """Returns the plan in the folder of `--out`, whose settings options override; None if there is none."""
    out = Path(given(argv, OUT) or DEFAULT_OUT)
    if wants_help(argv) or "--overwrite" in argv or not (out / "fleet.json").is_file():
        return None
    from rlgen.fleet.plan import is_fleet, open_plan

    return open_plan(out) if is_fleet(out) else None


def _default(argv: Sequence[str], stored: "FleetPlan | None") -> FleetArguments:
    preset = given(argv, "--preset")
    presets = expert_presets()
    if wants_help(argv):
        config = presets.get(preset or "", presets["state"])
    else:
        check_known_preset(preset, presets)
        config = stored.config if stored is not None and preset is None else presets[preset or "state"]
    # Two cores do two jobs of one thread in less time than one job of two.
    config = config if stored is not None and preset is None else replace(config, workers=1)
    if stored is None:
        return FleetArguments(tasks=(), config=config)
    kept = {"source": stored.source, "together": stored.together, "tries": stored.tries}
    return FleetArguments(tasks=(), **kept, config=config)


def _check_options(argv: Sequence[str], arguments: FleetArguments) -> None:
    if given(argv, "--task") is not None:
        raise UserError("--task: name the tasks as `rlgen fleet TASKS`")
    algorithm, source = given(argv, "--policy.algorithm"), arguments.source
    if algorithm is not None and source in ("diffusion", "gaussian") and algorithm != source:
        raise UserError(f"--source {source} and --policy.algorithm {algorithm}: give one of them")


def _tasks(arguments: FleetArguments, stored: "FleetPlan | None") -> list["Task"]:
    from rlgen.fleet.plan import tasks_of
    from rlgen.libero.tasks.suites import find_tasks

    tasks = find_tasks(*arguments.tasks) or (tasks_of(stored) if stored is not None else [])
    if not tasks:
        raise UserError("no task: name suites, tasks, or all, as in `rlgen fleet libero_spatial`")
    return tasks


def _plan(
    argv: Sequence[str],
    arguments: FleetArguments,
    stored: "FleetPlan | None",
    tasks: Sequence["Task"],
    assets: "AssetSource",
) -> "FleetPlan":
    from rlgen.fleet.plan import make_plan

    is_fitted = True if stored is None or arguments.preset is not None else stored.fit_chunks
    count = given(argv, "--demos.episodes")
    keeps = stored is not None and arguments.preset is None
    return make_plan(
        tasks,
        arguments.config,
        source=arguments.source,
        tries=arguments.tries,
        assets={"kind": assets.kind, "path": str(assets.path), "label": assets.label},
        fit_chunks=is_fitted and given(argv, "--ppo.chunks") is None,
        demonstrations=arguments.config.demos.episodes if keeps or count is not None else None,
        clean=arguments.config.demos.clean and (keeps or "--demos.clean" in argv),
        together=arguments.together,
    )


def _assets(stored: "FleetPlan | None", objects: AssetOptions) -> "AssetSource":
    """Returns the object assets that were asked for, else those of the plan; others than these are refused later."""
    from rlgen.libero.scenes.assets import AssetSource, check_assets, find_assets

    if stored is None or objects.given:
        assets = objects.find()
    else:
        record = stored.assets
        assets = AssetSource(record["kind"], Path(record["path"]), record["label"])
        if assets.kind == "placeholder" and not assets.path.is_dir():
            assets = find_assets(placeholders=True, cache=cache_folder())
    check_assets(assets.path)
    return assets


def _run(arguments: FleetArguments, plan: "FleetPlan", left: Sequence["Task"]) -> list[str]:
    """Runs the jobs of tasks, and returns a line for each that could not be run."""
    from rlgen.core.progress import Progress
    from rlgen.fleet.assemble import read_states
    from rlgen.fleet.engine import LocalEngine
    from rlgen.fleet.jobs import free_memory, job_memory, jobs_at_a_time, make_jobs, usable_cores
    from rlgen.fleet.on_ray import RayEngine

    memory = job_memory(plan.config, plan.together)
    if arguments.engine == "ray":
        engine, jobs = RayEngine(plan.threads, memory, log), make_jobs(plan, left, arguments.jobs)
    else:
        cores, free = usable_cores(), free_memory()
        at_a_time = jobs_at_a_time(arguments.jobs, plan.threads, memory, cores=cores, free=free, log=log)
        jobs = make_jobs(plan, left, at_a_time)
        engine = LocalEngine(min(at_a_time, len(jobs)))
        experts = f" and up to {plan.together} experts" if plan.together > 1 else ""
        log(f"{engine.at_a_time} jobs at a time, {plan.threads} threads{experts} each, on {cores} cores")
    ended = len(plan.tasks) - len(left)
    with Progress(stream=sys.stderr, every=60.0).stage("fleet", len(plan.tasks), ended, "tasks") as line:

        def on_change() -> None:
            states = read_states(arguments.out, plan)
            running = [f"{s.task.suite}/{s.task.index} {s.stage}" for s in states if s.state == "running"]
            failed = sum(state.state == "failed" for state in states)
            now_ended = failed + sum(state.state == "done" for state in states)
            note = ", ".join([*([f"{failed} failed"] if failed else []), *running])
            line.update(advance=now_ended - line.done, note=note)

        return engine.run(arguments.out, jobs, on_change)


def _assemble(root: Path, plan: "FleetPlan", assets: "AssetSource") -> None:
    """Exports the datasets, writes the page, and says what has failed."""
    from rlgen.fleet.assemble import assemble as export
    from rlgen.fleet.jobs import usable_cores
    from rlgen.fleet.status import PAGE, fleet_rows, write_page
    from rlgen.report.fleet_page import summary

    with ProgressLines() as progress:
        made = export(root, plan, cache_folder(), workers=usable_cores(), assets=assets, on_progress=progress)
    write_page(root, plan, made.states)
    for state in made.states:
        if state.state == "failed":
            more = f"`rlgen fleet --out {root} --tries {plan.tries + 1}` gives it another"
            log(f"{state.task.id}: given up after {len(state.reasons)} tries: {state.reason}; {more}")
    log(f"{summary(fleet_rows(root, made.states))}; {root / PAGE}")
    if not made.folders:
        raise UserError(
            f"{root}: no task has episodes, so that there is no dataset; `rlgen fleet status {root}` says why"
        )
    for folder in made.folders:
        print(folder)


def _write_scripts(arguments: FleetArguments, plan: "FleetPlan") -> None:
    from rlgen.fleet.assemble import read_states, unfinished
    from rlgen.fleet.jobs import job_memory, longest_first, make_jobs
    from rlgen.fleet.launch import LaunchPlan, submit_command, write_scripts

    left = unfinished(read_states(arguments.out, plan))
    if not left:
        log(f"all jobs have ended; `rlgen fleet assemble {arguments.out}` exports the datasets")
        return
    launch = LaunchPlan(
        arguments.out.absolute(),
        longest_first(make_jobs(plan, left, arguments.jobs)),
        plan.threads,
        job_memory(plan.config, plan.together),
        cache_folder(),
        arguments.jobs,
    )
    for path in write_scripts(launch, arguments.engine):
        log(f"written: {path}")
    print(submit_command(launch.root, arguments.engine))


@dataclass(frozen=True)
class StatusArguments:
    """Options of `rlgen fleet status`."""

    path: tyro.conf.Positional[Path] = DEFAULT_OUT
    """Folder of the fleet."""
    watch: bool = False
    """Draw the table again every few seconds, until all jobs have ended."""
    estimate: tuple[str, ...] = ()
    """Suites, tasks, or all: what those that have not ended here would cost, by the costs of those that have."""
    device: Path | None = None
    """A JSON of `rlgen bench device`: the estimate says the hours on that machine as well."""


def status(argv: Sequence[str]) -> None:
    """Shows how far each task of a fleet is, and writes the page index.html into its folder."""
    arguments = parse(StatusArguments, argv, "rlgen fleet status", status.__doc__ or "")
    if arguments.device is not None and not arguments.estimate:
        raise UserError("--device says how fast a machine is; name the tasks with --estimate, such as --estimate all")
    from rich.console import Console

    from rlgen.fleet.status import PAGE, estimate_lines, show

    show(arguments.path, Console(width=None if sys.stdout.isatty() else 200, highlight=False), watch=arguments.watch)
    log(str(arguments.path / PAGE))
    for line in estimate_lines(arguments.path, arguments.estimate, arguments.device) if arguments.estimate else []:
        print(line)


@dataclass(frozen=True)
class WorkArguments:
    """Options of `rlgen fleet work`."""

    path: tyro.conf.Positional[Path]
    """Folder of the fleet."""
    task: str
    """The task, one of the plan; several with commas between them."""


def work(argv: Sequence[str]) -> None:
    """Does the work on tasks of a fleet in this process, as every engine has it done: one, or those trained together.

    It goes on where the job was. Exit code 75 says that it has to be started again.
    """
    arguments = parse(WorkArguments, argv, "rlgen fleet work", work.__doc__ or "")
    end_with_parent()
    record = read_record(arguments.path / "fleet.json")
    config = record.get("config") if isinstance(record, dict) else None
    threads = config.get("workers") if isinstance(config, dict) else None
    if isinstance(threads, int) and 0 < threads < 10_000:
        # Before anything that computes is imported; a plan that cannot be read is refused below.
        pin_threads(threads)
    prepare_process()
    from rlgen.fleet.job import AGAIN, TryAgainError
    from rlgen.fleet.jobs import find_job
    from rlgen.fleet.together import work as do

    try:
        do(arguments.path, find_job(arguments.task), cache_folder(), log)
    except TryAgainError:
        sys.exit(AGAIN)


@dataclass(frozen=True)
class AssembleArguments:
    """Options of `rlgen fleet assemble`."""

    path: tyro.conf.Positional[Path] = DEFAULT_OUT
    """Folder of the fleet."""
    wait: bool = False
    """Wait until all jobs have ended."""


def assemble(argv: Sequence[str]) -> None:
    """Exports the datasets of a fleet's tasks that are done, and writes the page, as the engines local and ray do."""
    arguments = parse(AssembleArguments, argv, "rlgen fleet assemble", assemble.__doc__ or "")
    prepare_process()
    import time

    from rlgen.fleet.assemble import read_states, unfinished
    from rlgen.fleet.plan import open_plan

    plan = open_plan(arguments.path)
    while arguments.wait and unfinished(read_states(arguments.path, plan)):
        time.sleep(30)
    _assemble(arguments.path, plan, _assets(plan, AssetOptions()))
