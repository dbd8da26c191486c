"""`rlgen bench`: seconds and rates on this machine, as JSON."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rlgen.cli.common import (
    AssetGroup,
    AssetOptions,
    Renderer,
    check_report,
    cores,
    log,
    parse,
    print_report,
)
from rlgen.configs.ranges import (
    Batch,
    Chunk,
    Count,
    Environments,
    Milliseconds,
    Natural,
    Pixels,
    Range,
    Settings,
    Workers,
)
from rlgen.core.errors import UserError
from rlgen.core.ownership import only_writer
from rlgen.core.process import cache_folder, prepare_process
from rlgen.vla.model.config import Cameras, Remat


@dataclass(frozen=True)
class EnvArguments(Settings):
    """Options of `rlgen bench env`."""

    json: Path | None = None
    """File for the report."""
    workers: Workers = field(default_factory=cores)
    """Threads that step environments."""
    objects: AssetGroup = field(default_factory=AssetOptions)


def bench_env(argv: Sequence[str]) -> None:
    """Measures control steps and images per second, compared with the benchmark's own environment."""
    arguments = parse(EnvArguments, argv, "rlgen bench env", bench_env.__doc__ or "")
    check_report(arguments.json, "machine", "suites", "pictures")
    from rlgen.bench import env

    report = env.run(arguments.objects.find(), cache_folder(), threads=arguments.workers, log=log)
    print_report(report, arguments.json)


@dataclass(frozen=True)
class RepeatedArguments(Settings):
    """Options of benchmarks that repeat small cases."""

    json: Path | None = None
    """File for the report."""
    repetitions: Count = 10
    """Timed runs of each case."""
    quick: bool = False
    """The smallest cases, to try."""


def bench_sampler(argv: Sequence[str]) -> None:
    """Measures the seconds of every sampler, by steps, batch and chunk."""
    arguments = parse(RepeatedArguments, argv, "rlgen bench sampler", bench_sampler.__doc__ or "")
    check_report(arguments.json, "device", "rows", "ddim5_over_ddpm100")
    prepare_process()
    from rlgen.bench import samplers

    report = samplers.run(repetitions=arguments.repetitions, quick=arguments.quick, log=log)
    print_report(report, arguments.json)


def bench_update(argv: Sequence[str]) -> None:
    """Measures the seconds of PPO's loss and gradient, and the memory of an update on images."""
    arguments = parse(RepeatedArguments, argv, "rlgen bench update", bench_update.__doc__ or "")
    check_report(arguments.json, "device", "rows", "reference_case")
    prepare_process()
    from rlgen.bench import updates

    report = updates.run(repetitions=arguments.repetitions, quick=arguments.quick, log=log)
    print_report(report, arguments.json)


@dataclass(frozen=True)
class DatasetArguments:
    """Options of `rlgen bench dataset`."""

    json: Path | None = None
    """File for the report."""
    quick: bool = False
    """Tiny sizes, to try."""


def bench_dataset(argv: Sequence[str]) -> None:
    """Measures writing and loading of datasets, compared with tensorflow_datasets and TensorFlow."""
    arguments = parse(DatasetArguments, argv, "rlgen bench dataset", bench_dataset.__doc__ or "")
    check_report(arguments.json, "machine", "setup", "meaning")
    from rlgen.bench import dataset

    tiny = {"episodes": 4, "steps": 20, "size": 64, "resized": 32, "batches": 2, "batch": 8, "repetitions": 1}
    print_report(dataset.run(dataset.SETUP | (tiny if arguments.quick else {}), log), arguments.json)


