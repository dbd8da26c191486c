"""The table of what was measured on a GPU; `tables.py` puts it where it is shown."""

import json
from collections.abc import Iterator
from pathlib import Path

REPORT = Path(__file__).resolve().parent / "results" / "device" / "device.json"
HEAD = "| measured | figure | range |\n| --- | --- | --- |"


def device_table() -> str:
    """Returns the figures of the parts of `rlgen bench device`, and why others have none."""
    parts = json.loads(REPORT.read_text())["parts"]
    rows = [row for name, part in parts.items() for row in _rows(name, part)]
    return "\n".join([HEAD, *(f"| {' | '.join(row)} |" for row in rows)])


def _rows(name: str, part: dict) -> Iterator[tuple[str, str, str]]:
    """Yields the rows of a part: what, its figure, from least to most."""
    for title, figure in part["figures"].items():
        if name == "matrix":
            yield f"products of {figure['side']}², {title}, TFLOP/s", *_three(figure, 1e-3)
        elif name.startswith("train-"):
            blocks = figure["step_s_of_blocks"]
            what = f"{figure['preset']}, {figure['cameras']} cameras, batch {figure['batch']}, remat: a step, s"
            yield (
                f"{what} ({100 * figure['mfu']:.1f} % of the published peak)",
                *_three({"median": figure["step_s"], "low": min(blocks), "high": max(blocks)}, digits=3),
            )
        elif name.startswith("sample-"):
            for steps, value in figure.items():
                yield (
                    f"π0, {title}, {steps} flow steps: actions, ms",
                    *_three({"median": value["seconds"], "low": value["low"], "high": value["high"]}, 1e3, digits=1),
                )
        elif title == "first iteration":
            for groups, seconds in figure.items():
                yield f"{name}: first iteration, with compilation, {groups}", f"{seconds:.0f}", ""
        elif name == "world-asleep":
            failed = f"; {figure['failed']} failed" if figure["failed"] else ""
            yield f"world, {title}, asleep: control steps/s{failed}", *_rates(figure)
        elif name == "render":
            yield f"ray tracer, {title}, {figure['image_size']}²: images/s", *_rates(figure)
        else:
            yield from _iteration(name, title, figure)
    if not part["figures"]:
        yield f"{name}: no figure", part["reason"], ""


def _iteration(name: str, title: str, figure: dict) -> Iterator[tuple[str, str, str]]:
    """Yields the rows of a whole iteration of PPO."""
    what = f"{name}, {figure['environments']} environments, {title}"
    yield f"{what}: control steps/s", *_three(figure["control_steps_per_s"])
    yield f"{what}: an iteration, s", *_three(figure["total"], digits=1)
    yield f"{what}: idle share of the GPU, %", *_three(figure["idle_share"], 100)


def _rates(figure: dict) -> tuple[str, str]:
    return _three({"median": figure["per_second"], "low": figure["low"], "high": figure["high"]})


def _three(figure: dict, factor: float = 1.0, digits: int = 0) -> tuple[str, str]:
    """Returns the median, and least to most."""
    middle, *ends = (f"{factor * figure[key]:,.{digits}f}" for key in ("median", "low", "high"))
    return middle, " to ".join(sorted(ends, key=lambda text: float(text.replace(",", ""))))
