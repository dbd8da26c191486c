"""The page of a run, `report.html`: success, training, data, and how it ran. Self-contained and without scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlgen.core.files import write_bytes
from rlgen.core.stats import Estimate, SuccessRate, newcombe
from rlgen.report.pages import FigureFile, page_environment
from rlgen.report.quality_plots import SourceQuality


@dataclass(frozen=True)
class Assets:
    """The object models that the scene was built from.

    Attributes:
      placeholders: whether they are this project's plain geometry and not the benchmark's own models.
      detail: where they came from, in a few words.
    """

    placeholders: bool
    detail: str


@dataclass(frozen=True)
class InitialStates:
    """Initial states of episodes, in words.

    Attributes:
      train: such as `256 reset states sampled from the regions of the BDDL file`.
      heldout: such as `stored states 0 to 49`.
    """

    train: str
    heldout: str


@dataclass(frozen=True)
class StageTime:
    """One stage of the run.

    Attributes:
      name: as on the command line.
      description: what it did, in a few words.
      seconds: time it took; None if it was not run.
      note: its result, in a few words.
    """

    name: str
    description: str
    seconds: float | None
    note: str = ""


@dataclass(frozen=True)
class Clip:
    """A GIF of one episode.

    Attributes:
      actor: `demonstrator`, `bc`, `ppo` or `vla`.
      path: of the GIF; None, or a file that is absent, is shown as not run.
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
      episodes: number of episodes.
      steps: control steps of all episodes together.
      image: size of the images, such as `128 x 128`.
      renderer: label of the renderer of the images.
      byte_count: size on disk; None if it was not counted.
    """

    path: str
    episodes: int
    steps: int
    image: str
    renderer: str
    byte_count: int | None = None


@dataclass(frozen=True)
class Change:
    """A number that PPO changed against the clone, over the same initial states.

    Attributes:
      name: what it is, with its unit.
      before: mean of the clone.
      after: mean of the expert.
      difference: of the second to the first, with its paired bootstrap interval.
      trials: initial states that it is a mean over.
    """

    name: str
    before: float
    after: float
    difference: Estimate
    trials: int


_CHANGES = {
    "success": "Success",
    "length": "Length, control steps",
    "mean_squared_jerk": "Mean squared jerk, m²/s⁶",
    "noops": "No-op steps",
}


def changes(value: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """Reads what `rlgen.data.metrics.score.change` returned; what could not be compared is left out."""
    rows = [(title, value[name]) for name, title in _CHANGES.items() if name in value and value[name]["trials"]]
    return [
        Change(
            title,
            part["before"],
            part["after"],
            Estimate(part["difference"], part["low"], part["high"]),
            part["trials"],
        )
        for title, part in rows
    ]


def nothing_run() -> dict[str, SuccessRate | None]:
    """Returns the four actors, none of them with a result."""
    return dict.fromkeys(("demonstrator", "bc", "ppo", "vla"))


@dataclass(frozen=True)
class ReportData:
    """Everything that the page shows; only title, task and prompt are required.

    Attributes:
      title: heading of the page.
      task: `<suite>/<name>`.
      prompt: the instruction.
      created: date and time, as shown.
      command: the command that repeats the run.
      rates: success on held-out initial states by actor; None for what was not run.
      assets: the object models.
      initial_states: of training and evaluation.
      stages: in order.
      figures: in order within their section.
      clips: side by side, in order.
      quality: metrics by data source.
      changes: what PPO changed against the clone.
      dataset: the export.
      versions: of packages by name.
      machine: such as `{"CPU": ..., "cores": ...}`.
      config: the resolved configuration, nested.
      notes: what the run shows and what it does not, a sentence or two each.
    """

    title: str
    task: str
    prompt: str
    created: str = ""
    command: str = ""
    rates: Mapping[str, SuccessRate | None] = field(default_factory=nothing_run)
    assets: Assets | None = None
    initial_states: InitialStates | None = None
    stages: Sequence[StageTime] = ()
    figures: Sequence[FigureFile] = ()
    clips: Sequence[Clip] = ()
    quality: Mapping[str, SourceQuality] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    dataset: Dataset | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str | int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def render_report(data: ReportData, path: Path) -> None:
    """Writes the page to `path`, whole or not at all.

    Images are embedded in the file; it refers to nothing outside itself and runs no scripts. What `data` lacks is
    shown as not run.

    Args:
      data: content of the page; any text in it is escaped.
      path: of the HTML file.
    """
    template = page_environment().get_template("report.html.j2")
    seconds = [stage.seconds for stage in data.stages if stage.seconds is not None]
    clock = {"total": sum(seconds), "longest": max(seconds, default=0)}
    page = template.render(data=data, verdict=verdict(data.rates, data.changes), **clock)
    write_bytes(Path(path), page.encode())


def verdict(rates: Mapping[str, SuccessRate | None], changed: Sequence[Change] = ()) -> str:
    """Returns sentences on PPO, its difference from BC, and the VLA; empty if neither PPO nor BC was run.

    Args:
      rates: success of each actor.
      changed: what PPO changed; of length and jerk what differs from 0 is said.
    """
    start, end = rates.get("bc"), rates.get("ppo")
    if end is None:
        return f"BC reached the goal in {_of_trials(start)}; PPO was not run." if start is not None else ""
    if start is None:
        return f"PPO reached the goal in {_of_trials(end)}; BC was not run."
    difference = newcombe(end, start)
    points = round(100 * (end.rate - start.rate))
    relation = f"{abs(points)} points {'above' if points > 0 else 'below'}" if points else "the same as"
    sentence = (
        f"PPO reached the goal in {_of_trials(end)}. That is {relation} BC, where it started "
        f"(95 % interval of the difference {100 * difference.low:+.0f} to {100 * difference.high:+.0f})."
        f"{_finer(changed)}"
    )
    student = rates.get("vla")
    if student is None:
        return sentence
    return f"{sentence} The VLA trained on its data reached it in {student.successes} of {student.trials}."


def _finer(changed: Sequence[Change]) -> str:
    """Returns a sentence on length and jerk where PPO changed them; empty where it is not known that it did."""
    words = {_CHANGES["length"]: ("shorter", "longer"), _CHANGES["mean_squared_jerk"]: ("less jerky", "jerkier")}
    known = [
        one for one in changed if one.name in words and one.before and one.difference.low * one.difference.high > 0
    ]
    said = [
        f"{abs(round(100 * one.difference.value / one.before))} % {words[one.name][one.difference.value > 0]}"
        for one in known
    ]
    return f" Where both do, its episodes are {' and '.join(said)}." if said else ""


def _of_trials(rate: SuccessRate) -> str:
    return f"{rate.successes} of {rate.trials} held-out episodes"
