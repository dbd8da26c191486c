"""The README's tables, made from the committed results.

Command:  uv run python experiments/tables.py           prints them
          uv run python experiments/tables.py --write   puts them between the README's markers
Cost:     none.
"""

import argparse
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
SEEDS_HEAD = "seeds | cloned | after PPO (low end) | iterations | minutes"
ACTORS = ("demonstrator", "bc", "ppo", "vla")
DATASET_ROWS = {
    "write": "writing, steps/s",
    "load": "loading, frames/s: decoded and resized (Lanczos) every time",
    "load_linear": "the same, resized linearly",
    "load_plain": "the same, tfds by its own `as_dataset`",
    "load_later_epochs": "Lanczos, later epochs: ours keeps decoded pictures, tfds decodes again",
    "load_both_cached": "both keep decoded pictures",
}


def main() -> None:
    """Prints or writes every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="rewrite README.md")
    tables = {
        "quickstart": quickstart_table(),
        "quality": quality_table(),
        "demonstrator": demonstrator_table(),
        "demonstrator-below": demonstrator_below(),
        "speed": speed_table(),
        "pictures": images_table(),
        "memory": memory_table(),
        "dataset": dataset_table(),
        "exported": exported_table(),
        "sampler": sampler_table(),
        "update": update_table(),
        "learning": learning_table("learning"),
        "learning-shorter": learning_table("learning/iterations-50"),
        "learning-slower": learning_table("learning/actor-rate-5e-5"),
        "learning-preset": learning_table("learning/preset-state"),
        "learning-pictures": learning_table("learning/pictures"),
        "learning-coarse": learning_table("learning/gaussian-coarse"),
        "ablations": ablations_table(),
        "vla": vla_table(),
        "vla-speed": vla_speed_table(),
    }
    if not parser.parse_args().write:
        print("\n\n".join(tables.values()))
        return
    readme = ROOT / "README.md"
    readme.write_text(with_tables(readme.read_text(), tables))


def with_tables(text: str, tables: dict[str, str]) -> str:
    """`text` with what lies between `<!-- name -->` and `<!-- /name -->` replaced by the tables."""
    for name, table in tables.items():
        block = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, block=block: block, text, flags=re.S)
    return text


def summaries() -> dict[str, dict]:
    """Every committed quickstart by its name."""
    files = sorted((RESULTS / "quickstart").glob("*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}


def rate(value: dict) -> str:
    """`45/50 (79-96 %)`."""
    return f"{value['successes']}/{value['trials']} ({100 * value['low']:.0f}-{100 * value['high']:.0f} %)"


def quickstart_table() -> str:
    """Success on the stored initial states, and minutes."""
    rows = ["| run | demonstrator | BC | PPO | VLA | minutes |", "| --- | --- | --- | --- | --- | --- |"]
    for name, summary in summaries().items():
        cells = [rate(summary[actor]) for actor in ACTORS]
        minutes = sum(summary["seconds"].values()) / 60
        rows.append(f"| {name} | {' | '.join(cells)} | {minutes:.1f} |")
    return "\n".join(rows)


def quality_table() -> str:
    """Demonstrations beside RL data."""
    rows = ["| run | source | no-ops | length | mean squared jerk, m²/s⁶ | spread of the y action |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for name, summary in summaries().items():
        for source, value in summary["quality"].items():
            jerk, spread = value["mean_squared_jerk"]["mean"], value["action_spread"][1]
            length = value["length"]["mean"]
            rows.append(f"| {name} | {source} | {value['noops']} | {length:.0f} | {jerk:.1f} | {spread:.3f} |")
    return "\n".join(rows)


def demonstrator_rows() -> dict[str, dict]:
    """What was measured of each task, by `<suite>/<name>`."""
    return json.loads((RESULTS / "demonstrator.json").read_text())


def demonstrator_table() -> str:
    """How the scripted demonstrator does, suite by suite."""
    suites: dict[str, list[dict]] = {}
    for task, row in demonstrator_rows().items():
        suites.setdefault(task.split("/")[0], []).append(row)
    rows = ["| suite | tasks | 50 demonstrations | success >= 80 % | successes | attempts for 50 | length | seconds |"]
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
    """Of some values, as text."""
    return f"{sum(values) / len(values):.{digits}f}" if values else "-"


def demonstrator_below() -> str:
    """Tasks of which fewer than 80 % of the stored states succeed, or 50 demonstrations are not reached."""
    reasons = json.loads((RESULTS / "demonstrator_below.json").read_text())
    rows = ["| task | successes | attempts for 50 | reason |", "| --- | --- | --- | --- |"]
    for task, row in demonstrator_rows().items():
        if row["attempts_for_50"] is None or row["successes"] < 0.8 * row["trials"]:
            attempts = row["attempts_for_50"] or "not reached"
            rows.append(f"| {task} | {row['successes']}/{row['trials']} | {attempts} | {reasons[task]} |")
    return "\n".join(rows) if len(rows) > 2 else "None of the tasks measured so far."


def world(name: str) -> dict:
    """A committed measurement of the world."""
    return json.loads((RESULTS / "world" / f"{name}.json").read_text())


def speed_table() -> str:
    """Control steps a second of one thread, a task of each suite."""
    report = world("environments")
    rows = ["| suite | benchmark | exact | fast | raw `mj_step` | exact / benchmark | fast / benchmark | fast / raw |"]
    rows.append("| --- |" + " --- |" * 7)
    for suite, value in report["suites"].items():
        official, exact, fast, raw = (value[name] for name in ("official", "exact", "fast", "raw"))
        ratios = f"{exact / official:.1f} | {fast / official:.1f} | {fast / raw:.2f}"
        rows.append(f"| {suite} | {official:.0f} | {exact:.0f} | {fast:.0f} | {raw:.0f} | {ratios} |")
    mean = report["mean"]
    ratios = f"{mean['exact_x']:.1f} | {mean['fast_x']:.1f} | {mean['fast_of_raw']:.2f}"
    rows.append(f"| mean of the ratios | | | | | {ratios} |")
    return "\n".join(rows)


def images_table() -> str:
    """Pictures a second of one thread, and control steps a second with a policy that looks."""
    report = world("environments")
    size, vision = report["pictures"]["size"], report["vision"]
    rows = ["| | a second | times the benchmark's |", "| --- | --- | --- |"]
    for view in ("official", "benchmark", "fast"):
        value = report["pictures"][view]
        rows.append(f"| pictures of {size}², {view} view | {value['per_second']:.1f} | {value['x']:.1f} |")
    rows.append(f"| control steps, two cameras every 8 steps, official | {vision['official']:.1f} | 1.0 |")
    rows.append(f"| control steps, two cameras every 8 steps, fast view | {vision['ours']:.0f} | {vision['x']:.0f} |")
    return "\n".join(rows)


def memory_table() -> str:
    """Megabytes of a pool of 64 environments."""
    rows = [
        "| pool | models and initial states, MB | environments, MB | an environment, MB |",
        "| --- |" + " --- |" * 3,
    ]
    for name, value in world("pool_memory").items():
        cells = (value["scenes_mb"], value["pool_mb"], value["per_environment_mb"])
        rows.append(f"| {name} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")
    return "\n".join(rows)


def dataset_table() -> str:
    """Writing and loading, `tensorflow_datasets` and TensorFlow beside ours."""
    report = json.loads((RESULTS / "dataset" / "bench.json").read_text())
    rows = ["| | ours | spread | tfds | spread | times | ours, MB | tfds, MB |", "| --- |" + " --- |" * 7]
    for key, name in DATASET_ROWS.items():
        value, memory = report[key], report["memory_mb"][key]
        sides = [f"{value[side]:.0f} | {_spread(value['spread'][side])}" for side in ("ours", "tfds")]
        held = " | ".join(f"{memory[side]:.0f}" for side in ("ours", "tfds"))
        rows.append(f"| {name} | {' | '.join(sides)} | {value['x']:.2f} | {held} |")
    return "\n".join(rows)


def sampler_table() -> str:
    """Milliseconds from observations to chunks of 16 actions, and the share of the device's own rate at 500."""
    report = json.loads((RESULTS / "speed" / "sampler.json").read_text())
    batches = sorted({row["batch"] for row in report["rows"]})
    heads = [f"batch {batch}, ms" for batch in batches]
    rows = [f"| sampler | steps | {' | '.join(heads)} | share of the matrix rate |", "| --- |" + " --- |" * 5]
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
    """Loss and gradient by the size of a minibatch and of the parts that are differentiated at a time."""
    report = json.loads((RESULTS / "speed" / "update.json").read_text())
    rows = ["| pairs | at a time | seconds | least to most |", "| --- | --- | --- | --- |"]
    for row in report["rows"]:
        times = f"{row['seconds']:.2f} | {row['low']:.2f} to {row['high']:.2f}"
        rows.append(f"| {row['batch']} | {row['part']} | {times} |")
    return "\n".join(rows)


