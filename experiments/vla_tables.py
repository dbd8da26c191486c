"""The tables of VLAs: success by source of data, speed, what a step multiplies, a server under attack."""

import json

from table_parts import RESULTS, rate


def instruction(task: str) -> str:
    """Returns a task's instruction as its name has it, without the scene."""
    return task.split("/")[1].rpartition("SCENE")[2].lstrip("0123456789_").replace("_", " ")


def vla_table(name: str) -> str:
    """Returns the loss on held-out episodes and the success on the stored initial states, for each source of data.

    Args:
      name: of the results.
    """
    sources = json.loads((RESULTS / "vla" / f"{name}.json").read_text())["sources"]
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
