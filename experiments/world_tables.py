"""The tables of environments: speed, memory, wide resets, and the world on a GPU beside the CPU."""

import json

from table_parts import RESULTS

PARITY = (
    (
        "torque, N m",
        "test_torque_and_fingers_are_those_of_the_compiled_control_step",
        "largest error of torque, N m",
    ),
    ("observations of all initial states", "test_initial_states_look_as_on_the_cpu", "largest difference"),
    ("observations along successes", "test_successes_of_every_kind_of_goal_look_as_on_the_cpu", "largest difference"),
)


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
