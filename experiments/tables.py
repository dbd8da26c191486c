"""The tables of results, made from the committed JSON.

Command:  uv run python experiments/tables.py           prints them
          uv run python experiments/tables.py --write   puts them between their markers in experiments/README.md
                                                        and README.md
Cost:     none.
Expected: `tests/test_tables.py` compares what stands there with the JSON.

A table lies between `<!-- name -->` and `<!-- /name -->`; a file has the markers of the tables that it shows. Column
names here are in the present words; keys of the JSON are those of the version that wrote it.
"""

import argparse
import json
import re
from pathlib import Path

from device_tables import device_table
from fleet_tables import fleet_estimate, fleet_table, fleet_tasks
from ppo_settings import settings_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
DOCUMENTS = (ROOT / "README.md", ROOT / "experiments" / "README.md")
SEEDS_HEAD = "seeds | cloned | after PPO (lower end) | iterations | minutes"
# Actors of a quickstart by their key in its summary.
ACTORS = {"demonstrator": "scripted expert", "bc": "BC", "ppo": "PPO", "vla": "VLA"}
PARITY = (
    (
        "torque, N m",
        "test_torque_and_fingers_are_those_of_the_compiled_control_step",
        "largest error of torque, N m",
    ),
    ("observations of all initial states", "test_initial_states_look_as_on_the_cpu", "largest difference"),
    ("observations along successes", "test_successes_of_every_kind_of_goal_look_as_on_the_cpu", "largest difference"),
)
DATASET_ROWS = {
    "write": "writing, steps/s",
    "load": "loading, frames/s: decoded and resized (Lanczos) every time",
    "load_linear": "the same, resized linearly",
    "load_plain": "the same, tfds by its own `as_dataset`",
    "load_later_epochs": "Lanczos, later epochs: ours keeps decoded images, tfds decodes again",
    "load_both_cached": "both keep decoded images",
}


