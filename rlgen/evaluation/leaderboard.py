"""Results in the layouts of allenai/vla-evaluation-harness: a file for each suite with every episode, and a row.

    leaderboard/LIBEROBenchmark_<suite>.json   as its `results/collector.py` writes a benchmark's result
    leaderboard/row.json                       as an entry of its `leaderboard.json`; whoever submits it completes it

Its episodes have no seconds: environments of a wave are stepped together. What its layout has no place for is in an
episode's `context`: the initial state, goals of other tasks that were reached, where the fixtures stood.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

from rlgen.core.files import write_json
from rlgen.evaluation.protocol import Protocol
from rlgen.evaluation.records import TrialRecord
from rlgen.libero.tasks.suites import Task

FOLDER, ROW = "leaderboard", "row.json"
STANDARD = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
"""The suites whose mean ranks an entry."""
TASKS, TRIALS = 10, 50
"""Of a standard suite, and the usual number of a task's episodes."""
METRICS = {"success": "mean"}


@dataclass(frozen=True)
class Circumstances:
    """The circumstances that a result names beside its protocol.

    Attributes:
      assets: label of the objects' assets.
      official: whether they are the benchmark's own.
    """

    assets: str
    official: bool


def write_leaderboard(
    folder: Path,
    name: str,
    protocol: Protocol,
    tasks: Sequence[Task],
    trials: Sequence[TrialRecord],
    circumstances: Circumstances,
) -> list[Path]:
    """Writes both layouts, and returns the paths.

    Args:
      folder: of the evaluation.
      name: of the policy.
      protocol: how success was measured.
      tasks: that were evaluated.
      trials: the finished ones.
      circumstances: of all of them.
    """
    now, written = datetime.now(UTC), []
    for suite in dict.fromkeys(task.suite for task in tasks):
        result = suite_result(name, protocol, [task for task in tasks if task.suite == suite], trials, circumstances)
        path = folder / FOLDER / f"{result['benchmark']}.json"
        write_json(path, {**result, "created_at": now.isoformat()})
        written.append(path)
    row = leaderboard_row(name, protocol, tasks, trials, circumstances)
    write_json(folder / FOLDER / ROW, {**row, "date_added": now.date().isoformat()})
    return [*written, folder / FOLDER / ROW]


def suite_result(
    name: str, protocol: Protocol, tasks: Sequence[Task], trials: Sequence[TrialRecord], circumstances: Circumstances
) -> dict[str, Any]:
    """Returns the result of a suite with all its episodes; `created_at` is left to the writer.

    Args:
      name: of the policy.
      protocol: how success was measured.
      tasks: of the suite.
      trials: the finished ones, of any tasks.
      circumstances: of all of them.
    """
    suite = tasks[0].suite
    rows = [_task_result(task, sorted(_of(trials, task), key=lambda trial: trial.trial)) for task in tasks]
    episodes = [episode for row in rows for episode in row["episodes"]]
    config = {
        "benchmark": "rlgen.evaluation",
        "mode": "sync",
        "subname": suite,
        "episodes_per_task": protocol.trials,
        "max_steps": tasks[0].horizon,
        "params": {"suite": suite, "seed": protocol.seed, **protocol.to_json(), "assets": circumstances.assets},
    }
    return {
        "benchmark": f"LIBEROBenchmark_{suite}",
        "mode": "sync",
        "harness_version": f"rlgen {version('rlgen')}",
        "tasks": rows,
        "config": config,
        "seed": protocol.seed,
        "metric_keys": dict(METRICS),
        "num_episodes_total": len(episodes),
        "server_info": {"policy": name},
        **_aggregates(episodes),
    }


def leaderboard_row(
    name: str, protocol: Protocol, tasks: Sequence[Task], trials: Sequence[TrialRecord], circumstances: Circumstances
) -> dict[str, Any]:
    """Returns an entry of the leaderboard in percent; `date_added` is left to the writer.

    `overall_score`, by which entries are ranked, is there only if the four suites were evaluated by the standard
    protocol; otherwise it is null, and `notes` say what differs. Arguments as of `write_leaderboard`.

    Args:
      name: of the policy.
      protocol: how success was measured.
      tasks: that were evaluated.
      trials: the finished ones.
      circumstances: of all of them.
    """
    chosen = {task.id: task.suite for task in tasks}
    suites = {
        suite: [trial.success for trial in trials if chosen.get(trial.task) == suite]
        for suite in dict.fromkeys(chosen.values())
    }
    scores = {suite: round(100 * mean(found), 2) for suite, found in suites.items() if found}
    differs = _differences(protocol, suites, circumstances)
    overall = None if differs else round(mean(scores[suite] for suite in STANDARD), 2)
    whole = all(suite in scores for suite in STANDARD)
    reported = {"reported_avg": round(mean(scores[suite] for suite in STANDARD), 2)} if differs and whole else {}
    words = [f"{protocol.trials} rollouts a task, replanned every {protocol.replan} steps", *differs]
    return {
        "model": re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"),
        "display_name": name,
        "name_in_paper": None,
        "benchmark": "libero",
        "overall_score": overall,
        "suite_scores": scores,
        "task_scores": reported,
        "reported_paper": None,
        "reported_table": None,
        "curated_by": "human",
        "notes": "; ".join(words),
        "params": None,
        "model_paper": None,
        "weight_type": "finetuned",
    }


def _differences(protocol: Protocol, suites: dict[str, list[bool]], circumstances: Circumstances) -> list[str]:
    """Returns in what an evaluation differs from the standard protocol."""
    lacking = [suite for suite in STANDARD if len(suites.get(suite, ())) < TASKS * protocol.trials]
    found = [
        (bool(lacking), f"not all of {', '.join(lacking)}"),
        (protocol.trials < TRIALS, f"fewer than {TRIALS} rollouts a task"),
        (protocol.split != "heldout", f"initial states of the split {protocol.split}"),
        (protocol.physics != "exact", f"physics {protocol.physics}"),
        (protocol.renderer != "benchmark", f"images of the renderer {protocol.renderer}, not the official pixels"),
        (protocol.fixtures != "redraw", f"fixtures {protocol.fixtures}"),
        (not circumstances.official, circumstances.assets),
    ]
    return [words for differs, words in found if differs]


def _of(trials: Sequence[TrialRecord], task: Task) -> list[TrialRecord]:
    return [trial for trial in trials if trial.task == task.id]


def _task_result(task: Task, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    episodes = [_episode(trial) for trial in trials]
    return {
        "task": task.prompt,
        "episodes": episodes,
        "num_episodes": len(episodes),
        "avg_steps": sum(trial.steps for trial in trials) / max(1, len(trials)),
        **_aggregates(episodes),
    }


def _episode(trial: TrialRecord) -> dict[str, Any]:
    context = {"task": trial.task, "initial_state": trial.initial_index, "reached": list(trial.reached)}
    context |= {} if trial.fixtures is None else {"fixtures": trial.fixtures}
    return {
        "episode_id": trial.trial,
        "metrics": {"success": trial.success},
        "steps": trial.steps,
        "context": context,
    }


def _aggregates(episodes: Sequence[dict[str, Any]]) -> dict[str, float]:
    values = [episode["metrics"]["success"] for episode in episodes]
    return {"mean_success": round(mean(values), 4)} if values else {}
