"""What goes into the report's page. Everything but title, task and prompt may be absent."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FunctionLoader, StrictUndefined

from rlgen.core import text
from rlgen.core.files import write_bytes
from rlgen.core.stats import Estimate, SuccessRate, newcombe
from rlgen.report.quality_plots import SourceQuality
from rlgen.report.style import actor


@dataclass(frozen=True)
class Assets:
    """Which object models the world was built from.

    Attributes:
      stand_ins: whether they are this project's plain geometry and not the benchmark's own models.
      detail: where they came from, in a few words.
    """

    stand_ins: bool
    detail: str


@dataclass(frozen=True)
class InitialStates:
    """Where episodes began, in words.

    Attributes:
      train: such as `sampled placements, seeds 0 to 319`.
      heldout: such as `stored states 0 to 49`.
    """

    train: str
    heldout: str


@dataclass(frozen=True)
class StageTime:
    """One stage of the run.

    Attributes:
      name: as on the command line.
      what: what it did, in a few words.
      seconds: how long it took; None if it was not run.
      note: its outcome, in a few words.
    """

    name: str
    what: str
    seconds: float | None
    note: str = ""


@dataclass(frozen=True)
class FigureFile:
    """A saved figure (PNG).

    Attributes:
      path: of the picture; a figure whose file is not there is shown as not run.
      title: what it is.
      caption: what one sees in it.
      section: where in the page it belongs.
    """

    path: Path
    title: str
    caption: str
    section: Literal["success", "training", "data"] = "training"


@dataclass(frozen=True)
class Clip:
    """A GIF of one episode.

    Attributes:
      actor: `demonstrator`, `bc`, `ppo` or `vla`.
      path: of the GIF; None, or a file that is not there, is shown as not run.
      caption: such as `stored state 3, 96 steps`.
      success: whether the goal was reached; None if that is not known.
    """

    actor: str
    path: Path | None
    caption: str = ""
    success: bool | None = None


@dataclass(frozen=True)
class Dataset:
    """The exported dataset.

    Attributes:
      path: of the folder that opens as a dataset.
      episodes: how many.
      steps: control steps of all of them.
      picture: such as `128 x 128`.
      view: label of the camera view the pictures were drawn with.
      byte_count: on disk; None if it was not counted.
      note: anything else a user of the dataset must know.
    """

    path: str
    episodes: int
    steps: int
    image: str
    view: str
    byte_count: int | None = None
    note: str = ""


def nothing_run() -> dict[str, SuccessRate | None]:
    """The four actors, none of them tried."""
    return dict.fromkeys(("demonstrator", "bc", "ppo", "vla"))


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows.

    Attributes:
      title: heading of the page.
      task: `<suite>/<name>`.
      prompt: the instruction.
      preset: name of the preset.
      created: date and time, as it is to be shown.
      command: what to type to get this again.
      rates: success on held-out initial states by actor; None for what was not run.
      assets: which object models were used.
      initial_states: where episodes began.
      stages: in order.
      figures: in order within their section.
      clips: side by side, in order.
      quality: by data source.
      dataset: the export.
      versions: of packages by name.
      machine: such as `{"CPU": ..., "cores": ...}`.
      config: the resolved configuration, nested.
      notes: what this preset is and is not, one sentence or two each.
    """

    title: str
    task: str
    prompt: str
    preset: str = ""
    created: str = ""
    command: str = ""
    rates: Mapping[str, SuccessRate | None] = field(default_factory=nothing_run)
    assets: Assets | None = None
    initial_states: InitialStates | None = None
    stages: Sequence[StageTime] = ()
    figures: Sequence[FigureFile] = ()
    clips: Sequence[Clip] = ()
    quality: Mapping[str, SourceQuality] = field(default_factory=dict)
    dataset: Dataset | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str | int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


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
