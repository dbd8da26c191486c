"""A finished model as a folder that openpi reads as a checkpoint, with what we need besides.

params/                     Orbax, root key `params`, plain names
assets/<id>/norm_stats.json statistics
assets/<id>/tokenizer.model the SentencePiece model, where one is used
rlgen.json                  model and transforms
"""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rlgen.core.errors import UserError
from rlgen.core.files import read_json, write_bytes, write_json
from rlgen.vla.checkpoints.openpi import write_params
from rlgen.vla.checkpoints.weights import load_params
from rlgen.vla.data.normalize import NormStats
from rlgen.vla.data.spec import HASHED_WORDS, InputSpec, from_json, make_pipeline, to_json
from rlgen.vla.data.transforms import Pipeline
from rlgen.vla.model.config import VlaConfig

ASSET = "libero"
SPEC, STATS, TOKENIZER = "rlgen.json", "norm_stats.json", "tokenizer.model"


def write_model(
    folder: Path, config: VlaConfig, spec: InputSpec, stats: NormStats, params: PyTree, *, asset: str = ASSET
) -> None:
    """Writes a model folder; what makes it one, `rlgen.json`, comes last.

    Raises:
      UserError: something is there already, or the disk refuses.
    """
    folder = Path(folder)
    write_params(folder, params)
    assets = folder / "assets" / asset
    write_json(assets / STATS, stats.to_json())
    if spec.tokenizer != HASHED_WORDS:
        write_bytes(assets / TOKENIZER, Path(spec.tokenizer).expanduser().read_bytes())
        spec = dataclasses.replace(spec, tokenizer=f"assets/{asset}/{TOKENIZER}")
    write_json(folder / SPEC, to_json(config, spec) | {"asset": asset})


def read_description(folder: Path) -> tuple[VlaConfig, InputSpec, NormStats]:
    """Model, transforms and statistics of a folder, without its parameters.

    Raises:
      UserError: it is no model folder, or damaged.
    """
    folder = Path(folder).expanduser()
    if not (folder / SPEC).is_file():
        raise UserError(f"{folder}: no {SPEC} there; pass a model folder, or --preset with an openpi checkpoint")
    try:
        value = read_json(folder / SPEC)
    except ValueError as error:
        raise UserError(f"{folder / SPEC} is damaged ({error}); write the model again") from error
    config, spec = from_json(value)
    stats = read_stats(folder / "assets" / str(value.get("asset", ASSET)) / STATS)
    if spec.tokenizer != HASHED_WORDS:
        spec = dataclasses.replace(spec, tokenizer=str(folder / spec.tokenizer))
    return config, spec, stats


def read_stats(path: Path) -> NormStats:
    """openpi's `norm_stats.json`; `UserError` where it is missing or damaged."""
    try:
        return NormStats.from_json(read_json(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no readable statistics ({error})") from error


def find_stats(checkpoint: Path) -> Path:
    """The only `norm_stats.json` of an openpi checkpoint.

    Raises:
      UserError: there is none, or more than one.
    """
    found = sorted((Path(checkpoint).expanduser() / "assets").rglob(STATS))
    if len(found) != 1:
        names = ", ".join(str(path) for path in found) or "none"
        raise UserError(f"{checkpoint}: expected one {STATS} below assets, found {names}; pass it as --norm-stats")
    return found[0]


def read_model(folder: Path, *, half: bool | None = None) -> tuple[VlaConfig, PyTree, Pipeline]:
    """A folder's model, parameters and transforms.

    Args:
      folder: of ours.
      half: parameters in bfloat16; by default where the model computes in it.
    """
    config, spec, stats = read_description(folder)
    half = config.dtype == "bfloat16" if half is None else half
    params = load_params(config, folder, dtype=jnp.bfloat16 if half else np.float32)
    return config, params, make_pipeline(config, spec, stats)
