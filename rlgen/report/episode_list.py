"""The list of a dataset's episodes, or of two datasets side by side, with filters by what is known of the episodes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlgen.data.index import IndexEntry
from rlgen.report.pages import page_environment, page_script

LETTERS = ("A", "B")
"""Of the datasets of a page."""
UNKNOWN, NONE = "unknown", "none"
_SUCCESS = {True: "yes", False: "no", None: UNKNOWN}
EpisodeRow = tuple[int | None, ...]
"""A row of the list: the index of an episode in each dataset, None where it has none beside the other's."""


@dataclass(frozen=True)
class EpisodeFacts:
    """The facts that a dataset stores about one episode.

    Attributes:
      entry: of its index.
      task: `<suite>/<name>`; None if it is not known.
      actor: who acted, such as `ppo`; None if it is not known.
      success: whether it reaches the goal; None if it is not known.
      label: the reason for which an export would have left it out; empty if there is none, None if it is not known.
      start: a text that is the same for equal initial states alone; None if the state is not known.
    """

    entry: IndexEntry
    task: str | None = None
    actor: str | None = None
    success: bool | None = None
    label: str | None = None
    start: str | None = None


@dataclass(frozen=True)
class ShownDataset:
    """A dataset on the pages.

    Attributes:
      name: shown.
      facts: of its card, by name.
      episodes: in order.
    """

    name: str
    facts: Mapping[str, str]
    episodes: Sequence[EpisodeFacts]


@dataclass(frozen=True)
class RowFilter:
    """A choice that leaves some rows of the list.

    Attributes:
      name: of the rows' attribute `data-...`, and in the fragment of the page's address.
      title: shown.
      options: the values of the rows, each with the number of those that have it.
    """

    name: str
    title: str
    options: Sequence[tuple[str, int]]


def episode_link(index: int) -> str:
    """Returns the file name of the page of a row of the list, counted from 0."""
    return f"episode-{index:05d}.html"


def index_page(datasets: Sequence[ShownDataset], rows: Sequence[EpisodeRow]) -> str:
    """Returns the list of episodes, each row a link to its page.

    Args:
      datasets: one or two.
      rows: of the list; of a single dataset, all of its episodes in order.
    """
    values = row_values(datasets, rows)
    listed = [
        {
            "link": episode_link(index),
            "values": values[index],
            "prompt": _first(datasets, row).entry.prompt,
            "cells": [None if at is None else (at, one.episodes[at]) for one, at in zip(datasets, row, strict=True)],
        }
        for index, row in enumerate(rows)
    ]
    return (
        page_environment()
        .get_template("episodes.html.j2")
        .render(
            title=title(datasets),
            datasets=list(zip(LETTERS, datasets, strict=False)),
            steps=[sum(episode.entry.steps for episode in one.episodes) for one in datasets],
            facts=_facts_of_each(datasets),
            filters=row_filters(datasets, values),
            rows=listed,
            script=page_script("filter.js"),
        )
    )


def title(datasets: Sequence[ShownDataset]) -> str:
    """Returns the names of the datasets as a title."""
    return " beside ".join(one.name for one in datasets)


def row_values(datasets: Sequence[ShownDataset], rows: Sequence[EpisodeRow]) -> list[dict[str, str]]:
    """Returns what every row can be filtered by, by the name of the filter.

    A row has no value of a dataset of which it shows no episode.

    Args:
      datasets: one or two.
      rows: of the list.
    """
    names = _task_names([episode for one in datasets for episode in one.episodes])
    found = []
    for row in rows:
        values = {"task": names[_task_key(_first(datasets, row))]}
        if len(datasets) > 1:
            values["beside"] = beside(datasets, row)
        for prefix, one, at in zip(("", "other-"), datasets, row, strict=False):
            if at is not None:
                facts = one.episodes[at]
                label = UNKNOWN if facts.label is None else facts.label or NONE
                values |= {f"{prefix}success": _SUCCESS[facts.success], f"{prefix}label": label}
                values[f"{prefix}actor"] = facts.actor or UNKNOWN
        found.append(values)
    return found


def beside(datasets: Sequence[ShownDataset], row: EpisodeRow) -> str:
    """Returns what two episodes of a row have in common, or that there is only one.

    Args:
      datasets: both.
      row: of the list.
    """
    known = [one.episodes[at].start for one, at in zip(datasets, row, strict=True) if at is not None]
    if len(known) == 1:
        return "no episode beside it"
    return "same task" if None in known else "same task and initial state"


def row_filters(datasets: Sequence[ShownDataset], values: Sequence[Mapping[str, str]]) -> list[RowFilter]:
    """Returns the filters of a list: by task, and by success, label and actor of each dataset.

    Args:
      datasets: one or two.
      values: of the rows.
    """
    titles = {"task": "Task"} | ({"beside": "Side by side"} if len(datasets) > 1 else {})
    for prefix, letter in list(zip(("", "other-"), LETTERS, strict=True))[: len(datasets)]:
        of = f"{letter}: " if len(datasets) > 1 else ""
        titles |= {f"{prefix}{kind}": (of + kind).capitalize() for kind in ("success", "label", "actor")}
    counts = {name: Counter(row[name] for row in values if name in row) for name in titles}
    return [RowFilter(name, title, sorted(counts[name].items())) for name, title in titles.items()]


def _task_key(facts: EpisodeFacts) -> tuple[str, str | None]:
    return facts.entry.prompt, facts.task


def _task_names(episodes: Sequence[EpisodeFacts]) -> dict[tuple[str, str | None], str]:
    """Returns the name of each task: its prompt, and its identifier where several tasks have that prompt."""
    keys = dict.fromkeys(map(_task_key, episodes))
    known = Counter(prompt for prompt, task in keys if task is not None)
    return {
        (prompt, task): f"{prompt} ({task or UNKNOWN})" if known[prompt] > 1 else prompt or NONE
        for prompt, task in keys
    }


def _first(datasets: Sequence[ShownDataset], row: EpisodeRow) -> EpisodeFacts:
    """Returns what is known of the first episode of a row."""
    return next(one.episodes[at] for one, at in zip(datasets, row, strict=True) if at is not None)


def _facts_of_each(datasets: Sequence[ShownDataset]) -> dict[str, list[Any]]:
    """Returns the facts on the cards, one value for each dataset; nothing where it does not say one."""
    names = dict.fromkeys(name for one in datasets for name in one.facts)
    return {name: [one.facts.get(name, "") for one in datasets] for name in names}
