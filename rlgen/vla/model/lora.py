"""Low-rank adaptation of Gemma's weights, as openpi defines it, and merging it into them.

A weight `w` of `[..., I, O]` gets `lora_a` of `[..., I, r]` and `lora_b` of `[..., r, O]`: w + (alpha / rank) A B in
the attention, w + A B in the MLP. At the attention's output the heads are summed after A and again in B, so that this
term is not one product for each head.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from rlgen.vla.model.config import LoraConfig, VlaConfig
from rlgen.vla.model.parameters import flat_names, is_action_expert, is_lora, nested

# Small random factors in A and zeros in B: a fresh adapter changes nothing.
INIT_A = nn.initializers.normal(0.01)
INIT_B = nn.initializers.zeros


def factor_shapes(shape: tuple[int, ...], rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the shapes of A and B for a weight of `shape`."""
    return (*shape[:-1], rank), (*shape[:-2], rank, shape[-1])


def heads_term(x: Float[Array, "B T W"], a: Float[Array, "n W r"], b: Float[Array, "n r d"]) -> Array:
    """Computes the term that an adapter adds to queries, keys or values.

    Args:
      x: tokens.
      a: first factor.
      b: second factor.

    Returns:
      `[B, T, n, d]`, not scaled.
    """
    low = jnp.einsum("btw,nwr->btnr", x, a.astype(x.dtype))
    return jnp.einsum("btnr,nrd->btnd", low, b.astype(x.dtype))


def output_term(x: Float[Array, "B T n d"], a: Float[Array, "n d r"], b: Float[Array, "n r W"]) -> Array:
    """Computes the term that an adapter adds to the attention's output.

    Args:
      x: results of the heads.
      a: first factor.
      b: second factor.

    Returns:
      `[B, T, W]`, not scaled.
    """
    low = jnp.einsum("btnd,ndr->btr", x, a.astype(x.dtype))
    return low @ jnp.sum(b, axis=0).astype(x.dtype)


def merge_lora(config: VlaConfig, params: PyTree) -> PyTree:
    """Returns the parameters of a model without adapters that computes the same.

    Args:
      config: the model with its adapters; `without_lora(config)` describes the result.
      params: nested dict of arrays, NumPy's or JAX's; float32 for an exact merge.
    """
    flat, merged = flat_names(params), {}
    for name, weight in flat.items():
        if is_lora(name):
            continue
        stem = name.removesuffix("/w")
        joint = "/" if stem != name else "_"
        a, b = (flat.get(f"{stem}{joint}lora_{factor}") for factor in "ab")
        merged[name] = weight if a is None else _merged(stem, weight, a, b, _adapter(config, name))
    return nested(merged)


def _adapter(config: VlaConfig, name: str) -> LoraConfig:
    lora = (config.action if is_action_expert(name) else config.language).lora
    if lora is None:
        raise ValueError(f"{name} has an adapter that the configuration does not know")
    return lora


def _merged(stem: str, weight: Array, a: Array, b: Array, lora: LoraConfig) -> Array:
    module = stem.rsplit("/", 1)[-1]
    wide = [np.asarray(x, np.float32) for x in (weight, a, b)]
    if module.startswith("attn_vec"):
        delta = lora.scale * wide[1] @ wide[2].sum(axis=-3, keepdims=True)
    elif "attn" in stem.split("/"):
        delta = lora.scale * wide[1] @ wide[2]
    else:
        delta = wide[1] @ wide[2]
    return (wide[0] + delta).astype(weight.dtype)
