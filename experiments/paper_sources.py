"""The sources of data of the paper's tables: a fleet, its clones or its experts with noise, or a mixture of others.

Every source has as many successful episodes of each task, exported in the same way. `paper.py` trains on them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.core.files import read_json
from rlgen.data.card import read_card
from rlgen.data.dataset import dataset_folders
from rlgen.fleet.assemble import episodes_path, read_states
from rlgen.fleet.plan import open_plan

Command = list[str]
Step = tuple[dict[str, Any], Callable[[], list[Command]]]
"""A run as the ledger has it, and its commands, which may need what the runs before it made."""


@dataclass(frozen=True)
class Source:
    """The making of a source's data.

    Attributes:
      fleet: options of its `rlgen fleet`; none where it needs other sources.
      again: the source whose runs collect again, and from whom, as `collect.source` names it.
      parts: weights of the sources of a mixture; of a single source its first episodes are taken.
      spare: how many more episodes its fleet records than are wanted, as a fraction: some that pause do not succeed
        again once their no-ops are dropped, and are not exported.
    """

    fleet: tuple[str, ...] = ()
    again: tuple[str, str] | None = None
    parts: dict[str, float] = field(default_factory=dict)
    spare: float = 0.0

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the sources that are made before."""
        return self.again[:1] if self.again else tuple(self.parts)


def _expert(seed: int) -> Source:
    return Source(("--source", "diffusion", "--seed", str(seed)))


def _scripted(*options: str) -> Source:
    return Source(("--source", "scripted", *options), spare=0.5)


def _styles(count: int) -> tuple[str, ...]:
    return ("--demos.no-clean", "--demos.styles", str(count))


SOURCES = {
    "recorded": _scripted(),
    "scripted": Source(parts={"recorded": 1}),
    # Those that the experts began as.
    "clone": Source(again=("diffusion", "clone")),
    "gaussian": Source(("--source", "gaussian")),
    "diffusion": Source(("--source", "diffusion")),
    # Half of the episodes of each, and a quarter: data of many patterns beside data of one.
    "half": Source(parts={"scripted": 1, "diffusion": 1}),
    "quarter": Source(parts={"scripted": 1, "diffusion": 3}),
    # Objects and robot moved further than any region of the task.
    "wide": Source(("--source", "diffusion", "--resets", "wide")),
    # One expert and several, from other demonstrations, clones and seeds; one expert that explores.
    "expert1": _expert(1),
    "expert2": _expert(2),
    "expert3": _expert(3),
    "two-experts": Source(parts={"diffusion": 1, "expert1": 1}),
    "four-experts": Source(parts={"diffusion": 1, "expert1": 1, "expert2": 1, "expert3": 1}),
    "noise": Source(again=("diffusion", "exploring")),
    # Scripted episodes in one manner, two and four instead of one each.
    **{f"recorded{count}": _scripted(*_styles(count)) for count in (1, 2, 4)},
    **{f"styles{count}": Source(parts={f"recorded{count}": 1}) for count in (1, 2, 4)},
}
STUDIES = {
    "table1": ("scripted", "clone", "gaussian", "diffusion"),
    "table2": ("scripted", "diffusion", "half", "quarter", "wide"),
    "dial": ("diffusion", "two-experts", "four-experts", "noise", "styles1", "styles2", "styles4", "scripted"),
}
LABELS = {
    "length": ("length", "mean"),
    "jerk": ("mean_squared_jerk", "mean"),
    "jerk without scale": ("log_dimensionless_jerk", "mean"),
    "action variation": ("action_variation", "mean"),
    "gripper switches": ("gripper_switches", "mean"),
    "no-ops": ("noops_per_4500",),
    "distance between paths": ("diversity", "distance", "mean"),
    "ways": ("diversity", "ways"),
}
"""Figures of a dataset's card, by what they are called here."""