@dataclass(frozen=True)
class VlaArguments(Settings):
    """Options of `rlgen bench vla`."""

    preset: str = "small"
    """Model."""
    json: Path | None = None
    """File for the report."""
    cameras: Cameras = 2
    """Images of the model: LIBERO's two, or the published models' three, whose third is masked."""
    data: Path | None = None
    """Dataset folder; synthetic JPEGs by default."""
    batch: Batch | None = None
    """Frames a step; the recipe's by default."""
    accumulate: Count = 1
    """Parts of a batch."""
    trainable: Literal["all", "lora", "expert"] | None = None
    """Parameters that are trained; the recipe's by default."""
    moments: Literal["float32", "bfloat16"] = "float32"
    """Type of AdamW's first moment."""
    ema: bool = True
    """Keep averaged parameters where the recipe does."""
    remat: Remat = True
    """Recompute in the backward pass, in models that are not small; products: all but products with weights."""
    augment: bool = True
    """Augment images where the recipe does."""
    optimizer_steps: Count = 20
    """Optimizer steps of a block."""
    fsdp: Count = 1
    """Devices that share each parameter."""
    workers: Workers = field(default_factory=cores)
    """Threads that decode."""


def bench_vla(argv: Sequence[str]) -> None:
    """Measures training steps of a model: time, tokens per second, utilization, waiting for data."""
    arguments = parse(VlaArguments, argv, "rlgen bench vla", bench_vla.__doc__ or "")
    check_report(arguments.json, "preset", "device", "tokens_per_s")
    prepare_process()
    from rlgen.bench import vla
    from rlgen.data.frames import open_frames
    from rlgen.vla.model import presets
    from rlgen.vla.training.config import recipe

    name = arguments.preset
    config, train = presets.with_cameras(presets.preset(name), arguments.cameras), recipe(name)
    config = dataclasses.replace(config, remat=name not in presets.SMALL and arguments.remat)
    changes = {key: getattr(arguments, key) for key in ("batch", "trainable") if getattr(arguments, key) is not None}
    changes |= {} if arguments.ema else {"ema": None}
    changes |= {} if arguments.augment else {"augment": False}
    try:
        train = dataclasses.replace(train, accumulate=arguments.accumulate, moments=arguments.moments, **changes)
    except ValueError as error:
        raise UserError(str(error)) from error
    frames = None if arguments.data is None else open_frames(arguments.data, size=config.image_size)
    options = {"steps": arguments.optimizer_steps, "fsdp": arguments.fsdp, "threads": arguments.workers}
    print_report(vla.run(name, config, train, frames=frames, log=log, **options), arguments.json)


@dataclass(frozen=True)
class BenchServeArguments(Settings):
    """Options of `rlgen bench serve`."""

    preset: str = "tiny"
    """Model, with fresh parameters."""
    json: Path | None = None
    """File for the report."""
    clients: Workers = 8
    """Clients at once."""
    requests: Count = 1000
    """Requests of all clients."""
    batch: Batch = 8
    """Observations in a call of the model at most."""
    batch_window_ms: Milliseconds = 0.0
    """Milliseconds in which requests behind the first share a call of the model, where it is idle."""
    starts: Natural = 0
    """Starts of a server's process with a full compile cache to measure, to its first answer; also one with none."""


def bench_serve(argv: Sequence[str]) -> None:
    """Measures a policy server under load: answers and latencies, while one more client sends garbage."""
    arguments = parse(BenchServeArguments, argv, "rlgen bench serve", bench_serve.__doc__ or "")
    check_report(arguments.json, "preset", "device", "requests")
    prepare_process()
    from rlgen.bench.serve import run_preset

    counts = {"clients": arguments.clients, "requests": arguments.requests, "batch": arguments.batch}
    options = {"window_ms": arguments.batch_window_ms, "starts": arguments.starts}
    print_report(run_preset(arguments.preset, **counts, **options), arguments.json)


