"""The paper's tables out of a ledger: success of each source with its interval, paired differences, and the dial."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from rlgen.core.errors import UserError

RESAMPLES = 2000
BENCHMARK = "benchmark"
# Fewer sources have no rank correlation worth a number.
LEAST_SOURCES = 4


def outcomes_of(lines: Sequence[dict[str, Any]], source: str, on: str = BENCHMARK) -> Bool[np.ndarray, "S E"] | None:
    """Returns the outcomes of a source's evaluations: a row for each seed, a column for each task and initial state.

    Args:
      lines: of the ledger.
      source: its name.
      on: name of the evaluation.

    Raises:
      UserError: seeds have different numbers of trials.
    """
    evaluations = [line for line in lines if line["run"] == "evaluate" and line["on"] == on]
    rows = {line["seed"]: line["outcomes"] for line in evaluations if line["source"] == source}
    if not rows:
        return None
    texts = ["".join(rows[seed][task] for task in sorted(rows[seed])) for seed in sorted(rows)]
    if len({len(text) for text in texts}) > 1:
        raise UserError(f"evaluations of {source} have different numbers of trials; give them a ledger each")
    return np.array([[mark == "1" for mark in text] for text in texts])


def interval(values: Float[np.ndarray, "S E"], *, seed: int = 0) -> tuple[float, float, float]:
    """Returns the mean over seeds and trials with its 95 % interval, from resampled seeds and resampled trials.

    Args:
      values: outcomes or differences of outcomes: a row for each seed.
      seed: of the resampling.
    """
    means = list(resampled(values, seed))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(np.mean(values)), float(low), float(high)


def resampled(values: Float[np.ndarray, "S E"], seed: int) -> Iterator[float]:
    """Yields means of resampled seeds and trials.

    Args:
      values: a row for each seed.
      seed: of the resampling; the same for sources that are to be paired.
    """
    values, random = np.asarray(values, float), np.random.default_rng(seed)
    seeds, trials = values.shape
    for _ in range(RESAMPLES):
        yield values[random.integers(seeds, size=seeds)][:, random.integers(trials, size=trials)].mean()


def table(lines: Sequence[dict[str, Any]], against: str = "scripted") -> str:
    """Returns the table of a ledger: success of each source on each evaluation, and its paired difference to another.

    Args:
      lines: of the ledger.
      against: the source that others are compared with.
    """
    head = f"| data | evaluated on | seeds | trials | success, % | difference to {against}, points | core-hours |\n"
    rows = [head + "|" + " --- |" * 7]
    for source in dict.fromkeys(line["source"] for line in lines):
        hours = sum(line["core_seconds"] for line in lines if line["source"] == source) / 3600
        for on in dict.fromkeys(line["on"] for line in lines if line["run"] == "evaluate"):
            outcomes, reference = outcomes_of(lines, source, on), outcomes_of(lines, against, on)
            if outcomes is None:
                continue
            comparable = reference is not None and source != against and reference.shape == outcomes.shape
            difference = _percent(interval(outcomes.astype(float) - reference)) if comparable else ""
            counts = (str(len(outcomes)), str(outcomes.size))
            cells = (source, on, *counts, _percent(interval(outcomes)), difference, f"{hours:.1f}")
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def dial(lines: Sequence[dict[str, Any]], on: str = BENCHMARK) -> str:
    """Returns the table of labels: how well each ranks the sources by the success of what was trained on them.

    The rank correlation (Spearman) is over the sources; its interval is from resampled seeds and trials, which leaves
    the sources as they are.

    Args:
      lines: of the ledger.
      on: name of the evaluation.
    """
    labels = {line["source"]: line["labels"] for line in lines if line["run"] == "train"}
    found = {source: outcomes_of(lines, source, on) for source in labels}
    outcomes = {source: values for source, values in found.items() if values is not None}
    if len(outcomes) < LEAST_SOURCES:
        return f"{len(outcomes)} sources on {on}: fewer than {LEAST_SOURCES} have no rank correlation"
    successes = [values.mean() for values in outcomes.values()]
    means = np.stack([list(resampled(values, seed)) for seed, values in enumerate(outcomes.values())], axis=1)
    rows = []
    for label in (label for label in labels[next(iter(outcomes))] if all(label in labels[one] for one in outcomes)):
        values = [labels[source][label] for source in outcomes]
        correlation = rank_correlation(values, successes)
        if np.isnan(correlation):
            rows.append((0.0, f"| {label} | the same in all sources |"))
            continue
        low, high = np.nanquantile([rank_correlation(values, row) for row in means], (0.025, 0.975))
        rows.append((correlation, f"| {label} | {correlation:+.2f} ({low:+.2f} to {high:+.2f}) |"))
    rows.sort(key=lambda row: -abs(row[0]))
    return "\n".join(["| label | rank correlation with success |", "| --- | --- |", *(row for _, row in rows)])


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns Spearman's rank correlation; NaN where all values of one side are equal."""
    ranks = [rankdata(values) for values in (one, other)]
    centered = [values - values.mean() for values in ranks]
    size = float(np.sqrt((centered[0] ** 2).sum() * (centered[1] ** 2).sum()))
    return float(centered[0] @ centered[1]) / size if size else float("nan")


def _percent(value: tuple[float, float, float]) -> str:
    mean, low, high = (100 * one for one in value)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"