def main() -> None:
    """Prints or writes every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="rewrite the documents")
    tables = all_tables()
    if not parser.parse_args().write:
        print("\n\n".join(tables.values()))
        return
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text(), tables))


def all_tables() -> dict[str, str]:
    """Returns every table by the name of its markers."""
    return {
        "quickstart": quickstart_table(),
        "data-quality": quality_table(),
        "expert-survey": expert_table(),
        "expert-failures": expert_failures(),
        "wide-resets": wide_resets_table(),
        "environment-speed": speed_table(),
        "image-speed": images_table(),
        "environment-memory": memory_table(),
        "warp-motion": motion_table(),
        "warp-parity": parity_table(),
        "warp-images": warp_images_table(),
        "dataset-speed": dataset_table(),
        "dataset-trips": trips_table(),
        "video-loading": video_loading_table(),
        "dataset-replay": exported_table(),
        "sampler-speed": sampler_table(),
        "update-speed": update_table(),
        "overlap": overlap_table(),
        "ppo": learning_table("learning"),
        "ppo-curves": curves_table("learning", ("task", "algorithm")),
        "ppo-shorter": learning_table("learning/iterations-50"),
        "ppo-slower": learning_table("learning/actor-rate-5e-5"),
        "ppo-preset": learning_table("learning/preset-state"),
        "ppo-images": learning_table("learning/pictures"),
        "ppo-gaussian-coarse": learning_table("learning/gaussian-coarse"),
        "fleet": fleet_table("diffusion"),
        "fleet-tasks": fleet_tasks("diffusion"),
        "fleet-estimate": fleet_estimate("diffusion"),
        "ppo-settings": settings_table(),
        "ppo-ablations": ablations_table(),
        "ppo-ablation-curves": curves_table("ablations", ("ablation", "variant")),
        "vla-success": vla_table(),
        "vla-training-speed": vla_speed_table(),
        "vla-dry-profile": dry_profile_table(),
        "vla-attack": attack_table(),
        "device": device_table(),
    }


def with_tables(text: str, tables: dict[str, str]) -> str:
    """Returns `text` with the tables between their markers; a marker that is not there is passed over."""
    for name, table in tables.items():
        block = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, block=block: block, text, flags=re.S)
    return text


def summaries() -> dict[str, dict]:
    """Returns the summary of every committed quickstart by its name."""
    files = sorted((RESULTS / "quickstart").glob("*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}


def rate(value: dict) -> str:
    """Returns a success rate with its interval, such as `45/50 (79-96 %)`."""
    return f"{value['successes']}/{value['trials']} ({100 * value['low']:.0f}-{100 * value['high']:.0f} %)"


def quickstart_table() -> str:
    """Returns the success of each actor on the stored initial states."""
    rows = [f"| run | {' | '.join(ACTORS.values())} |", "| --- |" + " --- |" * 4]
    for name, summary in summaries().items():
        cells = [rate(summary[actor]) for actor in ACTORS]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def quality_table() -> str:
    """Returns the quality of demonstrations and of collected episodes, side by side."""
    rows = ["| run | source | no-ops | length | mean squared jerk, m²/s⁶ | std of the y action |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for name, summary in summaries().items():
        for source, value in summary["quality"].items():
            jerk, spread = value["mean_squared_jerk"]["mean"], value["action_spread"][1]
            length = value["length"]["mean"]
            rows.append(f"| {name} | {ACTORS[source]} | {value['noops']} | {length:.0f} | {jerk:.1f} | {spread:.3f} |")
    return "\n".join(rows)


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


def world(name: str) -> dict:
    """Returns a committed measurement of the environments."""
    return json.loads((RESULTS / "world" / f"{name}.json").read_text())


def wide_resets_table() -> str:
    """Returns success and spread of standard and wide resets, a row for each task."""
    rows = ["| task | standard | wide | length | length, wide | spread, cm | wide, cm | hand, cm (farthest) |"]
    rows.append("| --- |" + " --- |" * 7)
    for file in sorted((RESULTS / "wide_resets").glob("*.json")):
        found = json.loads(file.read_text())
        moved = [one for one in found["objects"].values() if one["moved"]]
        spread = [
            f"{100 * min(low):.1f} to {100 * max(low):.1f}"
            for low in ([value for one in moved for value in one[f"std_{kind}"]] for kind in ("standard", "wide"))
        ]
        both = [found[kind] for kind in ("standard", "wide")]
        cells = [f"{one['successes']}/{one['trials']}" for one in both]
        cells += [f"{one['mean_length']:.0f}" for one in both]
        cells += [*spread, f"{100 * found['hand']['mean']:.1f} ({100 * found['hand']['farthest']:.1f})"]
        rows.append(f"| {found['task']} | {' | '.join(cells)} |")
    return "\n".join(rows)


def speed_table() -> str:
    """Returns the control steps per second of one thread, for a task of each suite."""
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
    """Returns the images per second of one thread, and the control steps per second with images."""
    report = world("environments")
    size, vision = report["pictures"]["size"], report["vision"]
    rows = ["| | per second | times the benchmark's |", "| --- | --- | --- |"]
    for renderer in ("official", "benchmark", "fast"):
        value = report["pictures"][renderer]
        rows.append(f"| images of {size}², {renderer} renderer | {value['per_second']:.1f} | {value['x']:.1f} |")
    steps = "control steps, two cameras every 8 steps"
    rows.append(f"| {steps}, official renderer | {vision['official']:.1f} | 1.0 |")
    rows.append(f"| {steps}, fast renderer | {vision['ours']:.0f} | {vision['x']:.0f} |")
    return "\n".join(rows)


def memory_table() -> str:
    """Returns the memory of a vector environment of 64 environments."""
    rows = [
        "| vector environment | models and initial states, MB | environments, MB | per environment, MB |",
        "| --- |" + " --- |" * 3,
    ]
    for name, value in world("pool_memory").items():
        cells = (value["scenes_mb"], value["pool_mb"], value["per_environment_mb"])
        rows.append(f"| {name} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")
    return "\n".join(rows)


def motion_table() -> str:
    """Returns how far the joints of the world on a GPU are from the CPU's, in a task of each suite."""
    measured = world("warp_world")["tests"]["test_a_task_of_each_suite_moves_as_on_the_cpu"]
    rows = ["| task | exact kernel | MuJoCo | farthest joint | compiling, s |", "| --- |" + " --- |" * 4]
    for task, seconds in measured["processor seconds of the first step, all compiled"].items():
        names = (f"largest difference from {name} after each control step" for name in ("the exact kernel", "MuJoCo"))
        apart = " | ".join(", ".join(f"{value:.1e}" for value in measured[name][task]) for name in names)
        rows.append(f"| {task} | {apart} | {measured['joint with the largest'][task]} | {seconds:.0f} |")
    return "\n".join(rows)


