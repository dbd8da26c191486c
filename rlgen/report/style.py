"""The style of figures, the colors of actors and data sources, and how a figure is saved with its values."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from rlgen.core.errors import UserError
from rlgen.core.files import write_bytes

WIDTH = 8.4
DPI = 150
INK = "#22262b"
FAINT = "#6b7280"
_GREY = "#8a8f98"
_OTHERS = ("#009E73", "#D55E00", "#6A51A3", "#A6761D", "#1B9E9E", _GREY)


@dataclass(frozen=True)
class Appearance:
    """Name and color of an actor or data source, the same in every figure and page.

    Attributes:
      name: of the actor.
      data_name: of its data.
      color: as `#rrggbb`.
    """

    name: str
    data_name: str
    color: str


Appearances = Mapping[str, Appearance]


def appearance(key: str) -> Appearance:
    """Returns the appearance of `demonstrator`, `bc`, `ppo` or `vla`; any other key gets its own name in gray.

    The colors are those of Okabe and Ito, which people with any kind of color vision tell apart.
    """
    match key:
        case "demonstrator" | "demonstrations" | "demos" | "scripted":
            return Appearance("Scripted expert", "Demonstrations", "#E69F00")
        case "bc":
            return Appearance("BC", "BC data", "#56B4E9")
        case "ppo" | "rl":
            return Appearance("PPO", "RL data (PPO)", "#0072B2")
        case "vla":
            return Appearance("VLA", "VLA data", "#CC79A7")
        case _:
            return Appearance(key, key, _GREY)


def appearances(keys: Iterable[str]) -> dict[str, Appearance]:
    """Returns the appearances of several sources; unknown ones get different colors, in their order."""
    found, others = {}, itertools.cycle(_OTHERS)
    for key in keys:
        known = appearance(key)
        found[key] = replace(known, color=next(others)) if known.color == _GREY else known
    return found


@dataclass(frozen=True)
class Plot:
    """A figure and the values in it.

    Attributes:
      figure: complete, not yet saved.
      table: columns of equal length by name; they become the CSV.
    """

    figure: Figure
    table: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        if len({len(column) for column in self.table.values()}) > 1:
            lengths = {name: len(column) for name, column in self.table.items()}
            raise ValueError(f"columns of unequal length: {lengths}")


@contextmanager
def report_style() -> Iterator[None]:
    """Gives figures made and saved inside the style of the report; matplotlib's settings are restored afterwards."""
    settings: dict[Any, Any] = {
        "font.size": 10,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e4e6ea",
        "grid.linewidth": 0.7,
        "text.color": INK,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "lines.linewidth": 1.8,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        # Names come from outside; a dollar sign in one must not be read as mathematics.
        "text.parse_math": False,
    }
    with matplotlib.rc_context(settings):
        yield


def new_figure(height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Figure, list[list[Axes]]]:
    """Makes an empty figure of the page's width.

    Args:
      height: of the figure, inches.
      rows: of panels.
      columns: of panels.
      **grid: further arguments of `Figure.subplots`.

    Returns:
      The figure, and its axes as rows of columns.
    """
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **grid)
    return figure, [list(row) for row in axes]


def plain_numbers(axis: Axis) -> None:
    """Labels an axis with plain numbers, such as `0.02`, `300` and `1.5M`, on a logarithmic scale too."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def percentages(axis: Axis) -> None:
    """Labels an axis of fractions with percentages, such as `2.5 %`."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def save(plot: Plot, path: Path) -> Path:
    """Writes the figure as PNG and its values as CSV beside it, each whole or not at all.

    Args:
      plot: what to save.
      path: of the image, ending in `.png`.

    Returns:
      `path`.

    Raises:
      UserError: if the name does not end in `.png`.
    """
    path = Path(path)
    if path.suffix != ".png":
        raise UserError(f"{path}: a figure is saved as PNG; give a name that ends in .png")
    write_bytes(path.with_suffix(".csv"), _csv_bytes(plot.table))
    write_bytes(path, _png_bytes(plot.figure))
    return path


def save_table(table: Mapping[str, Sequence[Any]], path: Path) -> Path:
    """Writes columns of equal length as CSV, whole or not at all."""
    write_bytes(Path(path), _csv_bytes(table))
    return Path(path)


def _png_bytes(figure: Figure) -> bytes:
    """Returns the figure with at most 256 colors: a third of the bytes, and no difference to the eye."""
    raw = io.BytesIO()
    with report_style():
        figure.savefig(raw, format="png")
    image = Image.open(raw).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, format="png", optimize=True)
    return out.getvalue()


def _csv_bytes(table: Mapping[str, Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow([_cell(value) for value in row])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{float(value):.7g}" if hasattr(value, "__float__") else str(value)


def _short(value: float) -> str:
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{suffix}"
    return f"{value:.4g}"
