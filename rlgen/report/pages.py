"""Pages about datasets, without scripts and self-contained: the quality of several sources, and a dataset's episodes.

`page_environment` fills the templates of this room for these pages and for the report of a run (`run_page`).
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from jinja2 import Environment, FunctionLoader, StrictUndefined

from rlgen.core import text
from rlgen.core.files import write_bytes
from rlgen.core.stats import Estimate, SuccessRate
from rlgen.core.text import MISSING
from rlgen.data.episode import DatasetEpisode
from rlgen.data.images import FrameSequence, encode_image, flip_vertical, rotate_180
from rlgen.data.index import IndexEntry
from rlgen.data.metrics.quality import DatasetQuality
from rlgen.data.metrics.smoothness import noop_mask
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


# A dataset's episodes: a list, and a page for each.

IMAGES = 10  # of each camera on a page
AXES = ("x", "y", "z", "rotation x", "rotation y", "rotation z", "gripper")
WIDTH, HEIGHT = 860, 74  # of a curve, in its own units


@dataclass(frozen=True)
class Curve:
    """One coordinate over time as an SVG line.

    Attributes:
      name: shown beside it.
      points: of the line.
      low: least value.
      high: largest value.
    """

    name: str
    points: str
    low: float
    high: float


def episode_link(index: int) -> str:
    """Returns the file name of an episode's page."""
    return f"episode-{index:05d}.html"


def index_page(name: str, entries: Sequence[IndexEntry], facts: dict[str, Any]) -> str:
    """Returns the list of a dataset's episodes, each a link to its page.

    Args:
      name: of the dataset.
      entries: its episodes.
      facts: shown above the list, by name.
    """
    rows = [(index, episode_link(index), entry) for index, entry in enumerate(entries)]
    template = page_environment().get_template("episodes.html.j2")
    return template.render(name=name, rows=rows, facts=facts, steps=sum(entry.steps for entry in entries))


def episode_page(name: str, index: int, count: int, entry: IndexEntry, episode: DatasetEpisode) -> str:
    """Returns the page of one episode: its source, images of both cameras, and every action over time.

    Args:
      name: of the dataset.
      index: of the episode in it.
      count: number of episodes in the dataset.
      entry: of the episode in the dataset's index.
      episode: its images, states and actions.
    """
    chosen = np.unique(np.linspace(0, len(episode) - 1, IMAGES).round().astype(int))
    cameras = {"Front": episode.image, "Hand": episode.wrist_image}
    strips = {
        label: [(int(step), image_uri(images, int(step))) for step in chosen]
        for label, images in cameras.items()
        if images is not None
    }
    actions, states = np.asarray(episode.action).T, np.asarray(episode.state).T[:3]
    template = page_environment().get_template("episode.html.j2")
    return template.render(
        name=name,
        index=index,
        entry=entry,
        strips=strips,
        curves=[curve(axis, values) for axis, values in zip(AXES, actions, strict=True)],
        states=[curve(axis, values) for axis, values in zip("xyz", states, strict=True)],
        noops=int(noop_mask(episode.action).sum()),
        before=episode_link(index - 1) if index > 0 else None,
        after=episode_link(index + 1) if index + 1 < count else None,
        width=WIDTH,
        height=HEIGHT,
    )


def image_uri(images: FrameSequence | np.ndarray, step: int) -> str:
    """Returns a dataset's image in the orientation for people, as a `data:` address."""
    data = encode_image(flip_vertical(rotate_180(np.asarray(images[step]))))
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def curve(name: str, values: Float[np.ndarray, " T"]) -> Curve:
    """Returns a line through all values, from the left to the right edge; a constant one runs along the middle."""
    low, high = float(np.min(values)), float(np.max(values))
    x = np.linspace(0, WIDTH, max(2, len(values)))[: len(values)]
    relative = (np.asarray(values, float) - low) / (high - low) if high > low else np.full(len(values), 0.5)
    y = HEIGHT - 4 - relative * (HEIGHT - 8)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return Curve(name, points, low, high)
