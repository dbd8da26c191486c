"""Reference values of the published models at small sizes; every size is read from them."""

import json
from functools import cache

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from goldens import Arrays
from shared import shared_dir

from rlgen.vla.model.config import ExpertConfig, LoraConfig, VisionConfig, VlaConfig
from rlgen.vla.model.pi0 import Inputs

FAMILIES = ("pi0", "pi05", "pi0_lora", "pi05_lora")


def folder():
    return shared_dir("golden/openpi")


def arrays(name: str, part: str = "pi0") -> Arrays:
    return Arrays(f"openpi/public/{part}/{name}.npz")


@cache
def description(name: str, part: str = "misc") -> dict:
    return json.loads((folder() / "public" / part / f"{name}.json").read_text())


def config(part: str = "pi0") -> VlaConfig:
    stored = description("config", part)
    vision = stored["siglip"]
    return VlaConfig(
        vision=VisionConfig(
            width=vision["width"],
            depth=vision["depth"],
            mlp=vision["mlp_dim"],
            heads=vision["num_heads"],
            patch=vision["patch_size"],
        ),
        language=_expert(stored, "paligemma"),
        action=_expert(stored, "action_expert"),
        depth=stored["paligemma"]["depth"],
        heads=stored["paligemma"]["num_heads"],
        kv_heads=stored["paligemma"]["num_kv_heads"],
        head_size=stored["paligemma"]["head_dim"],
        vocabulary=stored["vocab_size"],
        cameras=tuple(stored["image_keys_in_order"]),
        image_size=stored["image_size"],
        action_size=stored["action_dim"],
        horizon=stored["action_horizon"],
        prompt_length=stored["max_token_len"],
        family="pi05" if stored["pi05"] else "pi0",
    )


def _expert(stored: dict, name: str) -> ExpertConfig:
    lora = None
    if stored["lora"]:
        adapter = stored["lora"][name]
        assert adapter["attn"] == adapter["ffn"] and not adapter["attn"]["rslora"]
        lora = LoraConfig(adapter["attn"]["rank"], adapter["attn"]["alpha"])
    return ExpertConfig(stored[name]["width"], stored[name]["mlp_dim"], lora)


@cache
def params(part: str = "pi0"):
    return unflatten_dict({tuple(k.split("/")): jnp.asarray(v) for k, v in arrays("params", part).items()})


@cache
def inputs(part: str = "pi0") -> Inputs:
    given = arrays("inputs", part)
    return Inputs(
        images={name: jnp.asarray(given[f"image/{name}"]) for name in config(part).cameras},
        image_mask={name: jnp.asarray(given[f"image_mask/{name}"]) for name in config(part).cameras},
        prompt=jnp.asarray(given["tokenized_prompt"]),
        prompt_mask=jnp.asarray(given["tokenized_prompt_mask"]),
        state=jnp.asarray(given["state"]),
    )


def names(tree) -> dict:
    return {"/".join(key): value for key, value in flatten_dict(tree).items()}


def relative(ours, theirs) -> float:
    return float(np.max(np.abs(np.asarray(ours) - theirs)) / np.max(np.abs(theirs)))