@dataclass(frozen=True)
class Making:
    """The commands that make data.

    Attributes:
      tasks: words of the tasks or the suite.
      runs: folder of everything.
      image_size: of the datasets, pixels.
      episodes: of each task.
      assets: options that choose the object assets.
      workers: threads and jobs.
      given: datasets that nobody makes, by their sources.
      fleet: further options of the fleets.
    """

    tasks: tuple[str, ...]
    runs: Path
    image_size: int
    episodes: int
    assets: tuple[str, ...]
    workers: int
    given: dict[str, str]
    fleet: tuple[str, ...] = ()

    def steps(self, source: str) -> Iterator[Step]:
        """Yields the runs that make the data of a source, those of the sources that it needs first."""
        if source in self.given:
            return
        made = SOURCES[source]
        for needed in made.needs:
            yield from self.steps(needed)
        name = "fleet" if made.fleet else "collect" if made.again else "merge"
        commands = {"fleet": self._fleet, "collect": self._collect, "merge": self._merge}[name]
        yield {"run": name, "source": source}, lambda: commands(source)

    def datasets(self, source: str) -> list[str]:
        """Returns the folders of a source's datasets."""
        if source in self.given:
            return [self.given[source]]
        folder = self._folder(source) / "datasets"
        if (folder / "made.json").is_file():
            return [str(folder / name) for name in read_json(folder / "made.json")["datasets"]]
        found = dataset_folders(folder) if folder.is_dir() else []
        return [str(path) for path in found] or [str(folder / "DATASET")]

    def labels(self, source: str) -> dict[str, float]:
        """Returns the labels of a source's card; of several datasets the mean, by episodes.

        A label that a card does not have, such as the number of ways of few episodes, is left out.
        """
        cards = [read_card(Path(folder))["quality"] for folder in self.datasets(source)]
        found = {label: [_figure(card, keys) for card in cards] for label, keys in LABELS.items()}
        weights = [card["episodes"] for card in cards]
        known = {label: values for label, values in found.items() if None not in values}
        return {label: float(np.average(values, weights=weights)) for label, values in known.items()}

    def _folder(self, source: str) -> Path:
        return self.runs / f"data-{source}"

    def _fleet(self, source: str) -> list[Command]:
        out = ["--out", str(self._folder(source)), *SOURCES[source].fleet, "--jobs", str(self.workers)]
        episodes = math.ceil((1 + SOURCES[source].spare) * self.episodes)
        size = ["--export.image-size", str(self.image_size), "--collect.episodes", str(episodes)]
        return [["fleet", *self.tasks, *out, *size, *self.assets, *self.fleet]]

    def _collect(self, source: str) -> list[Command]:
        """Returns the commands that let others of a fleet's policies act, export it, and choose as before."""
        of, actor = SOURCES[source].again or ("", "")
        fleet = self._folder(of)
        runs = ["RUN"]
        if fleet.is_dir():
            plan = open_plan(fleet)
            runs = [str(episodes_path(fleet, plan, one)) for one in read_states(fleet, plan) if one.state == "done"]
        out = ["--out", str(self._folder(source) / "datasets"), "--image-size", str(self.image_size)]

        def collect(who: str) -> list[Command]:
            return [["run", "collect", "--run", run, "--collect.source", who] for run in runs]

        return [*collect(actor), ["data", "export", *runs, *out, *self.assets], *collect("ppo")]

    def _merge(self, source: str) -> list[Command]:
        parts = SOURCES[source].parts
        folders = [folder for part in parts for folder in self.datasets(part)]
        weights = [str(weight) for part, weight in parts.items() for _ in self.datasets(part)]
        shares = ["--weights", *weights, "--episodes", str(self.episodes), "--workers", str(self.workers)]
        return [["data", "merge", *folders, "--out", str(self._folder(source) / "datasets"), *shares]]


def _figure(card: dict[str, Any], keys: tuple[str, ...]) -> float | None:
    value: Any = card
    for key in keys:
        value = value[key]
    return value
