"""The tables of datasets: writing and loading, videos, formats into each other, replay."""

import json

from table_parts import RESULTS, rate, spread

DATASET_ROWS = {
    "write": "writing, steps/s",
    "load": "loading, frames/s: decoded and resized (Lanczos) every time",
    "load_linear": "the same, resized linearly",
    "load_plain": "the same, tfds by its own `as_dataset`",
    "load_later_epochs": "Lanczos, later epochs: ours keeps decoded images, tfds decodes again",
    "load_both_cached": "both keep decoded images",
}


def dataset_table() -> str:
    """Returns the speed of writing and loading, compared with `tensorflow_datasets` and TensorFlow."""
    report = json.loads((RESULTS / "dataset" / "bench.json").read_text())
    rows = ["| | ours | range | tfds | range | ratio | ours, MB | tfds, MB |", "| --- |" + " --- |" * 7]
    for key, name in DATASET_ROWS.items():
        value, memory = report[key], report["memory_mb"][key]
        sides = [f"{value[side]:.0f} | {spread(value['spread'][side])}" for side in ("ours", "tfds")]
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
            rates = [f"{row[epoch]['median']:.0f} | {spread(row[epoch])}" for epoch in ("first", "later")]
            cells = [*rates, f"{row['cpu_ms']['median']:.1f}"]
            x = report[kind]["x"].get(name)
            values = [*x.values(), report[kind]["x_cpu"][name]] if x else []
            cells += [f"{value:.2f}" for value in values] or ["1"] * 3
            rows.append(f"| {codec} | {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


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
