"""The tables of experts: scripted ones, PPO, its ablations, and the speed of its parts."""

import json

from table_parts import RESULTS
from vla_tables import instruction

SEEDS_HEAD = "seeds | cloned | after PPO (lower end) | iterations | minutes"


def expert_rows() -> dict[str, dict]:
    """Returns what the survey measured of each task, by `<suite>/<name>`."""
    return json.loads((RESULTS / "scripted_expert.json").read_text())


def expert_table() -> str:
    """Returns the scripted expert's results, suite by suite."""
    suites: dict[str, list[dict]] = {}
    for task, row in expert_rows().items():
        suites.setdefault(task.split("/")[0], []).append(row)
    rows = ["| suite | tasks | 50 demonstrations | success >= 80 % | successes | trials for 50 | length | seconds |"]
    rows.append("| --- |" + " --- |" * 7)
    for suite, tasks in suites.items():
        reached = [task["attempts_for_50"] for task in tasks if task["attempts_for_50"] is not None]
        good = sum(task["successes"] >= 0.8 * task["trials"] for task in tasks)
        total = sum(task["successes"] for task in tasks), sum(task["trials"] for task in tasks)
        lengths = [task["mean_length"] for task in tasks if task["mean_length"] is not None]
        cells = (len(tasks), len(reached), good, f"{total[0]}/{total[1]}", mean(reached), mean(lengths))
        seconds = mean([task["seconds"] / task["attempts"] for task in tasks], 1)
        rows.append(f"| {suite} | {' | '.join(map(str, cells))} | {seconds} |")
    return "\n".join(rows)


def mean(values: list[float], digits: int = 0) -> str:
    """Returns the mean of some values as text."""
    return f"{sum(values) / len(values):.{digits}f}" if values else "-"


def expert_failures() -> str:
    """Returns the tasks below 80 % of the stored states, or short of 50 demonstrations, with the reason."""
    reasons = json.loads((RESULTS / "scripted_expert_below.json").read_text())
    rows = ["| task | successes | trials for 50 | reason |", "| --- | --- | --- | --- |"]
    for task, row in expert_rows().items():
        if row["attempts_for_50"] is None or row["successes"] < 0.8 * row["trials"]:
            trials = row["attempts_for_50"] or "not reached"
            rows.append(f"| {task} | {row['successes']}/{row['trials']} | {trials} | {reasons[task]} |")
    return "\n".join(rows) if len(rows) > 2 else "None of the tasks measured so far."


def sampler_table() -> str:
    """Returns the milliseconds from observations to chunks of 16 actions, and the fraction of the peak rate at 500."""
    report = json.loads((RESULTS / "speed" / "sampler.json").read_text())
    batches = sorted({row["batch"] for row in report["rows"]})
    heads = [f"batch {batch}, ms" for batch in batches]
    rows = [f"| sampler | steps | {' | '.join(heads)} | fraction of the matrix rate |", "| --- |" + " --- |" * 5]
    cases: dict[tuple, dict] = {}
    for row in report["rows"]:
        if row["chunk"] == 16:
            cases.setdefault((row["sampler"], row["steps"], row["noise"]), {})[row["batch"]] = row
    for (name, steps, noise), found in cases.items():
        times = " | ".join(f"{1000 * found[batch]['seconds']:.1f}" for batch in batches)
        share = found[batches[-1]]["share_of_matmul"]
        rows.append(f"| {name}{' with noise' if noise else ''} | {steps} | {times} | {share:.2f} |")
    return "\n".join(rows)


def update_table() -> str:
    """Returns the seconds of loss and gradient, by the pairs of a minibatch and of a microbatch."""
    report = json.loads((RESULTS / "speed" / "update.json").read_text())
    rows = ["| pairs | microbatch | seconds | range |", "| --- | --- | --- | --- |"]
    for row in report["rows"]:
        times = f"{row['seconds']:.2f} | {row['low']:.2f} to {row['high']:.2f}"
        rows.append(f"| {row['batch']} | {row['part']} | {times} |")
    return "\n".join(rows)


