"""A finished model as a folder that openpi reads as a checkpoint.

params/                      Orbax, root key `params`, plain names
assets/<id>/norm_stats.json  statistics
assets/<id>/tokenizer.model  the SentencePiece model, where one is used
rlgen.json                   model and transforms; openpi does not read it
"""

import dataclasses
from pathlib import Path

from jaxtyping import PyTree

from rlgen.core.errors import UserError, first_line
from rlgen.core.files import expanded, read_json, write_bytes, write_json
from rlgen.core.types import LIBERO, Robot
from rlgen.vla.checkpoints.openpi import write_params
from rlgen.vla.data.normalize import NormStats
from rlgen.vla.data.spec import HASHED_WORDS, InputSpec, from_json, of_robot, to_json
from rlgen.vla.model.config import VlaConfig

ASSET = "libero"
MODELS = "model"
DESCRIPTION, STATS, TOKENIZER = "rlgen.json", "norm_stats.json", "tokenizer.model"


def write_model(
    folder: Path, config: VlaConfig, spec: InputSpec, stats: NormStats, params: PyTree, *, asset: str = ASSET
) -> None:
    """Writes a model folder; `rlgen.json`, which makes it one, comes last.

    Args:
      folder: not there yet, or without `params`.
      config: the model.
      spec: its transforms.
      stats: its statistics.
      params: its parameters.
      asset: name of the folder of the statistics.

    Raises:
      UserError: something is there already, or the disk refuses.
    """
    folder = Path(folder)
    write_params(folder, params)
    assets = folder / "assets" / asset
    write_json(assets / STATS, stats.to_json())
    if spec.tokenizer != HASHED_WORDS:
        write_bytes(assets / TOKENIZER, expanded(spec.tokenizer).read_bytes())
        spec = dataclasses.replace(spec, tokenizer=f"assets/{asset}/{TOKENIZER}")
    write_json(folder / DESCRIPTION, to_json(config, spec) | {"asset": asset})


def find_model(folder: Path, checkpoint: str | None = None) -> Path:
    """Finds a model: the folder itself, or one of the models of a fine-tuning's folder.

    Args:
      folder: model folder, openpi checkpoint, or the folder of a fine-tuning.
      checkpoint: of a fine-tuning: `best`, `last`, which is the default, or a number of steps.

    Raises:
      UserError: there is no folder, it has no such model, or is itself a model.
    """
    folder = expanded(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a model, a fine-tuning or an openpi checkpoint")
    models = {path.parent.name: path.parent for path in (folder / MODELS).glob(f"[!.]*/{DESCRIPTION}")}
    if (folder / DESCRIPTION).is_file() or not models:
        if checkpoint is not None:
            raise UserError(f"--checkpoint {checkpoint}: {folder} is no fine-tuning with models; leave the option out")
        return folder
    steps = sorted((name for name in models if name.isdecimal()), key=int)
    name = steps[-1] if steps and checkpoint in (None, "last") else checkpoint or "last"
    if name not in models:
        raise UserError(f"--checkpoint {name}: {folder} has {', '.join([*sorted(set(models) - set(steps)), *steps])}")
    return models[name]


def read_description(folder: Path) -> tuple[VlaConfig, InputSpec, NormStats]:
    """Reads model, transforms and statistics of a folder, without its parameters.

    Raises:
      UserError: it is no model folder, or damaged.
    """
    folder = expanded(folder)
    if not (folder / DESCRIPTION).is_file():
        raise UserError(f"{folder}: no {DESCRIPTION} there; pass a model folder, or --preset with an openpi checkpoint")
    try:
        value = read_json(folder / DESCRIPTION)
        config, spec = from_json(value)
    except (ValueError, RecursionError) as error:
        path = folder / DESCRIPTION
        raise UserError(f"{path} is damaged ({first_line(error)}); write the model again") from error
    stats = read_stats(folder / "assets" / str(value.get("asset", ASSET)) / STATS, spec.robot)
    if spec.tokenizer != HASHED_WORDS:
        spec = dataclasses.replace(spec, tokenizer=str(folder / spec.tokenizer))
    return config, spec, stats


def read_stats(path: Path, robot: Robot = LIBERO) -> NormStats:
    """Reads openpi's `norm_stats.json`; `UserError` where it is missing, damaged or of another robot than `robot`."""
    try:
        stats = NormStats.from_json(read_json(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: no readable statistics ({first_line(error)})") from error
    return of_robot(stats, str(path), robot)


def find_stats(checkpoint: Path) -> Path:
    """Finds the only `norm_stats.json` of an openpi checkpoint.

    Raises:
      UserError: there is none, or more than one.
    """
    found = sorted((expanded(checkpoint) / "assets").rglob(STATS))
    if len(found) != 1:
        names = ", ".join(str(path) for path in found) or "none"
        raise UserError(f"{checkpoint}: expected one {STATS} below assets, found {names}; pass it as --norm-stats")
    return found[0]
