"""PaliGemma's own weights, an npz with names such as `params/llm/layers/attn/q_einsum/w`."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree

from rlgen.errors import UserError
from rlgen.vla.param_groups import is_action_expert, is_lora
from rlgen.vla.tree_diff import compare, nested, tree_shapes

PREFIX, OURS = "params/", "PaliGemma/"


def backbone_names(expected: PyTree) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what PaliGemma brings: the picture encoder and the first expert, without adapters."""
    shapes = tree_shapes(expected)
    theirs = [n for n in shapes if n.startswith(OURS) and not (is_action_expert(n) or is_lora(n))]
    return {name: shapes[name] for name in theirs}


def read_paligemma(path: Path, expected: PyTree) -> PyTree:
    """Reads the leaves that `backbone_names` lists, strictly; shapes are checked before anything is read.

    Raises:
      UserError: no such file, another model, or damaged data; names the leaves.
    """
    path = Path(path).expanduser()
    try:
        with zipfile.ZipFile(path) as archive:
            found = {info.filename.removesuffix(".npy"): _shape(archive, info) for info in archive.infolist()}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable npz ({error}); fetch PaliGemma's weights again") from error
    renamed = {OURS + name.removeprefix(PREFIX): name for name in found if name.startswith(PREFIX)}
    difference = compare({ours: found[theirs] for ours, theirs in renamed.items()}, backbone_names(expected))
    if difference:
        raise UserError(f"{path} does not hold this model's PaliGemma: {difference}")
    flat: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as archive:
        for ours, theirs in renamed.items():
            try:
                flat[ours] = archive[theirs]
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                raise UserError(f"{path}: {theirs} cannot be read ({error}); fetch the file again") from error
    return nested(flat)


def _shape(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[int, ...]:
    """An array's shape from the first bytes of its entry."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(file)[0]
