"""A trained model with its transforms: a robot's observations in, its actions out."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from rlgen.core.errors import UserError
from rlgen.vla.checkpoints.model_folder import SPEC, find_stats, read_model, read_stats
from rlgen.vla.checkpoints.weights import load_params
from rlgen.vla.data.images import to_floats
from rlgen.vla.data.spec import HASHED_WORDS, make_pipeline, released_spec
from rlgen.vla.data.transforms import Pipeline, Sample
from rlgen.vla.model import pi0, presets
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.model.pi0 import Inputs


@dataclass(frozen=True)
class Policy:
    """Turns samples with a batch axis into chunks of actions.

    Attributes:
      config: sizes of the model.
      params: its parameters.
      pipeline: its transforms.
      steps: Euler steps of sampling.
      batch: observations a call of the network; other numbers are filled up, so that it compiles once.
      powers: fill up to the next power of two only: more to compile, less to wait for.
    """

    config: VlaConfig
    params: PyTree
    pipeline: Pipeline
    steps: int = 10
    batch: int = 8
    powers: bool = False

    def prepare(self, sample: Sample) -> Sample:
        """The model's inputs of one sample, without a batch axis or with one.

        Raises:
          UserError: the observation is not what the model reads; names the key.
        """
        return self.pipeline.inputs(sample)

    def act(self, prepared: Sample, noise: Float[np.ndarray, "N H A"]) -> Float[np.ndarray, "N H 7"]:
        """Actions as the robot takes them, for prepared samples with a batch axis, from given noise."""
        count, out = len(noise), []
        for start in range(0, count, self.batch):
            # Row 0 fills up the last group; what comes out for it is dropped.
            rows = np.arange(start, start + self.call_size(count - start))
            rows = np.where(rows < count, rows, 0)
            out.append(np.asarray(self._sample(jax.tree.map(lambda x, rows=rows: x[rows], prepared), noise[rows])))
        return self.finish(prepared, np.concatenate(out)[:count])

    def call_size(self, count: int) -> int:
        """Rows of the network's call for `count` observations."""
        return min(self.batch, 1 << (count - 1).bit_length()) if self.powers else self.batch

    def finish(self, prepared: Sample, actions: Float[np.ndarray, "N H A"]) -> Float[np.ndarray, "N H 7"]:
        """The model's actions as the robot takes them."""
        back = self.pipeline.outputs({"state": prepared["state"], "actions": actions})
        return np.asarray(back["actions"], np.float32)

    def draw_noise(self, seeds: list[int]) -> Float[np.ndarray, "N H A"]:
        """Normal noise for each sample from its own seed."""
        shape = (self.config.horizon, self.config.action_size)
        return np.stack([np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds])

    def _sample(self, prepared: Sample, noise: np.ndarray) -> jax.Array:
        inputs = Inputs(
            images={name: to_floats(prepared["images"][name]) for name in self.config.cameras},
            image_mask={name: jnp.asarray(mask) for name, mask in prepared["image_mask"].items()},
            prompt=jnp.asarray(prepared["tokens"]),
            prompt_mask=jnp.asarray(prepared["token_mask"]),
            state=jnp.asarray(prepared["state"]),
        )
        return pi0.sample(self.config, self.params, inputs, noise, self.steps)


def load_policy(
    folder: Path, *, steps: int = 10, batch: int = 8, powers: bool = False, half: bool | None = None
) -> Policy:
    """A policy from a model folder of ours.

    Args:
      folder: as `rlgen.vla.checkpoints.model_folder` writes it.
      steps: Euler steps of sampling.
      batch: most observations a call.
      powers: calls of a power of two.
      half: parameters in bfloat16, as openpi serves; by default where the model computes in it.
    """
    config, params, pipeline = read_model(folder, half=half)
    return Policy(config, jax.tree.map(jnp.asarray, params), pipeline, steps, batch, powers)


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
    if tokenizer == HASHED_WORDS:
        raise UserError("hashed words are not what a published model was trained with; pass its SentencePiece model")
    stats = read_stats(norm_stats or find_stats(folder))
    dtype = jnp.bfloat16 if config.dtype == "bfloat16" else np.float32
    params = jax.tree.map(jnp.asarray, load_params(config, folder, dtype=dtype))
    return Policy(config, params, make_pipeline(config, spec, stats), steps, batch, powers)
