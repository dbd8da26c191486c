"""Normalising by z-scores (pi0) or quantiles (pi0.5), and back. NumPy in, NumPy out; JAX likewise."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlgen.vla.statistics import Statistics

Kind = Literal["zscore", "quantile"]
EPSILON = 1e-6


def normalise(stats: Statistics, x: Float[Array, "*B D"], kind: Kind = "zscore") -> Float[Array, "*B D"]:
    """Numbers of mean 0 and deviation 1, or of which 98 % lie in [-1, 1]; longer statistics are cut."""
    size = x.shape[-1]
    if kind == "zscore":
        return (x - stats.mean[..., :size]) / (stats.std[..., :size] + EPSILON)
    low, high = stats.q01[..., :size], stats.q99[..., :size]
    return (x - low) / (high - low + EPSILON) * 2 - 1


def unnormalise(stats: Statistics, x: Float[Array, "*B D"], kind: Kind = "zscore") -> Float[Array, "*B D"]:
    """The inverse. Dimensions beyond the statistics have mean 0 and deviation 1, or stay as they are."""
    size, numpy = stats.mean.shape[-1], jnp if isinstance(x, jax.Array) else np
    known, beyond = x[..., :size], x[..., size:]
    if kind == "zscore":
        known = known * (stats.std[..., : x.shape[-1]] + EPSILON) + stats.mean[..., : x.shape[-1]]
        beyond = beyond * (1.0 + EPSILON)
    else:
        low, high = stats.q01[..., : x.shape[-1]], stats.q99[..., : x.shape[-1]]
        known = (known + 1) / 2 * (high - low + EPSILON) + low
    return numpy.concatenate([known, beyond], axis=-1)


def subtract_state(
    actions: Float[np.ndarray, "*B H A"], state: Float[np.ndarray, "*B S"], mask: tuple[bool, ...]
) -> Float[np.ndarray, "*B H A"]:
    """Absolute actions as differences from the state, where `mask` says so; the mask may be shorter."""
    return actions - _masked_state(actions, state, mask)


def add_state(
    actions: Float[np.ndarray, "*B H A"], state: Float[np.ndarray, "*B S"], mask: tuple[bool, ...]
) -> Float[np.ndarray, "*B H A"]:
    """The inverse of `subtract_state`."""
    return actions + _masked_state(actions, state, mask)


def _masked_state(actions: np.ndarray, state: np.ndarray, mask: tuple[bool, ...]) -> np.ndarray:
    out = np.zeros((*actions.shape[:-2], 1, actions.shape[-1]), actions.dtype)
    out[..., 0, : len(mask)] = np.where(mask, state[..., : len(mask)], 0)
    return out


def pad_last(x: Float[np.ndarray, "*B D"], size: int) -> Float[np.ndarray, "*B size"]:
    """Zeros behind the last axis up to `size`."""
    if x.shape[-1] > size:
        raise ValueError(f"{x.shape[-1]} dimensions do not fit a model of action_size {size}")
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])
