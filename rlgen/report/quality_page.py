"""Sources of episodes beside each other on one page that needs nothing beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlgen.data.quality import DatasetQuality
from rlgen.files import write_bytes
from rlgen.report.contents import FigureFile
from rlgen.report.html import page_environment
from rlgen.report.intervals import SuccessRate
from rlgen.report.quality_groups import FIGURES, figure_rows
from rlgen.report.style import actor
from rlgen.report.text import MISSING


@dataclass(frozen=True)
class SourceRow:
    """A line of the page's table.

    Attributes:
      name: of the source.
      path: where it lies.
      quality: its figures.
      replay: success under replay; None if that is not known.
    """

    name: str
    path: str
    quality: DatasetQuality
    replay: SuccessRate | None = None


def render_quality(rows: Sequence[SourceRow], figures: Sequence[FigureFile], path: Path) -> None:
    """Writes the page to `path`, whole or not at all; any text in it is escaped."""
    template = page_environment().get_template("quality.html.j2")
    page = template.render(
        rows=[_row(row) for row in rows],
        headings=[words for words, _ in FIGURES.values()],
        axes=("x", "y", "z", "rx", "ry", "rz", "gripper"),
        figures=figures,
    )
    write_bytes(Path(path), page.encode())


def _row(row: SourceRow) -> Mapping[str, Any]:
    quality = row.quality
    digits = {key: places for key, (_, places) in FIGURES.items()}
    cells = [_interval(parts, digits[key]) for key, parts in figure_rows(quality).items()]
    return {
        "name": actor(row.name).data_name,
        "path": row.path,
        "episodes": quality.episodes,
        "steps": quality.steps,
        "noops": f"{quality.noops} ({quality.noops_per_4500:.0f} in 4,500 episodes)",
        "cells": cells,
        "ways": MISSING if quality.diversity.ways is None else f"{quality.diversity.ways:.1f}",
        "spread": [f"{value:.3f}" for value in quality.spread.average],
        "replay": MISSING if row.replay is None else str(row.replay),
    }


def _interval(parts: Mapping[str, float | None], digits: int) -> str:
    if parts["mean"] is None:
        return MISSING
    mean, low, high = (f"{parts[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