def learning_table(folder: str) -> str:
    """Stored initial states before and after PPO, a cell for each seed."""
    rows = [f"| task | algorithm | {SEEDS_HEAD} |", "| --- | --- | --- | --- | --- | --- | --- |"]
    told = learned(folder)
    for task in dict.fromkeys(run["task"] for run in told):
        for algorithm in ("diffusion", "gaussian"):
            runs = [run for run in told if (run["task"], run["algorithm"]) == (task, algorithm)]
            if runs:
                rows.append(f"| `{task.split('/')[0]}`: {instruction(task)} | {algorithm} | {seeds(runs)} |")
    return "\n".join(rows)


def ablations_table() -> str:
    """The same for every variant of every ablation."""
    rows = [f"| ablation | variant | {SEEDS_HEAD} |", "| --- | --- | --- | --- | --- | --- | --- |"]
    told = learned("ablations")
    for name, variant in dict.fromkeys((run["ablation"], run["variant"]) for run in told):
        runs = [run for run in told if (run["ablation"], run["variant"]) == (name, variant)]
        rows.append(f"| {name} | {variant} | {seeds(runs)} |")
    return "\n".join(rows)


def learned(folder: str) -> list[dict]:
    """Every run of `folder`, as `experiments/learning.py` sums it up."""
    return [json.loads(file.read_text()) for file in sorted((RESULTS / folder).glob("*.json"))]


