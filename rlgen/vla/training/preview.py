"""The data as a model will see them, for `rlgen vla train --dry-run`: lines of text, and a sheet of images."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from rlgen.core.files import write_bytes
from rlgen.core.ownership import check_file
from rlgen.data.dataset import open_dataset
from rlgen.data.frames import CAMERAS
from rlgen.data.loader import Mixture, Subset
from rlgen.vla.data.batches import Batch
from rlgen.vla.data.normalize import NormStats, normalize
from rlgen.vla.data.spec import InputSpec
from rlgen.vla.data.tokens import prompt_ids
from rlgen.vla.data.training_statistics import data_extents, floors
from rlgen.vla.data.transforms import Tokenize
from rlgen.vla.training.loop import Trainer, batch_inputs

EXAMPLES, SIDE, LINE, SPACE = 6, 224, 15, 6
NARROWEST, WIDEST = 7, 30
"""Characters of the names of numbers."""
MARK = ("Software", "rlgen vla train --dry-run")


def describe_dataset(folder: str, split: str | None, subset: Subset) -> str:
    """Describes a dataset: its length, and the size of its images as stored.

    Args:
      folder: of the dataset.
      split: as of `open_dataset`.
      subset: of it, to train on.
    """
    episode, table = open_dataset(Path(folder), split, any_robot=True)[0], subset.frames.table
    stored = {name: getattr(episode, name) for name in CAMERAS}
    sizes = [f"{name} {images.shape[2]} x {images.shape[1]}" for name, images in stored.items() if images is not None]
    count = len(np.unique(table.episode))
    return f"{folder}: {len(table)} steps in {count} episodes, {len(subset)} to train on; stored are {', '.join(sizes)}"


def describe_shapes(trainer: Trainer, batch: Batch) -> list[str]:
    """Describes the arrays of a batch, and how much of the model's vectors the robot's numbers fill.

    Args:
      trainer: of the training.
      batch: its first.
    """
    config, train, robot = trainer.config, trainer.train, trainer.pipeline.robot
    lines = [
        f"widths: states of {robot.state} and actions of {robot.action} numbers, in vectors of {config.action_size}, "
        "zeros behind",
        f"a batch of {train.batch}{'' if train.accumulate == 1 else f', in {train.accumulate} parts'}:",
    ]
    arrays = {f"image {name}": image for name, image in batch.images.items()}
    arrays |= {name: getattr(batch, name) for name in ("state", "actions", "prompt", "noise", "time")}
    return lines + [f"  {name}: {list(array.shape)} {array.dtype}" for name, array in arrays.items()]


def describe_normalization(
    trainer: Trainer, spec: InputSpec, stats: NormStats, held_out: Mixture | None = None
) -> list[str]:
    """Describes how each number is normalized, one a line.

    Args:
      trainer: of the training.
      spec: its transforms.
      stats: its statistics.
      held_out: the data to validate on.

    Returns:
      A header for each vector, and lines of the number's name, its range in the data, what it is normalized with, the
      floor of that for a number that hardly varies, and the range that the model sees.
    """
    extents = data_extents(trainer.config, spec, [*trainer.mixture.subsets, *(held_out.subsets if held_out else ())])
    words = {"zscore": ("mean", "deviation"), "quantile": ("1 %", "99 %")}[spec.normalization]
    lines = []
    for vector, column in (("state", "state"), ("actions", "action")):
        names = spec.robot.names(column)
        width = min(WIDEST, max(NARROWEST, *map(len, names)))
        values, extent = getattr(stats, vector), extents[vector]
        low, high = (
            normalize(values, np.asarray(x, np.float32), spec.normalization) for x in (extent.low, extent.high)
        )
        pair = (values.mean, values.std) if spec.normalization == "zscore" else (values.q01, values.q99)
        least = floors(values, extent)
        head = f"{vector + ':':{width + 2}}{words[0]:>10}{words[1]:>11}{'floor':>9}"
        lines.append(f"{head}   in the data             for the model")
        for i, name in enumerate(names):
            data = f"{extent.low[i]:.4g} to {extent.high[i]:.4g}"
            seen = f"{low[i]:.2f} to {high[i]:.2f}"
            with_what = f"{pair[0][i]:>10.4g}{pair[1][i]:>11.4g}{least[i]:>9.3g}"
            lines.append(f"  {name[:width]:{width}}{with_what}   {data:<23} {seen}")
    return lines


def describe_prompts(trainer: Trainer) -> list[str]:
    """Describes the instructions: how many tokens they have, and each of those that are cut."""
    tokenize = next(each for each in trainer.pipeline.transforms if isinstance(each, Tokenize))
    state = np.zeros(tokenize.state_size) if tokenize.with_state else None
    counts = {prompt: len(prompt_ids(prompt, tokenize.encode, state)) for prompt in trainer.mixture.prompts}
    cut = {prompt: count for prompt, count in counts.items() if count > tokenize.length}
    head = f"prompts: {len(counts)} different ones of {min(counts.values())} to {max(counts.values())} tokens"
    lines = [f"{head}, {len(cut)} of them cut at {tokenize.length}"]
    return lines + [f"  cut, {count} tokens: {prompt!r}" for prompt, count in cut.items()]


def check_sheet(path: Path) -> None:
    """Raises `UserError` where a sheet would replace something else."""
    check_file(path, is_sheet, noun="a sheet of examples", option="--sheet")


def write_sheet(path: Path, trainer: Trainer, batch: Batch) -> Path:
    """Writes a PNG of the first examples of a batch: every camera as the network gets it, augmented, and the numbers.

    Args:
      path: of the file; one that is there must be such a sheet.
      trainer: of the training.
      batch: its first.

    Raises:
      UserError: something else is there, or the disk refuses.
    """
    check_sheet(path)
    count = min(EXAMPLES, len(batch.state))
    few = _rows(batch, count)
    inputs = batch_inputs(trainer.config, trainer.train, few)
    images = {name: _to_bytes(np.asarray(image)) for name, image in inputs.images.items()}
    rows = trainer.mixture.select(trainer.train.batch, trainer.train.seed, 0)[trainer.options.rows][:count]
    prompts = trainer.mixture.read(rows, 1)["prompt"]
    robot = trainer.pipeline.robot
    texts = [
        (
            f"{prompts[row]!r}, {int(few.prompt_mask[row].sum())} tokens",
            f"state {_numbers(np.asarray(inputs.state)[row, : robot.state])}",
            f"first action {_numbers(few.actions[row, 0, : robot.action])}",
        )
        for row in range(count)
    ]
    names = [name if few.image_mask[name][0] else f"{name}, masked" for name in images]
    write_bytes(path, _png(list(images.values()), names, texts))
    return path


def is_sheet(path: Path) -> bool:
    """Returns whether a file is a sheet that `write_sheet` wrote."""
    try:
        with Image.open(path) as image:
            return image.format == "PNG" and image.info.get(MARK[0]) == MARK[1]
    except (OSError, ValueError, SyntaxError):
        return False


def _rows(batch: Batch, count: int) -> Batch:
    def cut(value):
        return {name: each[:count] for name, each in value.items()} if isinstance(value, dict) else value[:count]

    return Batch(**{name: cut(getattr(batch, name)) for name in Batch.__dataclass_fields__})


def _to_bytes(images: np.ndarray) -> UInt8[np.ndarray, "B h w 3"]:
    """Returns images in [-1, 1] as bytes."""
    return np.clip(np.round((images + 1) * 127.5), 0, 255).astype(np.uint8)


def _numbers(values: np.ndarray) -> str:
    return "  ".join(f"{value:.2f}" for value in values)


def _png(images: Sequence[UInt8[np.ndarray, "B h w 3"]], names: Sequence[str], texts: Sequence[Sequence[str]]) -> bytes:
    """Draws a column for each camera, below its name, and a row for each example, above its texts."""
    font, step = ImageFont.load_default(size=11), SIDE + SPACE
    height = SIDE + LINE * len(texts[0]) + 2 * SPACE
    canvas = Image.new("RGB", (max(2, len(images)) * step + SPACE, LINE + SPACE + height * len(texts)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (name, each) in enumerate(zip(names, images, strict=True)):
        left = SPACE + column * step
        draw.text((left, SPACE // 2), f"{name} {each.shape[2]} x {each.shape[1]}", "black", font)
        for row, image in enumerate(each):
            # Whole pixels, so that what the network cannot see is not seen here.
            scaled = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            canvas.paste(scaled, (left, LINE + SPACE + row * height))
    for row, lines in enumerate(texts):
        top = LINE + SPACE + row * height + SIDE
        for index, line in enumerate(lines):
            draw.text((SPACE, top + index * LINE), line, "black", font)
    info, out = PngInfo(), io.BytesIO()
    info.add_text(*MARK)
    canvas.save(out, "PNG", pnginfo=info)
    return out.getvalue()
