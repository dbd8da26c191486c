"""The paper's claims, a line each: what was measured here, by which command, and whether it holds.

Command:  uv run python experiments/tables.py prints it with the other tables
Cost:     none; numbers are those of the committed results.
Expected: `holds` and `does not` are said by an interval that leaves no other answer, `open` by everything else.
          `needed` is more than no success, and not needed less than five points of it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ablations import ABLATIONS, LEDGER, apart, pairs_of, student_interval
from ablations import RESULTS as ABLATED
from fleet_tables import BAR, FLEETS, rows_of
from paper import RESULTS as PAPER
from paper_figures import QUALITY
from paper_tables import BENCHMARK, interval, outcomes_of
from table_parts import RESULTS

from rlgen.core.text import number
from rlgen.training.metrics import read_metrics

HOLDS, FAILS, OPEN = "holds", "does not", "open"
NOT_RUN = "not run"
# Points of success that decide whether a choice matters.
MARGIN = 5.0
Finding = tuple[str, str]
"""The measurement as text, and the verdict."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
      text: the claim.
      where: in the paper.
      measure: returns what was measured; None where that has not been run.
      command: that measures it.
      cost: of the command.
    """

    text: str
    where: str
    measure: Callable[[], Finding | None]
    command: str
    cost: str


def claims_table() -> str:
    """Returns a row for each claim."""
    rows = ["| claim | paper | measured here | command | cost | verdict |", "|" + " --- |" * 6]
    for claim in CLAIMS:
        text, verdict = claim.measure() or (NOT_RUN, OPEN)
        rows.append(f"| {claim.text} | {claim.where} | {text} | {claim.command} | {claim.cost} | {verdict} |")
    return "\n".join(rows)


def verdict_of(low: float, high: float, *, holds_above: float = 0.0, fails_below: float = 0.0) -> str:
    """Returns the verdict on a claim that a difference is positive, from the interval of the difference.

    Args:
      low: end of the interval.
      high: end of the interval.
      holds_above: what the whole interval must exceed for the claim to hold.
      fails_below: what the whole interval must stay below for it to fail.
    """
    return HOLDS if low > holds_above else FAILS if high < fails_below else OPEN


def _experts() -> Finding | None:
    rates = _rates("diffusion")
    reached = sum(rate >= BAR for rate in rates.values())
    if len(rates) < 2:
        return None
    mean, low, high = student_interval([100 * rate for rate in rates.values()])
    text = f"{reached} of {len(rates)} tasks at 95 % and more, {mean:.1f} % ({low:.1f} to {high:.1f}) on average"
    return text, verdict_of(low, high, holds_above=100 * BAR, fails_below=100 * BAR)


def _rates(name: str) -> dict[str, float]:
    """Returns the success of the experts of a fleet by task; of a fleet that was not run none."""
    rows = rows_of(name) if (FLEETS / name).is_dir() else []
    return {row.task: row.after.success.rate for row in rows if row.state == "done" and row.after.success}


def _gaussian_fails() -> Finding | None:
    ours, others = _rates("diffusion"), _rates("gaussian")
    both = sorted(set(ours) & set(others))
    if len(both) < 2:
        return None
    mean, low, high = student_interval([100 * (ours[task] - others[task]) for task in both])
    text = f"diffusion's experts {mean:+.1f} points ({low:+.1f} to {high:+.1f}), {len(both)} tasks"
    return text, verdict_of(low, high)


def _quality() -> dict[str, Any] | None:
    path = PAPER / QUALITY
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if {"scripted", "diffusion", "gaussian"} <= set(found) else None


def _least(figure: str) -> Callable[[], Finding | None]:
    """Returns the measure of whether diffusion PPO's data have least of a figure: intervals must not overlap."""

    def measure() -> Finding | None:
        found = _quality()
        if found is None:
            return None
        text = ", ".join(f"{name} {number(value[figure]['mean'])}" for name, value in found.items())
        ours = found["diffusion"][figure]
        others = [value[figure] for name, value in found.items() if name != "diffusion"]
        if all(ours["high"] < other["low"] for other in others):
            return text, HOLDS
        return text, FAILS if any(other["high"] < ours["low"] for other in others) else OPEN

    return measure


def _noops() -> Finding | None:
    found = _quality()
    if found is None:
        return None
    counts = {name: value["noops_per_4500"] for name, value in found.items()}
    text = ", ".join(f"{name} {number(count)}" for name, count in counts.items())
    return text, HOLDS if counts["diffusion"] == counts["gaussian"] == 0 < counts["scripted"] else FAILS


def _spread() -> Finding | None:
    found = _quality()
    if found is None:
        return None
    spreads = {name: value["action_spread"][1] for name, value in found.items()}
    text = ", ".join(f"{name} {number(value)}" for name, value in spreads.items())
    return text, HOLDS if min(spreads, key=lambda name: spreads[name]) == "diffusion" else FAILS


