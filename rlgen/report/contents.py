"""What goes into the report's page. Everything but title, task and prompt may be absent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlgen.report.intervals import SuccessRate
from rlgen.report.quality_plots import SourceQuality


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
    picture: str
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
