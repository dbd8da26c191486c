"""`rlgen bench eval`: an evaluation of a VLA, compared with its simulation alone and with its inference alone.

The model has fresh parameters, so that episodes go on to the horizon. One evaluation is recorded: what the model saw,
and how it acted. Then four works take turns: the whole evaluation; the same in one group, which waits for every answer;
simulation, in which recorded actions answer at once; inference on recorded observations in full batches.
"""

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rlgen.bench.serve import make_policy
from rlgen.bench.timing import describe
from rlgen.core.errors import UserError
from rlgen.core.types import Episode
from rlgen.evaluation.backends import BackendActor, InProcessBackend, PolicyBackend
from rlgen.evaluation.evaluate import Parallelism
from rlgen.evaluation.protocol import Protocol
from rlgen.libero.envs.rollouts import make_trials, stream_episodes
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.scenes.scene import Scene
from rlgen.vla.data.transforms import Sample

MEANING = {
    "whole": "seconds of an evaluation in groups",
    "one_group": "the same in one group, which waits for every answer of the model",
    "simulation": "its physics and images alone: recorded actions answer at once",
    "inference": "the model alone, on the recorded observations in full batches, with its transforms",
    "x": "whole / the slower of simulation and inference",
    "x_one_group": "likewise of one group",
    "cpu_s": "processor time of each, which other load on the machine changes less",
    "x_cpu": "the ratio of `x` in processor time: where both cores are free and always busy, `x` is as much",
}


@dataclass(frozen=True)
class EvaluationSize:
    """The size of an evaluation.

    Attributes:
      episodes: trials.
      horizon: control steps of an episode.
      batch: observations in a call of the model.
      repetitions: rounds that count, after one that does not.
    """

    episodes: int = 24
    horizon: int = 100
    batch: int = 8
    repetitions: int = 3


class _Recorder:
    """A backend that passes requests on and remembers them, or answers what was recorded."""

    name = "recorder"

    def __init__(self, backend: PolicyBackend):
        self._backend = backend
        self.samples: dict[int, Sample] = {}
        self.actions: dict[int, Float[np.ndarray, "H 7"]] = {}
        self.replays = False

    def __call__(self, samples: Sequence[Sample], seeds: Sequence[int]) -> Float[np.ndarray, "N H 7"]:
        """Returns the actions of each sample; a seed belongs to one chunk of one episode."""
        if not self.replays:
            self.samples |= zip(seeds, samples, strict=True)
            self.actions |= zip(seeds, self._backend(samples, seeds), strict=True)
        return np.stack([self.actions[seed] for seed in seeds])

    def close(self) -> None:
        """Does nothing: the backend belongs to the caller."""

    def abort(self) -> None:
        """Does nothing, likewise."""


