"""An episode as a small GIF."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from rlgen.core.errors import UserError
from rlgen.core.files import write_bytes

BORDER = 3
STRIP = 22
REACHED = (0, 114, 178)
MISSED = (213, 94, 0)
NEUTRAL = (107, 114, 128)


def episode_gif(
    frames: UInt8[np.ndarray, "T h w 3"],
    *,
    caption: str,
    success: bool | None,
    size: int = 192,
    every: int = 2,
    control_hz: float = 20.0,
    max_bytes: int = 600_000,
) -> bytes:
    """Returns a looping GIF at the speed of the episode, with a caption and a border that shows the outcome.

    The first and the last image are always shown, the last for a second. If the file gets larger than `max_bytes`,
    colors and then images are dropped until it fits; if no version fits, the smallest is returned.

    Args:
      frames: images in the orientation for people, one for each control step.
      caption: a few words below the image, cut to fit.
      success: a blue border and a tick if true, an orange one and a cross if false, a gray one if None.
      size: width of the image, pixels.
      every: one of so many frames is shown.
      control_hz: frames per second of the episode.
      max_bytes: largest size of the file.

    Raises:
      UserError: there are no frames, or they are no 8-bit color images.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise UserError(
            f"frames {frames.dtype} {list(frames.shape)}: expected uint8 [T, h, w, 3] with one or more frames"
        )
    best = b""
    for step, colors in (
        (every, 96),
        (every, 48),
        (every + 1, 40),
        (2 * every, 40),
        (3 * every, 32),
        (5 * every, 24),
    ):
        chosen = _every(len(frames), step)
        images = [_framed(frames[index], caption, success, size) for index in chosen]
        data = _encode(images, colors, round(1000 * step / control_hz))
        best = data if not best or len(data) < len(best) else best
        if len(data) <= max_bytes:
            return data
    return best


def write_gif(path: Path, frames: UInt8[np.ndarray, "T h w 3"], **options: Any) -> Path:
    """Writes `episode_gif(frames, **options)` to `path`, whole or not at all, and returns `path`."""
    write_bytes(Path(path), episode_gif(frames, **options))
    return Path(path)


def clip_name(actor: str, task: str, seed: int, success: bool) -> str:
    """Returns a file name that says who acted, on what, with which seed and how it ended.

    Args:
      actor: who acted.
      task: `<suite>/<name>`.
      seed: seed or index of the episode.
      success: whether the goal was reached.
    """
    parts = [actor, task.replace("/", "-"), f"seed{seed}", "success" if success else "failure"]
    return "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", part) for part in parts) + ".gif"


def _every(length: int, step: int) -> list[int]:
    chosen = list(range(0, length, step))
    return chosen if chosen[-1] == length - 1 else [*chosen, length - 1]


def _framed(frame: UInt8[np.ndarray, "h w 3"], caption: str, success: bool | None, size: int) -> Image.Image:
    """Returns a frame scaled to `size`, in its border, above a strip with the caption."""
    height = max(1, round(size * frame.shape[0] / frame.shape[1]))
    image = Image.fromarray(frame).resize((size, height), Image.Resampling.BICUBIC)
    color = NEUTRAL if success is None else REACHED if success else MISSED
    canvas = Image.new("RGB", (size + 2 * BORDER, height + 2 * BORDER + STRIP), color)
    canvas.paste(image, (BORDER, BORDER))
    draw = ImageDraw.Draw(canvas)
    middle = height + 2 * BORDER + (STRIP - BORDER) / 2
    right = _draw_outcome(draw, canvas.width - BORDER - 4, middle, success)
    font = ImageFont.load_default(size=12)
    draw.text((BORDER + 4, middle), _fitting(draw, caption, font, right - BORDER - 10), "white", font, "lm")
    return canvas


def _draw_outcome(draw: ImageDraw.ImageDraw, right: float, middle: float, success: bool | None) -> float:
    """Draws a tick or a cross that ends at `right`, for those who see no colors; returns its left end."""
    if success is None:
        return right
    left = right - 11
    if success:
        strokes = [[(left, middle), (left + 4, middle + 5), (right, middle - 5)]]
    else:
        low, high = middle - 4, middle + 4
        strokes = [[(left + 2, low), (right - 1, high)], [(left + 2, high), (right - 1, low)]]
    for stroke in strokes:
        draw.line(stroke, "white", 2, "curve")
    return left


def _fitting(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> str:
    text = " ".join(text.split())
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "...", font) > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _encode(images: list[Image.Image], colors: int, milliseconds: int) -> bytes:
    """Encodes a GIF with one palette for all images and no dither, so that what does not move costs no bytes."""
    palette = _palette(images, colors)
    first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    out = io.BytesIO()
    times = [milliseconds] * len(rest) + [1000]
    first.save(out, "gif", save_all=True, append_images=rest, duration=times, loop=0, optimize=False)
    return out.getvalue()


def _palette(images: list[Image.Image], colors: int) -> Image.Image:
    """Returns the best colors for eight of the images, and those of the caption, which few pixels have."""
    picked = [images[index] for index in np.linspace(0, len(images) - 1, 8).round().astype(int)]
    sheet = Image.new("RGB", (picked[0].width, sum(image.height for image in picked)))
    for row, image in enumerate(picked):
        sheet.paste(image, (0, row * image.height))
    border = np.array(images[0].getpixel((0, 0)))
    caption = [border + (255 - border) * step // 4 for step in range(5)]
    best = sheet.quantize(colors - len(caption), method=Image.Quantize.MEDIANCUT).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*best[: 3 * (colors - len(caption))], *np.concatenate(caption).tolist()])
    return palette
