"""PPO from one clone with other settings: what its evaluations said, with the settings of each run.

Command:  uv run python experiments/ppo_settings.py RUN... [--out JSON]
Cost:     none; each run is `rlgen run ppo --run RUN` on a copy of a run with demonstrations and a clone, half a minute
          of a core an iteration.
Expected: what was tried while the preset `state` was chosen, failures too. Evaluations from training placements, and
          where the run came to its end the scores from the stored initial states.
"""

import argparse
import json
from pathlib import Path

from rlgen.core.files import read_json, write_json
from rlgen.libero.tasks.suites import find_task

RESULTS = Path(__file__).resolve().parent / "results" / "fleet"
RESULT, SIZE_RESULT = RESULTS / "ppo_settings.json", RESULTS / "ppo_size.json"
SETTINGS = (
    *("batch", "actor_learning_rate", "gamma", "gae_lambda", "clip", "critic_warmup", "warm_moments"),
    *("steadiness_weight", "jerk_cost", "environments"),
)
HEAD = (
    "gamma | lambda | rate | batch | clip | critic first | warm | noise | steadiness"
    " | iterations | with noise | length | jerk"
)


def main() -> None:
    """Writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    runs = [measured(run) for run in arguments.runs]
    write_json(arguments.out, {"runs": runs})


def measured(run: Path) -> dict:
    """Returns the settings of a run's PPO, and what it was at each evaluation and in its last iteration."""
    config = read_json(run / "run.json")["config"]
    lines = [json.loads(line) for line in (run / "ppo" / "metrics.jsonl").read_text().splitlines()]
    settings = {name: config["ppo"][name] for name in SETTINGS if name in config["ppo"]}
    settings["sigma_min_sample"] = config["policy"]["diffusion"]["sigma_min_sample"]
    kept = [line for line in lines if "test" in line or line is lines[-1]]
    shown = ("step", "success", "test", "control_steps", "seconds_total")
    end = run / "ppo" / "done.json"
    return {
        "task": config["task"],
        "settings": settings,
        **({"stored_states": read_json(end)["heldout"]} if end.exists() else {}),
        "iterations": [{name: line[name] for name in shown if name in line} for line in kept],
    }


def settings_table() -> str:
    """Returns a row for each run: its settings, and its last evaluation."""
    report = json.loads(RESULT.read_text())
    lines = [f"| {HEAD} |", f"| {' | '.join(['---'] * (HEAD.count('|') + 1))} |"]
    for run in report["runs"]:
        chosen, tested = run["settings"], [row for row in run["iterations"] if row.get("test")][-1]
        steady = chosen.get("steadiness_weight") or (f"reward {chosen['jerk_cost']}" if chosen.get("jerk_cost") else 0)
        lines.append(
            f"| {chosen['gamma']} | {chosen['gae_lambda']} | {chosen['actor_learning_rate']:.0e} | {chosen['batch']} "
            f"| {chosen['clip']} | {chosen['critic_warmup']} | {'yes' if chosen.get('warm_moments') else 'no'} "
            f"| {chosen['sigma_min_sample']} | {steady} | {tested['step']} | {run['iterations'][-1]['success']:.2f} "
            f"| {tested['test']['length']:.1f} | {tested['test']['mean_squared_jerk']:.0f} |"
        )
    before = report["runs"][0]["iterations"][0]["test"]
    return "\n".join(
        [*lines, "", f"The clone: {before['length']:.1f} control steps, jerk {before['mean_squared_jerk']:.0f}."]
    )


def _stored(scores: dict) -> str:
    successes = " → ".join(str(scores[actor]["successes"]) for actor in ("bc", "ppo"))
    return f"{successes} of {scores['ppo']['trials']}"


def size_table() -> str:
    """Returns a row for each run with other environments, batch or steadiness: its first and last scores."""
    names = "task | environments | batch | steadiness | control steps | success | length | jerk | stored states"
    lines = [f"| {names} |", f"| {' | '.join(['---'] * (names.count('|') + 1))} |"]
    for run in json.loads(SIZE_RESULT.read_text())["runs"]:
        task, chosen = find_task(run["task"]), run["settings"]
        first, *_, last = (row for row in run["iterations"] if row.get("test"))
        before, after = first["test"], last["test"]
        lines.append(
            f"| {task.suite}/{task.index} | {chosen['environments']} | {chosen['batch']} "
            f"| {chosen['steadiness_weight']} | {last['control_steps']:,} "
            f"| {before['successes']} → {after['successes']} of {after['trials']} "
            f"| {before['length']:.1f} → {after['length']:.1f} "
            f"| {before['mean_squared_jerk']:.0f} → {after['mean_squared_jerk']:.0f} "
            f"| {_stored(run['stored_states'])} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