def run(
    scene: Scene,
    preset: str,
    size: EvaluationSize,
    protocol: Protocol,
    parallelism: Parallelism,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Measures an evaluation and its parts, and returns the report as JSON values.

    Args:
      scene: of all trials.
      preset: name of the model.
      size: of the evaluation.
      protocol: images, physics, fixtures and actions a chunk.
      parallelism: environments, groups and threads.
      log: called with a line after each round.
    """
    # One size of calls, as `rlgen eval` has it: the model's bits may depend on it.
    backend = InProcessBackend(replace(make_policy(preset, size.batch), buckets=False), preset)
    recorder = _Recorder(backend)
    one = Parallelism(parallelism.environments, 1, parallelism.threads)
    with RenderPool(scene, protocol.renderer, image_size=protocol.image_size, workers=parallelism.threads) as pool:

        def evaluate(chosen: PolicyBackend, side_by_side: Parallelism) -> list[Episode]:
            stream = stream_episodes(
                scene,
                BackendActor(chosen, scene.task.prompt, pool.render, protocol.replan),
                make_trials(size.episodes, len(scene.stored_states), seed=protocol.seed),
                split="heldout",
                source="policy",
                width=side_by_side.environments,
                groups=side_by_side.groups,
                threads=side_by_side.threads,
                physics=protocol.physics,
                fixtures=protocol.fixtures,
                horizon=size.horizon,
            )
            with closing(stream) as episodes:
                return list(episodes)

        expected = evaluate(recorder, parallelism)
        recorder.replays = True
        requests = list(recorder.samples.items())
        works: dict[str, Callable[[], Any]] = {
            "whole": lambda: evaluate(backend, parallelism),
            "one_group": lambda: evaluate(backend, one),
            "simulation": lambda: evaluate(recorder, parallelism),
            "inference": lambda: _infer(backend, requests, size.batch),
        }
        report = _take_turns(works, size.repetitions, log)
        check_equal(expected, works["one_group"]())
    parts = report["simulation"], report["inference"]
    slower, slower_cpu = (max(part[kind] for part in parts) for kind in ("seconds", "cpu_s"))
    steps = sum(map(len, expected))
    return {
        **describe(),
        "preset": preset,
        "meaning": MEANING,
        "setup": {**vars(size), **vars(parallelism), "protocol": protocol.to_json(), "task": scene.task.id},
        "control_steps": steps,
        "chunks": len(requests),
        "load": os.getloadavg()[0],
        **report,
        "x": report["whole"]["seconds"] / slower,
        "x_one_group": report["one_group"]["seconds"] / slower,
        "x_cpu": report["whole"]["cpu_s"] / slower_cpu,
    }


def check_equal(expected: Sequence[Episode], found: Sequence[Episode]) -> None:
    """Raises a `UserError` where two evaluations of the same trials took different paths."""
    for index, (one, other) in enumerate(zip(expected, found, strict=True)):
        if not (np.array_equal(one.states, other.states) and np.array_equal(one.actions, other.actions)):
            raise UserError(
                f"episode {index} differs between groups: the model's answers depend on the rows beside them; "
                "evaluate with --groups 1, and report the device"
            )


def _infer(backend: PolicyBackend, requests: Sequence[tuple[int, Sample]], batch: int) -> None:
    for start in range(0, len(requests), batch):
        seeds, samples = zip(*requests[start : start + batch], strict=True)
        backend(samples, seeds)


def _take_turns(
    works: dict[str, Callable[[], Any]], repetitions: int, log: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Times works in turns; a round that does not count comes first."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    processor: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(1 + repetitions):
        for name, work in works.items():
            start, cpu = time.perf_counter(), time.process_time()
            work()
            if round_:
                seconds[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - cpu)
        if round_:
            log(f"round {round_}: " + ", ".join(f"{name} {each[-1]:.2f} s" for name, each in seconds.items()))
    return {
        name: {
            "seconds": statistics.median(seconds[name]),
            "low": min(seconds[name]),
            "high": max(seconds[name]),
            "cpu_s": statistics.median(processor[name]),
        }
        for name in works
    }


def estimate_minutes(
    *,
    episodes: int,
    control_steps: float,
    replan: int,
    step_cpu_s: float,
    cores: int,
    call_s: float,
    batch: int,
    overhead: float = 1.0,
) -> float:
    """Estimates the minutes of an evaluation on a machine from what was measured of its parts.

    Simulation takes the cores, inference an accelerator beside them; the slower one decides.

    Args:
      episodes: of all tasks.
      control_steps: of an episode, on average.
      replan: actions of a chunk that are executed.
      step_cpu_s: processor seconds of a control step with its share of images, on one core.
      cores: that simulate.
      call_s: seconds of a call of the model.
      batch: observations in it.
      overhead: how many times the slower part the whole takes.
    """
    simulation = episodes * control_steps * step_cpu_s / cores
    calls = math.ceil(episodes * math.ceil(control_steps / replan) / batch)
    return overhead * max(simulation, calls * call_s) / 60


def estimate(report: dict[str, Any], device: Path, *, cores: int, episodes: int = 2000) -> dict[str, float]:
    """Estimates an evaluation with a published model on an accelerator, whose figures `rlgen bench device` has stored.

    Args:
      report: of `run`, whose simulation is taken from it.
      device: the file `device.json`.
      cores: of the machine with the accelerator, each as fast as one here.
      episodes: of all tasks.

    Returns:
      Minutes for each model and batch that was measured, by name.

    Raises:
      UserError: no such figures in the file.
    """
    try:
        parts = json.loads(Path(device).read_text())["parts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{device}: no report of `rlgen bench device`; give its device.json") from error
    step = report["simulation"]["cpu_s"] / report["control_steps"]
    steps = report["control_steps"] / report["setup"]["episodes"]
    found = {}
    for name, part in parts.items():
        for batch, timings in part.get("figures", {}).items():
            if batch.startswith("batch ") and isinstance(timings, dict) and "10" in timings:
                found[f"{name}, {batch}"] = estimate_minutes(
                    episodes=episodes,
                    control_steps=steps,
                    replan=report["setup"]["protocol"]["replan"],
                    step_cpu_s=step,
                    cores=cores,
                    call_s=timings["10"]["seconds"],
                    batch=int(batch.removeprefix("batch ")),
                    overhead=max(1.0, report["x"]),
                )
    if not found:
        raise UserError(f"{device}: no figures of sampling; run `rlgen bench device --parts` with one that samples")
    return found