def parity_table() -> str:
    """Returns how far the torque and the observations of the world on a GPU are from the CPU's, over all tasks."""
    tests = world("warp_world")["tests"]
    rows = ["| | tasks | median of the tasks' worst | worst |", "| --- | --- | --- | --- |"]
    for label, test, name in PARITY:
        values = sorted(tests[test][name].values())
        rows.append(f"| {label} | {len(values)} | {values[len(values) // 2]:.1e} | {values[-1]:.1e} |")
    return "\n".join(rows)


def warp_images_table() -> str:
    """Returns how alike images of the ray tracer and of the benchmark are, in a task of each suite."""
    regions = ("robot", "objects", "fixtures", "room")
    heads = ("fast", "warp", "warp, dim", *(f"warp: {region}" for region in regions))
    rows = [f"| task, camera | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for task, renderers in world("warp_images")["tasks"].items():
        for camera, found in renderers["warp"].items():
            alike = [f"{renderers[name][camera]['correlation']:.3f}" for name in heads[:3]]
            apart = [
                f"{found[part]['difference']:.0f} ({found[part]['brighter']:+.0f})" if part in found else ""
                for part in regions
            ]
            rows.append(f"| {task}, {camera.removeprefix('robot0_')} | {' | '.join([*alike, *apart])} |")
    return "\n".join(rows)


def dataset_table() -> str:
    """Returns the speed of writing and loading, compared with `tensorflow_datasets` and TensorFlow."""
    report = json.loads((RESULTS / "dataset" / "bench.json").read_text())
    rows = ["| | ours | range | tfds | range | ratio | ours, MB | tfds, MB |", "| --- |" + " --- |" * 7]
    for key, name in DATASET_ROWS.items():
        value, memory = report[key], report["memory_mb"][key]
        sides = [f"{value[side]:.0f} | {_spread(value['spread'][side])}" for side in ("ours", "tfds")]
        held = " | ".join(f"{memory[side]:.0f}" for side in ("ours", "tfds"))
        rows.append(f"| {name} | {' | '.join(sides)} | {value['x']:.2f} | {held} |")
    return "\n".join(rows)


def trips_table() -> str:
    """Returns what images are after each format was merged into each other one."""
    trips = json.loads((RESULTS / "dataset" / "trips.json").read_text())["trips"]
    pairs = {tuple(name.split(" to ")): found for name, found in trips.items()}
    sources, targets = (list(dict.fromkeys(pair[end] for pair in pairs)) for end in (0, 1))

    def cell(source: str, target: str) -> str:
        found = pairs.get((source, target))
        if found is None:
            return ""
        equal = "" if found["numbers"] and found["texts"] else "; numbers or texts differ"
        return ("the same bytes" if found["bytes"] else f"{found['psnr_db']:.1f} dB") + equal

    rows = [f"| from {source} | {' | '.join(cell(source, target) for target in targets)} |" for source in sources]
    return "\n".join([f"|  | {' | '.join(targets)} |", f"| {' | '.join(['---'] * (1 + len(targets)))} |", *rows])


def video_loading_table() -> str:
    """Returns the speed of loading videos, compared with lerobot's own loader."""
    report = json.loads((RESULTS / "speed" / "video_loading.json").read_text())
    head = "first epoch, frames/s | range | later | range | processor time, ms | first | later | by processor time"
    rows = [f"| video | loader | {head} |", "| --- |" + " --- |" * 9]
    for kind, codec in (("lerobot_av1", "AV1"), ("lerobot_h264", "H.264")):
        for name, row in report[kind]["sides"].items():
            rates = [f"{row[epoch]['median']:.0f} | {_spread(row[epoch])}" for epoch in ("first", "later")]
            cells = [*rates, f"{row['cpu_ms']['median']:.1f}"]
            x = report[kind]["x"].get(name)
            values = [*x.values(), report[kind]["x_cpu"][name]] if x else []
            cells += [f"{value:.2f}" for value in values] or ["1"] * 3
            rows.append(f"| {codec} | {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


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


def ablations_table() -> str:
    """Returns the same for every variant of every ablation."""
    rows = [f"| ablation | variant | {SEEDS_HEAD} |", "| --- | --- | --- | --- | --- | --- | --- |"]
    found = learned("ablations")
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


def instruction(task: str) -> str:
    """Returns a task's instruction as its name has it, without the scene."""
    return task.split("/")[1].rpartition("SCENE")[2].lstrip("0123456789_").replace("_", " ")


def vla_table() -> str:
    """Returns the loss on held-out episodes and the success on the stored initial states, for each source of data."""
    sources = json.loads((RESULTS / "vla" / "closed_loop.json").read_text())["sources"]
    tasks = [task for task in next(iter(sources.values()))["success"] if task != "all"]
    names = [instruction(task) for task in tasks]
    rows = [f"| data | held-out loss, first to last | {' | '.join(names)} |", "| --- | --- |" + " --- |" * len(tasks)]
    for name, result in sources.items():
        losses = [result["validation_loss"][step] for step in sorted(result["validation_loss"], key=int)]
        cells = " | ".join(rate(result["success"][task]) for task in tasks)
        rows.append(f"| {name} | {losses[0]:.3f} to {losses[-1]:.3f} | {cells} |")
    return "\n".join(rows)


def vla_speed_table() -> str:
    """Returns the speed of training steps of the small presets."""
    head = "| preset | batch | step, s | tokens/s | fraction of the matrix rate | waiting for data |"
    rows = [head, "| --- |" + " --- |" * 5]
    for file in sorted((RESULTS / "vla").glob("bench_*.json")):
        report = json.loads(file.read_text())
        if "step_s" in report:
            numbers = f"{report['step_s']:.3f} | {report['tokens_per_s']:.0f} | {report['mfu']:.2f}"
            waiting = f"{100 * report['data_wait_share']:.0f} %"
            rows.append(f"| {report['preset']} | {report['batch']} | {numbers} | {waiting} |")
    return "\n".join(rows)


def dry_profile_table() -> str:
    """Returns what a training step of the published models multiplies, and a bound of its time."""
    rows = []
    for file in sorted((RESULTS / "vla").glob("dry_profile_*.json")):
        report = json.loads(file.read_text())
        for name, one in report["variants"].items():
            rows.append(
                f"| {report['model']}, {name} | {one['useful'] / report['batch'] / 1e12:.1f} "
                f"| {one['multiplied'] / one['useful']:.2f} | {one['step_s_at_best']:.2f} "
                f"| {100 * one['utilization_at_best']:.0f} % | {one['planned_gib']:.0f} |"
            )
    head = "| model | TFLOP a frame | multiplied / counted | step at best, s | utilization at best | planned GiB |"
    return "\n".join([head, "| --- | --- | --- | --- | --- | --- |", *rows])


def attack_table() -> str:
    """Returns health and memory of a policy server during each kind of attack."""
    report = json.loads((RESULTS / "vla" / "attack_server.json").read_text())
    rows = ["| attack | tries | slowest `/healthz`, s | memory above the start, MB |", "| --- | --- | --- | --- |"]
    for name, row in report["attacks"].items():
        memory = row["memory_most_mb_above_start"]
        rows.append(f"| {name} | {row['tries']} | {row['health_most_s']:.2f} | {memory:.0f} |")
    return "\n".join(rows)


def _spread(value: dict) -> str:
    return f"{value['low']:.0f}-{value['high']:.0f}"


def exported_table() -> str:
    """Returns the exported episodes that succeed again in the benchmark's own environment, by suite."""
    report = json.loads((RESULTS / "dataset" / "replay_exported.json").read_text())
    suites: dict[str, list[int]] = {}
    for task, row in report["tasks"].items():
        counts = suites.setdefault(task.split("/")[0], [0, 0, 0])
        for index, value in enumerate((1, row["successes"], row["trials"])):
            counts[index] += value
    rows = ["| suite | tasks | successes |", "| --- | --- | --- |"]
    rows += [f"| {suite} | {tasks} | {good}/{trials} |" for suite, (tasks, good, trials) in suites.items()]
    return "\n".join([*rows, f"| all | {len(report['tasks'])} | {rate(report['total'])} |"])


if __name__ == "__main__":
    main()