def _trained(ours: str, other: str, on: str = BENCHMARK) -> Callable[[], Finding | None]:
    """Returns the measure of whether VLAs on one source's data succeed more than on another's."""

    def measure() -> Finding | None:
        ledger = PAPER / "small-libero_spatial.jsonl"
        lines = read_metrics(ledger) if ledger.exists() else []
        first, second = (outcomes_of(lines, source, on) for source in (ours, other))
        if first is None or second is None or first.shape != second.shape:
            return None
        mean, low, high = (100 * end for end in interval(first.astype(float) - second))
        rates = " and ".join(f"{100 * outcomes.mean():.1f} %" for outcomes in (first, second))
        text = f"{rates}: {mean:+.1f} points ({low:+.1f} to {high:+.1f}), {len(first)} seeds"
        return text, verdict_of(low, high)

    return measure


def _ablated(name: str, favored: str, *, needed: bool) -> Callable[[], Finding | None]:
    """Returns the measure of whether one side of an ablation is needed, or at least as good.

    A side that is needed has more success, by an interval above 0, and is not needed where the interval stays below
    `MARGIN`; one that is as good has no `MARGIN` less.
    """

    def measure() -> Finding | None:
        ledger = ABLATED / LEDGER
        pairs = pairs_of(read_metrics(ledger) if ledger.exists() else [], name)
        if len(pairs) < 2:
            return None
        ablation = ABLATIONS[name]
        sign, beside = (1, ablation.recipe) if favored == ablation.other else (-1, ablation.other)
        mean, low, high = student_interval([sign * value for value in apart(pairs, "success, %")])
        text = f"{favored} {mean:+.1f} points ({low:+.1f} to {high:+.1f}) beside {beside}, {len(pairs)} runs each"
        bounds = (0.0, MARGIN) if needed else (-MARGIN, -MARGIN)
        return text, verdict_of(low, high, holds_above=bounds[0], fails_below=bounds[1])

    return measure


def _sampler_speed() -> Finding | None:
    rows = json.loads((RESULTS / "speed" / "sampler.json").read_text())["rows"]

    def seconds(sampler: str, steps: int) -> float:
        return _only([r for r in rows if (r["sampler"], r["steps"]) == (sampler, steps) and r["noise"]])["seconds"]

    ratio = seconds("ddpm", 100) / seconds("ddim", 5)
    return f"{ratio:.1f} times as long for 50 observations", HOLDS if ratio >= 10 else FAILS


def _only(rows: Sequence[dict]) -> dict:
    [row] = [row for row in rows if row["batch"] == 50 and row["chunk"] == 16]
    return row


TABLE, FIGURES, ABLATION = "`paper.py`", "`paper_figures.py`", "`ablations.py`"
CLAIMS = (
    Claim("Diffusion PPO makes an expert of each task", "I", _experts, "`rlgen fleet`", "0.2 core-hours a task"),
    Claim("Gaussian PPO fails where diffusion PPO does not", "V-A", _gaussian_fails, "`rlgen fleet`", "2 core-hours"),
    Claim(
        "A VLA on RL data beats one on human data (here human-like)",
        "table I",
        _trained("diffusion", "scripted"),
        TABLE,
        "4 core-hours",
    ),
    Claim(
        "A VLA on diffusion's data beats one on Gaussian PPO's",
        "table I",
        _trained("diffusion", "gaussian"),
        TABLE,
        "4 core-hours",
    ),
    Claim(
        "Both kinds of data together are best on layouts not trained on",
        "table II",
        _trained("half", "diffusion", "wide"),
        f"{TABLE} table2",
        "15 core-hours",
    ),
    Claim("The U-Net is needed", "figure 5a", _ablated("network", "U-Net", needed=True), ABLATION, "5 core-hours"),
    Claim(
        "DDPM takes ten times as long as DDIM's 5 steps",
        "figure 5b",
        _sampler_speed,
        "`rlgen bench sampler`",
        "10 minutes",
    ),
    Claim(
        "DDIM's 5 steps are as good as DDPM's 100, or better",
        "figure 5b",
        _ablated("sampler", "DDIM, 5 steps", needed=False),
        ABLATION,
        "3 core-hours",
    ),
    Claim(
        "A cosine schedule of the learning rate is needed",
        "figure 5c",
        _ablated("schedule", "cosine", needed=True),
        ABLATION,
        "1 core-hour",
    ),
    Claim(
        "Many parallel environments are needed",
        "figure 5d",
        _ablated("environments", "20", needed=True),
        ABLATION,
        "0.5 core-hours",
    ),
    Claim("Diffusion PPO's episodes are the shortest", "figure 6a", _least("length"), FIGURES, "a minute"),
    Claim("and the smoothest (squared jerk)", "figure 6b", _least("mean_squared_jerk"), FIGURES, "a minute"),
    Claim("RL data have no no-ops, human data have (in 4,500 episodes)", "V-C", _noops, FIGURES, "a minute"),
    Claim("Its actions vary least (standard deviation of y)", "figure 7", _spread, FIGURES, "a minute"),
)


if __name__ == "__main__":
    print(claims_table())
