"""A trained model with its transforms: a robot's observations in, its actions out.

policy = open_policy(Path("runs/vla/model/3000"))
prepared = policy.prepare(sample)  # by the keys of openpi's LIBERO clients, with a batch axis
actions = policy.act(prepared, policy.sample_noise([0]))  # [1, H, 7]
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from rlgen.core.errors import UserError
from rlgen.core.types import LIBERO, Robot
from rlgen.vla.checkpoints.model_folder import DESCRIPTION, find_model, find_stats, read_description, read_stats
from rlgen.vla.checkpoints.weights import load_params
from rlgen.vla.data.images import to_floats
from rlgen.vla.data.inputs import as_noise
from rlgen.vla.data.spec import HASHED_WORDS, InputSpec, make_pipeline, released_spec
from rlgen.vla.data.transforms import Pipeline, Sample
from rlgen.vla.model import pi0, presets
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.model.pi0 import Inputs

NOT_FINITE = "the model's actions are not finite; look at its weights, and at the state and noise that it was given"


@dataclass(frozen=True)
class VlaPolicy:
    """A model that turns samples with a batch axis into chunks of actions.

    Attributes:
      config: of the model.
      params: its parameters.
      pipeline: its transforms.
      sampling_steps: Euler steps of sampling.
      batch: observations in a call of the network; fewer are padded to it, so that it is compiled once.
      buckets: pad to the next power of two instead: more programs to compile, less to compute.
      spec: describes the transforms.
    """

    config: VlaConfig
    params: PyTree
    pipeline: Pipeline
    sampling_steps: int = 10
    batch: int = 8
    buckets: bool = False
    spec: InputSpec = field(default_factory=InputSpec)

    def prepare(self, sample: Sample) -> Sample:
        """Returns a sample, with or without a batch axis, as the model reads it.

        Raises:
          UserError: the observation is not what the model reads; names the key.
        """
        return self.pipeline.inputs(sample)

    def act(self, prepared: Sample, noise: Float[np.ndarray, "N H A"]) -> Float[np.ndarray, "N H D"]:
        """Samples actions for N prepared samples, from given noise, as the robot executes them.

        Raises:
          UserError: the noise is none that a normal distribution gives; an action is not finite.
        """
        noise = as_noise(noise, (len(noise), self.config.horizon, self.config.action_size))
        actions = self.sample_actions(prepared, noise)
        if not np.isfinite(actions).all():
            raise UserError(NOT_FINITE)
        return actions

    def sample_actions(self, prepared: Sample, noise: Float[np.ndarray, "N H A"]) -> Float[np.ndarray, "N H D"]:
        """Samples actions that may not be finite, each by itself; arguments as of `act`."""
        count, out = len(noise), []
        for start in range(0, count, self.batch):
            # Row 0 pads the last call; its result is dropped.
            rows = np.arange(start, start + self.call_size(count - start))
            rows = np.where(rows < count, rows, 0)
            out.append(np.asarray(self._sample(jax.tree.map(lambda x, rows=rows: x[rows], prepared), noise[rows])))
        actions = np.concatenate(out)[:count]
        return np.asarray(self.pipeline.outputs({**prepared, "actions": actions})["actions"], np.float32)

    def call_size(self, count: int) -> int:
        """Returns the rows of the network's call for `count` observations or more."""
        return min(self.batch, 1 << (count - 1).bit_length()) if self.buckets else self.batch

    def sample_noise(self, seeds: list[int]) -> Float[np.ndarray, "N H A"]:
        """Samples normal noise for each of N samples, each from its own seed."""
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
        return pi0.sample(self.config, self.params, inputs, noise, self.sampling_steps)


def open_policy(
    folder: Path,
    *,
    checkpoint: str | None = None,
    preset: str | None = None,
    tokenizer: str | None = None,
    norm_stats: Path | None = None,
    cameras: int | None = None,
    sampling_steps: int = 10,
    batch: int = 8,
    buckets: bool = False,
) -> VlaPolicy:
    """Opens a policy: a model folder of ours, which says what it is, or an openpi checkpoint.

    Args:
      folder: model folder, openpi checkpoint, or the folder of a fine-tuning.
      checkpoint: which model of a fine-tuning, as of `find_model`.
      preset: the model of an openpi checkpoint.
      tokenizer: its SentencePiece model.
      norm_stats: its statistics, where its `assets` hold none or several.
      cameras: how many of its cameras are computed; all by default. LIBERO has two, the third is masked.
      sampling_steps: Euler steps of sampling.
      batch: largest number of observations in a call.
      buckets: pad calls to powers of two.

    Raises:
      UserError: nothing that can be read, or something is missing for a checkpoint of openpi's.
    """
    folder = find_model(folder, checkpoint)
    if (folder / DESCRIPTION).is_file():
        if any(option is not None for option in (preset, tokenizer, norm_stats, cameras)):
            raise UserError(f"{folder} says what it is; leave out --preset, --tokenizer, --norm-stats and --cameras")
        config, spec, stats = read_description(folder)
        # In the type in which the model computes, as openpi serves them.
        params = load_params(config, folder, dtype=jnp.dtype(config.dtype))
        pipeline = make_pipeline(config, spec, stats)
        return VlaPolicy(config, jax.tree.map(jnp.asarray, params), pipeline, sampling_steps, batch, buckets, spec)
    if preset is None or tokenizer is None:
        raise UserError(
            f"{folder} has no {DESCRIPTION}; for an openpi checkpoint pass --preset (such as pi05_libero) and "
            "--tokenizer paligemma_tokenizer.model"
        )
    config, spec = presets.with_cameras(presets.preset(preset), cameras), released_spec(preset, tokenizer)
    if tokenizer == HASHED_WORDS:
        raise UserError("hashed words are not what a published model was trained with; pass its SentencePiece model")
    stats = read_stats(norm_stats or find_stats(folder))
    params = jax.tree.map(jnp.asarray, load_params(config, folder, dtype=jnp.dtype(config.dtype)))
    return VlaPolicy(config, params, make_pipeline(config, spec, stats), sampling_steps, batch, buckets, spec)


def policy_metadata(folder: Path, horizon: int, robot: Robot = LIBERO) -> dict[str, Any]:
    """Returns what every client gets of a policy: nothing of where this machine keeps it.

    Args:
      folder: of the policy; clients get its name and not its path.
      horizon: actions in a chunk.
      robot: that it acts on.
    """
    name = "libero" if robot.is_libero else "other"
    widths = {} if robot.is_libero else {"state_size": robot.state, "action_size": robot.action}
    return {"robot": name, "action_horizon": horizon, "policy": Path(folder).resolve().name, **widths}


def call_sizes(policy: VlaPolicy) -> list[int]:
    """Returns the sizes of the model's calls, each of which is a program of its own."""
    return sorted({policy.call_size(count) for count in range(1, policy.batch + 1)})


def warm_up(policy: VlaPolicy, sizes: Sequence[int] | None = None) -> None:
    """Compiles the model's calls, so that no client waits for it.

    Args:
      policy: the model.
      sizes: of the calls; all by default.
    """
    config = policy.config
    side, state = 2 * [config.image_size], policy.pipeline.robot.state
    blank = {key: np.zeros((1, *side, 3), np.uint8) for key in ("observation/image", "observation/wrist_image")}
    sample = policy.prepare({**blank, "observation/state": np.zeros((1, state)), "prompt": [""]})
    for size in call_sizes(policy) if sizes is None else sizes:
        rows = jax.tree.map(lambda x, size=size: np.repeat(x, size, axis=0), sample)
        policy.act(rows, np.zeros((size, config.horizon, config.action_size), np.float32))