def overlap_table() -> str:
    """Returns the seconds of an iteration of both presets with one and with two groups of environments."""
    report = json.loads((RESULTS / "speed/overlap.json").read_text())
    lines = [
        "| preset | groups | iteration, s | environments and rendering, s | sampler and update, s |",
        "|" + " --- |" * 5,
    ]
    for preset in ("state", "narrow"):
        for groups, parts in report[preset].items():
            worlds = parts["environment"]["median"] + parts["rendering"]["median"]
            cells = [preset, groups, _seconds(parts["total"]), f"{worlds:.1f}", _seconds(parts["accelerator"])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _seconds(value: dict) -> str:
    return f"{value['median']:.1f} ({value['low']:.1f} to {value['high']:.1f})"


def learning_table(folder: str) -> str:
    """Returns the success on the stored initial states before and after PPO, for each seed."""
    rows = [f"| task | algorithm | {SEEDS_HEAD} |", "| --- | --- | --- | --- | --- | --- | --- |"]
    found = learned(folder)
    for task in dict.fromkeys(run["task"] for run in found):
        for algorithm in ("diffusion", "gaussian"):
            runs = [run for run in found if (run["task"], run["algorithm"]) == (task, algorithm)]
            if runs:
                rows.append(f"| `{task.split('/')[0]}`: {instruction(task)} | {algorithm} | {seeds(runs)} |")
    return "\n".join(rows)


def broken_off_table() -> str:
    """Returns the same for every variant of the ablations of clones that were broken off."""
    rows = [f"| ablation | variant | {SEEDS_HEAD} |", "| --- | --- | --- | --- | --- | --- | --- |"]
    found = learned("ablations/broken_off")
    for name, variant in dict.fromkeys((run["ablation"], run["variant"]) for run in found):
        runs = [run for run in found if (run["ablation"], run["variant"]) == (name, variant)]
        rows.append(f"| {name} | {variant} | {seeds(runs)} |")
    return "\n".join(rows)


def curves_table(folder: str, names: tuple[str, ...]) -> str:
    """Returns the successes on 50 training reset states at every evaluation of PPO.

    Args:
      folder: of the results.
      names: keys of a run's JSON that tell the runs apart, beside the seed.
    """
    head = f"{' | '.join(names)} | seed | with noise, first iteration | scored every | successes of 50"
    rows = [f"| {head} |", "| --- |" + " --- |" * (3 + len(names))]
    for file in sorted((RESULTS / folder).glob("*.json")):
        run = json.loads(file.read_text())
        lines = [json.loads(line) for line in file.with_suffix(".jsonl").read_text().splitlines()]
        tests = [line["test"] for line in lines if "test" in line]
        assert all(test["trials"] == 50 for test in tests)
        run_names = [instruction(run[name]) if name == "task" else run[name] for name in names]
        success, every = f"{100 * lines[1]['success']:.0f} %", run["config"]["ppo"]["evaluate_every"]
        scores = ", ".join(str(test["successes"]) for test in tests)
        rows.append(f"| {' | '.join(map(str, (*run_names, run['seed'], success, every, scores)))} |")
    return "\n".join(rows)


def learned(folder: str) -> list[dict]:
    """Returns every run of `folder`, as `experiments/learning.py` sums it up."""
    return [json.loads(file.read_text()) for file in sorted((RESULTS / folder).glob("*.json"))]


def seeds(runs: list[dict]) -> str:
    """Returns the columns of `SEEDS_HEAD`, with an entry for every seed."""
    runs = sorted(runs, key=lambda run: run["seed"])
    scores = [run["final"] for run in runs]
    columns = [
        [str(run["seed"]) for run in runs],
        [f"{run['bc']['successes']}/{run['bc']['trials']}" for run in runs],
        [f"{score['successes']}/{score['trials']} ({100 * score['low']:.0f} %)" for score in scores],
        [str(run["iterations"]) for run in runs],
        [f"{run['seconds'] / 60:.0f}" for run in runs],
    ]
    return " | ".join(", ".join(column) for column in columns)
