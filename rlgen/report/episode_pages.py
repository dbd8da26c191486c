"""Pages that show a dataset: a list of its episodes, and pictures and actions of each. No scripts, nothing outside."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from rlgen.data.episode import DatasetEpisode
from rlgen.data.images import EncodedFrames, encode_image, flip_vertical, rotate_180
from rlgen.data.index import IndexEntry
from rlgen.data.metrics.smoothness import noop_mask
from rlgen.report.html import page_environment

IMAGES = 10  # of each camera on a page
AXES = ("x", "y", "z", "rotation x", "rotation y", "rotation z", "gripper")
WIDTH, HEIGHT = 860, 74  # of a plot, in its own units


@dataclass(frozen=True)
class Curve:
    """One number of the action over time, as the points of an SVG line."""

    name: str
    points: str
    low: float
    high: float


def episode_link(number: int) -> str:
    """File name of an episode's page."""
    return f"episode-{number:05d}.html"


def index_page(name: str, entries: Sequence[IndexEntry], facts: dict[str, Any]) -> str:
    """The list of a dataset's episodes, each a link to its page.

    Args:
      name: of the dataset.
      entries: its episodes.
      facts: shown above the list, words by name.
    """
    rows = [(number, episode_link(number), entry) for number, entry in enumerate(entries)]
    template = page_environment().get_template("episodes.html.j2")
    return template.render(name=name, rows=rows, facts=facts, steps=sum(entry.steps for entry in entries))


def episode_page(name: str, number: int, count: int, entry: IndexEntry, episode: DatasetEpisode) -> str:
    """The page of one episode: where it lies, pictures of both cameras, every number of the action over time."""
    chosen = np.unique(np.linspace(0, len(episode) - 1, IMAGES).round().astype(int))
    views = {"Front": episode.image, "Hand": episode.wrist_image}
    strips = {words: [(int(step), image_uri(view, int(step))) for step in chosen] for words, view in views.items()}
    template = page_environment().get_template("episode.html.j2")
    return template.render(
        name=name,
        number=number,
        entry=entry,
        strips=strips,
        curves=[curve(words, column) for words, column in zip(AXES, np.asarray(episode.action).T, strict=True)],
        states=[curve(words, column) for words, column in zip("xyz", np.asarray(episode.state).T[:3], strict=True)],
        noops=int(noop_mask(episode.action).sum()),
        before=episode_link(number - 1) if number > 0 else None,
        after=episode_link(number + 1) if number + 1 < count else None,
        width=WIDTH,
        height=HEIGHT,
    )


def image_uri(view: EncodedFrames | np.ndarray, step: int) -> str:
    """A picture as people see it: not mirrored, as a `data:` address."""
    # Datasets hold images rotated by 180 degrees: rotating once more gives the benchmark's raw order back.
    data = encode_image(flip_vertical(rotate_180(np.asarray(view[step]))))
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def curve(name: str, values: Float[np.ndarray, " T"]) -> Curve:
    """A line through all values, from the left to the right edge; constant ones run along the middle."""
    low, high = float(np.min(values)), float(np.max(values))
    x = np.linspace(0, WIDTH, max(2, len(values)))[: len(values)]
    share = (np.asarray(values, float) - low) / (high - low) if high > low else np.full(len(values), 0.5)
    y = HEIGHT - 4 - share * (HEIGHT - 8)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return Curve(name, points, low, high)
