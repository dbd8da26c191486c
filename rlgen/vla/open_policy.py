"""A policy by its folder: ours, which says what it is, or an openpi checkpoint with its preset."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rlgen.errors import UserError
from rlgen.vla import presets
from rlgen.vla.model_folder import SPEC, find_stats, read_stats
from rlgen.vla.policy import Policy, load_policy
from rlgen.vla.spec import WORDS, make_pipeline, released_spec
from rlgen.vla.weights import load_params


def open_policy(
    folder: Path,
    *,
    preset: str | None = None,
    tokenizer: str | None = None,
    norm_stats: Path | None = None,
    steps: int = 10,
    batch: int = 8,
    powers: bool = False,
) -> Policy:
    """Opens a policy; what the folder says of itself counts.

    Args:
      folder: model folder or openpi checkpoint.
      preset: the model, for a checkpoint that is openpi's.
      tokenizer: likewise, its SentencePiece model.
      norm_stats: likewise, where its `assets` hold none or several.
      steps: Euler steps of sampling.
      batch: most observations a call.
      powers: calls of a power of two.

    Raises:
      UserError: nothing that can be read, or something is missing for a checkpoint of openpi's.
    """
    folder = Path(folder).expanduser()
    if (folder / SPEC).is_file():
        if preset is not None or tokenizer is not None or norm_stats is not None:
            raise UserError(f"{folder} says what it is; leave out --preset, --tokenizer and --norm-stats")
        return load_policy(folder, steps=steps, batch=batch, powers=powers)
    if preset is None or tokenizer is None:
        raise UserError(
            f"{folder} has no {SPEC}; for an openpi checkpoint pass --preset (such as pi05_libero) and "
            "--tokenizer paligemma_tokenizer.model"
        )
    config, spec = presets.preset(preset), released_spec(preset, tokenizer)
    if tokenizer == WORDS:
        raise UserError("hashed words are not what a published model was trained with; pass its SentencePiece model")
    stats = read_stats(norm_stats or find_stats(folder))
    dtype = jnp.bfloat16 if config.dtype == "bfloat16" else np.float32
    params = jax.tree.map(jnp.asarray, load_params(config, folder, dtype=dtype))
    return Policy(config, params, make_pipeline(config, spec, stats), steps, batch, powers)