@dataclass(frozen=True)
class BenchEvalArguments(Settings):
    """Options of `rlgen bench eval`."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[TASK]")] = "libero_object/6"
    """Suite and index."""
    preset: str = "small"
    """Model, with fresh parameters."""
    json: Path | None = None
    """File for the report."""
    episodes: Count = 24
    """Episodes of a round."""
    steps: Count = 100
    """Control steps of an episode."""
    batch: Batch = 8
    """Observations in a call of the model."""
    replan: Chunk = 5
    """Actions that are executed of a chunk."""
    image_size: Pixels = 256
    """Height and width of the rendered images, pixels."""
    renderer: Renderer = "fast"
    """fast needs no GL library; benchmark renders the official pixels."""
    environments: Environments = 24
    """Environments that play at once."""
    groups: Environments = 3
    """Groups in which they take turns."""
    repetitions: Count = 3
    """Rounds, after one that does not count."""
    device: Path | None = None
    """device.json of `rlgen bench device`: also estimates 2,000 episodes beside that accelerator."""
    device_cores: Count = 16
    """Cores that simulate beside it, each as fast as one of this machine."""
    workers: Workers = field(default_factory=cores)
    """Threads that step environments, and as many that render."""
    objects: AssetGroup = field(default_factory=AssetOptions)


def bench_eval(argv: Sequence[str]) -> None:
    """Measures an evaluation of a VLA, compared with its simulation alone and its inference alone."""
    arguments = parse(BenchEvalArguments, argv, "rlgen bench eval", bench_eval.__doc__ or "")
    check_report(arguments.json, "preset", "device", "simulation")
    prepare_process()
    from rlgen.evaluation import speed
    from rlgen.evaluation.evaluate import Parallelism
    from rlgen.evaluation.protocol import Protocol
    from rlgen.libero.scenes.bundles import load_scene

    size = speed.EvaluationSize(arguments.episodes, arguments.steps, arguments.batch, arguments.repetitions)
    protocol = Protocol(replan=arguments.replan, image_size=arguments.image_size, renderer=arguments.renderer)
    side_by_side = Parallelism(arguments.environments, arguments.groups, arguments.workers)
    scene = load_scene(arguments.task, arguments.objects.find(), cache_folder())
    report = speed.run(scene, arguments.preset, size, protocol, side_by_side, log)
    if arguments.device is not None:
        report["estimated_minutes"] = speed.estimate(report, arguments.device, cores=arguments.device_cores)
    print_report(report, arguments.json)


@dataclass(frozen=True)
class DeviceArguments(Settings):
    """Options of `rlgen bench device`."""

    out: Path
    """Folder for device.json and the figures of each part; the same command goes on with parts that are missing."""
    minutes: Annotated[float, Range(0, 1440, above=True)] = 8.0
    """Of all parts; what is not begun by then is left out."""
    parts: tuple[str, ...] = ()
    """Names of the parts to measure; all by default, most important first."""
    dry_run: bool = False
    """Run every part in tiny sizes, on any machine, to see that it would work."""
    scenes: Path | None = None
    """Folder of scene bundles, for machines without the benchmark; the cache by default."""
    workers: Workers = field(default_factory=cores)
    """Threads that step environments, render and decode."""
    objects: AssetGroup = field(default_factory=AssetOptions)


def bench_device(argv: Sequence[str]) -> None:
    """Measures all that is claimed of an accelerator, in parts with time limits, into one JSON.

    A part that fails says so in one line, and the others go on.
    """
    arguments = parse(DeviceArguments, argv, "rlgen bench device", bench_device.__doc__ or "")
    prepare_process()
    from rlgen.bench.device.plan import find_parts
    from rlgen.bench.device.record import Setup
    from rlgen.bench.device.run import REPORT, run

    setup = Setup(
        dry_run=arguments.dry_run,
        threads=arguments.workers,
        scenes=None if arguments.scenes is None else str(arguments.scenes),
        assets=None if arguments.objects.assets is None else str(arguments.objects.assets),
        placeholders=arguments.objects.placeholders,
    )
    parts = find_parts(arguments.parts)
    with only_writer(arguments.out):
        report = run(arguments.out, parts, setup, minutes=arguments.minutes, log=log)
    done = sum(report["parts"].get(part.name, {}).get("done", False) for part in parts)
    print(f"{arguments.out / REPORT}: {done} of {len(parts)} parts done")
