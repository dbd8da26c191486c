"""The reference numbers of the published model at a small size."""

import json
from functools import cache

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from shared import shared_dir

from rlgen.vla.config import ExpertConfig, VisionConfig, VlaConfig
from rlgen.vla.model import Inputs


def folder():
    return shared_dir() / "golden" / "openpi"


@cache
def arrays(name: str, part: str = "pi0") -> dict[str, np.ndarray]:
    with np.load(folder() / "public" / part / f"{name}.npz") as file:
        return dict(file)


@cache
def description(name: str, part: str = "misc") -> dict:
    return json.loads((folder() / "public" / part / f"{name}.json").read_text())


def config() -> VlaConfig:
    return VlaConfig(
        vision=VisionConfig(width=32, depth=2, mlp=64, heads=2, patch=14),
        language=ExpertConfig(width=64, mlp=128),
        action=ExpertConfig(width=32, mlp=64),
        depth=3,
        heads=8,
        kv_heads=1,
        head_size=16,
        vocabulary=512,
        image_size=28,
        action_size=8,
        horizon=6,
        prompt_length=10,
    )


@cache
def params():
    return unflatten_dict({tuple(k.split("/")): jnp.asarray(v) for k, v in arrays("params").items()})


@cache
def inputs() -> Inputs:
    given = arrays("inputs")
    return Inputs(
        pictures={name: jnp.asarray(given[f"image/{name}"]) for name in config().cameras},
        picture_mask={name: jnp.asarray(given[f"image_mask/{name}"]) for name in config().cameras},
        prompt=jnp.asarray(given["tokenized_prompt"]),
        prompt_mask=jnp.asarray(given["tokenized_prompt_mask"]),
        state=jnp.asarray(given["state"]),
    )


def relative(ours, theirs) -> float:
    return float(np.max(np.abs(np.asarray(ours) - theirs)) / np.max(np.abs(theirs)))
