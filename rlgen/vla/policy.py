"""A trained model with its transforms: a robot's observations in, its actions out."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from rlgen.vla import model
from rlgen.vla.config import VlaConfig
from rlgen.vla.model import Inputs
from rlgen.vla.model_folder import read_model
from rlgen.vla.pictures import to_floats
from rlgen.vla.transforms import Pipeline, Sample


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
            pictures={name: to_floats(prepared["pictures"][name]) for name in self.config.cameras},
            picture_mask={name: jnp.asarray(mask) for name, mask in prepared["picture_mask"].items()},
            prompt=jnp.asarray(prepared["tokens"]),
            prompt_mask=jnp.asarray(prepared["token_mask"]),
            state=jnp.asarray(prepared["state"]),
        )
        return model.sample(self.config, self.params, inputs, noise, self.steps)


def load_policy(
    folder: Path, *, steps: int = 10, batch: int = 8, powers: bool = False, half: bool | None = None
) -> Policy:
    """A policy from a model folder of ours.

    Args:
      folder: as `rlgen.vla.model_folder` writes it.
      steps: Euler steps of sampling.
      batch: most observations a call.
      powers: calls of a power of two.
      half: parameters in bfloat16, as openpi serves; by default where the model computes in it.
    """
    config, params, pipeline = read_model(folder, half=half)
    return Policy(config, jax.tree.map(jnp.asarray, params), pipeline, steps, batch, powers)
