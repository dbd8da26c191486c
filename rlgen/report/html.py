"""The report as one HTML file that needs nothing beside it."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from rlgen.files import write_bytes
from rlgen.report import text
from rlgen.report.contents import ReportData
from rlgen.report.intervals import Estimate, SuccessRate, newcombe
from rlgen.report.style import actor


def render_report(data: ReportData, path: Path) -> None:
    """Writes the page to `path`, whole or not at all.

    Pictures are put into the file; it refers to nothing outside itself and runs no scripts. What `data` does
    not have is shown as not run.

    Args:
      data: what to show. Any text in it is escaped.
      path: of the HTML file.
    """
    template = page_environment().get_template("report.html.j2")
    seconds = [stage.seconds for stage in data.stages if stage.seconds is not None]
    page = template.render(data=data, verdict=verdict(data.rates), total=sum(seconds), longest=max(seconds, default=0))
    write_bytes(Path(path), page.encode())


def verdict(rates: Mapping[str, SuccessRate | None]) -> str:
    """How PPO did, how far above BC that is, and how the VLA did; empty if neither PPO nor BC was run."""
    start, end = rates.get("bc"), rates.get("ppo")
    if end is None:
        return f"BC reached the goal in {_in_words(start)}; PPO was not run." if start is not None else ""
    if start is None:
        return f"PPO reached the goal in {_in_words(end)}; BC was not run."
    difference = newcombe(end, start)
    points = round(100 * (end.rate - start.rate))
    word = "above" if points >= 0 else "below"
    sentence = (
        f"PPO reached the goal in {_in_words(end)}. That is {abs(points)} points {word} BC, where it started "
        f"(95 % interval of the difference {100 * difference.low:+.0f} to {100 * difference.high:+.0f})."
    )
    student = rates.get("vla")
    if student is None:
        return sentence
    return f"{sentence} The VLA trained on its data reached it in {student.successes} of {student.trials}."


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested configuration as `a.b.c` and value, in order."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def data_uri(path: Path | None) -> str | None:
    """The picture at `path` as a `data:` address; None if there is none, or it is no PNG, GIF or JPEG."""
    kinds = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
    if path is None or not Path(path).is_file() or Path(path).suffix.lower() not in kinds:
        return None
    encoded = base64.b64encode(Path(path).read_bytes()).decode()
    return f"data:{kinds[Path(path).suffix.lower()]};base64,{encoded}"


def page_environment() -> Environment:
    """Templates of this room with the filters that they use; undefined names raise."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": text.duration,
        "percent": text.percent,
        "count": text.count,
        "size": text.size,
        "estimate": _estimate,
        "actor": actor,
        "data_uri": data_uri,
        "flatten": flatten,
        "of_section": _of_section,
    }
    return environment


def _template(name: str) -> str:
    return (resources.files("rlgen.report") / "template" / name).read_text(encoding="utf-8")


def _of_section(figures: Sequence[Any], section: str) -> list[Any]:
    return [figure for figure in figures if figure.section == section]


def _estimate(value: Estimate) -> str:
    return f"{text.number(value.value)} ({text.number(value.low)} to {text.number(value.high)})"


def _in_words(rate: SuccessRate) -> str:
    return f"{rate.successes} of {rate.trials} held-out episodes"