def seeds(runs: list[dict]) -> str:
    """The columns of `SEEDS_HEAD`, a part of each for every seed."""
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


def instruction(task: str) -> str:
    """What a task's name says is to be done, without its scene."""
    return task.split("/")[1].rpartition("SCENE")[2].lstrip("0123456789_").replace("_", " ")


def vla_table() -> str:
    """A model of each source of data: its loss on held-out episodes, and its success on the stored initial states."""
    sources = json.loads((RESULTS / "vla" / "closed_loop.json").read_text())["sources"]
    tasks = [task for task in next(iter(sources.values()))["success"] if task != "all"]
    names = [instruction(task) for task in tasks]
    rows = [f"| data | held-out loss, first to last | {' | '.join(names)} |", "| --- | --- |" + " --- |" * len(tasks)]
    for name, told in sources.items():
        losses = [told["validation_loss"][step] for step in sorted(told["validation_loss"], key=int)]
        cells = " | ".join(rate(told["success"][task]) for task in tasks)
        rows.append(f"| {name} | {losses[0]:.3f} to {losses[-1]:.3f} | {cells} |")
    return "\n".join(rows)


def vla_speed_table() -> str:
    """Training steps of the small presets."""
    head = "| preset | batch | step, s | tokens/s | share of the matrix rate | waiting for data |"
    rows = [head, "| --- |" + " --- |" * 5]
    for file in sorted((RESULTS / "vla").glob("bench_*.json")):
        told = json.loads(file.read_text())
        if "step_s" in told:
            numbers = f"{told['step_s']:.3f} | {told['tokens_per_s']:.0f} | {told['mfu']:.2f}"
            rows.append(f"| {told['preset']} | {told['batch']} | {numbers} | {100 * told['data_wait_share']:.0f} % |")
    return "\n".join(rows)


def _spread(value: dict) -> str:
    return f"{value['low']:.0f}-{value['high']:.0f}"


def exported_table() -> str:
    """Exported episodes that succeed again in the benchmark's own environment, by suite."""
    report = json.loads((RESULTS / "dataset" / "replay_exported.json").read_text())
    suites: dict[str, list[int]] = {}
    for task, row in report["tasks"].items():
        counts = suites.setdefault(task.split("/")[0], [0, 0, 0])
        for index, value in enumerate((1, row["successes"], row["trials"])):
            counts[index] += value
    rows = ["| suite | tasks | succeed again |", "| --- | --- | --- |"]
    rows += [f"| {suite} | {tasks} | {good}/{trials} |" for suite, (tasks, good, trials) in suites.items()]
    return "\n".join([*rows, f"| all | {len(report['tasks'])} | {rate(report['total'])} |"])


if __name__ == "__main__":
    main()
