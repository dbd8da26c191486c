"""The page of an episode, or of two side by side: images that play, and every action and state under them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from rlgen.core.errors import UserError
from rlgen.data.episode import DatasetEpisode
from rlgen.data.images import FrameSequence, encode_image, flip_vertical, rotate_180
from rlgen.data.metrics.smoothness import noop_mask
from rlgen.report.episode_list import (
    LETTERS,
    EpisodeFacts,
    EpisodeRow,
    ShownDataset,
    beside,
    episode_link,
    title,
)
from rlgen.report.pages import page_environment, page_script

FRAMES, SIDE, QUALITY = 48, 256, 80
"""Images that play, of each camera: their number, pixels along a side and JPEG quality at most; a page stays small."""
SMALL_FRAMES, SMALL_SIDE = 10, 112
ACTION_AXES = ("x", "y", "z", "rotation x", "rotation y", "rotation z", "gripper")
STATE_AXES = (
    "x, m",
    "y, m",
    "z, m",
    "rotation x, rad",
    "rotation y, rad",
    "rotation z, rad",
    "finger 1, m",
    "finger 2, m",
)
WIDTH, HEIGHT = 860, 74  # of a plot, in its own units
_CAMERAS = {"Front": "image", "Hand": "wrist_image"}


@dataclass(frozen=True)
class CoordinatePlot:
    """One coordinate of one or two episodes over time, as SVG lines.

    Attributes:
      name: shown beside it.
      lines: the points of each.
      low: least value of all.
      high: largest value.
    """

    name: str
    lines: Sequence[str]
    low: float
    high: float


@dataclass(frozen=True)
class Frame:
    """An image of an episode.

    Attributes:
      step: at which it was taken.
      uri: the image itself, as a `data:` address.
    """

    step: int
    uri: str


@dataclass(frozen=True)
class EpisodeSide:
    """One of the episodes on a page.

    Attributes:
      letter: of its dataset.
      name: of its dataset.
      index: in it.
      facts: of the episode.
      steps: their number.
      noops: number of actions that move nothing.
      films: images that play, by camera.
      strips: a few small ones of the whole episode, by camera.
    """

    letter: str
    name: str
    index: int
    facts: EpisodeFacts
    steps: int
    noops: int
    films: dict[str, list[Frame]]
    strips: dict[str, list[Frame]]


def episode_page(
    datasets: Sequence[ShownDataset],
    rows: Sequence[EpisodeRow],
    index: int,
    episodes: Sequence[DatasetEpisode | None],
) -> str:
    """Returns the page of a row of the list.

    Args:
      datasets: one or two.
      rows: of the list.
      index: of the row.
      episodes: of each dataset, None where it has none in this row.

    Raises:
      UserError: an image that cannot be decoded; the message names the episode.
    """
    shown = [
        (place, at, episode)
        for place, (at, episode) in enumerate(zip(rows[index], episodes, strict=True))
        if at is not None and episode is not None
    ]
    sides = [_side(LETTERS[place], datasets[place], at, episode) for place, at, episode in shown]
    actions, states = ([np.asarray(getattr(one, name)) for *_, one in shown] for name in ("action", "state"))
    return (
        page_environment()
        .get_template("episode.html.j2")
        .render(
            title=title(datasets),
            index=index,
            prompt=sides[0].facts.entry.prompt,
            beside=beside(datasets, rows[index]) if len(datasets) > 1 else "",
            sides=sides,
            groups={"Actions": plots(ACTION_AXES, actions), "States": plots(STATE_AXES, states)},
            last=max(side.steps for side in sides) - 1,
            before=episode_link(index - 1) if index > 0 else None,
            after=episode_link(index + 1) if index + 1 < len(rows) else None,
            width=WIDTH,
            height=HEIGHT,
            script=page_script("player.js"),
        )
    )


def _side(letter: str, dataset: ShownDataset, index: int, episode: DatasetEpisode) -> EpisodeSide:
    facts = dataset.episodes[index]
    cameras = {label: getattr(episode, name) for label, name in _CAMERAS.items()}
    present = {label: images for label, images in cameras.items() if images is not None}
    try:
        films = {label: frames(images, FRAMES, SIDE) for label, images in present.items()}
        strips = {label: frames(images, SMALL_FRAMES, SMALL_SIDE) for label, images in present.items()}
    except UserError as error:
        raise UserError(f"episode {facts.entry.name}: {error}") from error
    noops = int(noop_mask(episode.action).sum())
    return EpisodeSide(letter, dataset.name, index, facts, len(episode), noops, films, strips)


def frames(images: FrameSequence | UInt8[np.ndarray, "T h w 3"], most: int, side: int) -> list[Frame]:
    """Returns images of an episode at equal distances, the first and the last one among them, as people see them.

    Args:
      images: of a camera, as datasets have them.
      most: number of them at most.
      side: pixels along each side at most; larger ones are made smaller.
    """
    steps = np.unique(np.linspace(0, len(images) - 1, most).round().astype(int))
    return [Frame(int(step), _image_uri(np.asarray(images[int(step)]), side)) for step in steps]


def _image_uri(image: UInt8[np.ndarray, "h w 3"], side: int) -> str:
    scale = side / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(scale * length)) for length in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    data = encode_image(flip_vertical(rotate_180(image)), QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def plots(names: Sequence[str], series: Sequence[Float[np.ndarray, "T D"]]) -> list[CoordinatePlot]:
    """Returns a plot for each of D coordinates, with a line for each episode; an empty one where it has fewer.

    The longest episode goes from the left to the right edge, the others have its scale. Values go from the lowest to
    the highest of all; where they are all the same, along the middle.

    Args:
      names: of the coordinates; of another number of them, their positions are shown.
      series: their values in each episode.
    """
    steps, width = (max(values.shape[axis] for values in series) for axis in (0, 1))
    shown = names if width == len(names) else [f"number {axis}" for axis in range(width)]
    # A slice, so that an episode without this coordinate has no values.
    return [
        _plot(name, [values[:, axis : axis + 1].ravel() for values in series], steps) for axis, name in enumerate(shown)
    ]


def _plot(name: str, series: Sequence[Float[np.ndarray, " T"]], steps: int) -> CoordinatePlot:
    together = np.concatenate(series)
    low, high = float(together.min()), float(together.max())
    lines = []
    for values in series:
        x = np.arange(len(values)) * WIDTH / max(1, steps - 1)
        relative = (np.asarray(values, float) - low) / (high - low) if high > low else np.full(len(values), 0.5)
        y = HEIGHT - 4 - relative * (HEIGHT - 8)
        lines.append(" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)))
    return CoordinatePlot(name, lines, low, high)
