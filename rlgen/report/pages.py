"""The page about the quality of several sources, and what all pages of this room share: templates, images, scripts.

`page_environment` fills the templates. Pages are self-contained; the policy of one with a script names the script's
hash, so that no other text on the page can run.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from rlgen.core import text
from rlgen.core.files import write_bytes
from rlgen.core.stats import Estimate, SuccessRate
from rlgen.core.text import MISSING
from rlgen.data.metrics.quality import DatasetQuality
from rlgen.report.quality_plots import METRICS, metric_means
from rlgen.report.style import appearance

# What all pages of this room begin with.
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';"""


@dataclass(frozen=True)
class FigureFile:
    """A saved figure (PNG).

    Attributes:
      path: of the image; a figure whose file is absent is shown as not run.
      title: shown in bold.
      caption: what the figure shows.
      section: part of a run's page that it belongs to.
    """

    path: Path
    title: str
    caption: str
    section: Literal["success", "training", "data"] = "training"


def is_page(path: Path) -> bool:
    """Returns whether a file is a page that this program wrote."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(1000).decode(errors="replace").lstrip().startswith(_HEAD)


def page_environment() -> Environment:
    """Returns the templates of this room with the filters that they use; undefined names raise."""
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
        "number": text.number,
        "size": text.size,
        "estimate": _estimate,
        "appearance": appearance,
        "data_uri": data_uri,
        "flatten": flatten,
        "of_section": _of_section,
    }
    return environment


@dataclass(frozen=True)
class PageScript:
    """A script of this room for a page.

    Attributes:
      text: between `<script>` and `</script>`.
      source: as a page's policy names it, `sha256-...`.
    """

    text: Markup
    source: str


def page_script(name: str) -> PageScript:
    """Returns the script in a file of `template/`."""
    text = _template(name)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return PageScript(Markup(text), f"sha256-{digest}")


def data_uri(path: Path | None) -> str | None:
    """Returns the image at `path` as a `data:` address; None if it is absent, or is no PNG, GIF or JPEG."""
    kinds = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
    if path is None or not Path(path).is_file() or Path(path).suffix.lower() not in kinds:
        return None
    encoded = base64.b64encode(Path(path).read_bytes()).decode()
    return f"data:{kinds[Path(path).suffix.lower()]};base64,{encoded}"


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields a nested configuration as `a.b.c` and value, in order."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _template(name: str) -> str:
    return (resources.files("rlgen.report") / "template" / name).read_text(encoding="utf-8")


def _of_section(figures: Sequence[FigureFile], section: str) -> list[FigureFile]:
    return [figure for figure in figures if figure.section == section]


def _estimate(value: Estimate) -> str:
    return f"{text.number(value.value)} ({text.number(value.low)} to {text.number(value.high)})"


# The quality of several sources.


@dataclass(frozen=True)
class SourceRow:
    """A row of the quality page's tables.

    Attributes:
      name: of the source.
      path: of its files.
      quality: its metrics.
      replay: success when its actions are replayed; None if that is not known.
    """

    name: str
    path: str
    quality: DatasetQuality
    replay: SuccessRate | None = None


def render_quality(rows: Sequence[SourceRow], figures: Sequence[FigureFile], path: Path) -> None:
    """Writes the quality page, whole or not at all; any text in it is escaped.

    Args:
      rows: one for each source.
      figures: shown below the tables, in order.
      path: of the HTML file.
    """
    template = page_environment().get_template("quality.html.j2")
    page = template.render(
        rows=[_cells(row) for row in rows],
        headings=[heading for heading, _ in METRICS.values()],
        axes=("x", "y", "z", "rx", "ry", "rz", "gripper"),
        figures=figures,
    )
    write_bytes(Path(path), page.encode())


def _cells(row: SourceRow) -> Mapping[str, Any]:
    quality = row.quality
    return {
        "name": appearance(row.name).data_name,
        "path": row.path,
        "episodes": quality.episodes,
        "steps": quality.steps,
        "noops": f"{quality.noops} ({quality.noops_per_4500:.0f} in 4,500 episodes)",
        "cells": [_interval(parts, METRICS[key][1]) for key, parts in metric_means(quality).items()],
        "ways": MISSING if quality.diversity.ways is None else f"{quality.diversity.ways:.1f}",
        "spread": [f"{value:.3f}" for value in quality.action_distribution.average_std],
        "replay": MISSING if row.replay is None else str(row.replay),
    }


def _interval(parts: Mapping[str, float | None], digits: int) -> str:
    if parts["mean"] is None:
        return MISSING
    mean, low, high = (f"{parts[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
