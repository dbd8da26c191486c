"""Reads the numbers of an independent implementation, and its stub networks."""

import json

import jax.numpy as jnp
import numpy as np
from shared import shared_dir


def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of one file."""
    with np.load(shared_dir() / "golden" / "dppo" / "public" / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose path begins with `prefix/`, by the rest of their path."""
    return {key[len(prefix) + 1 :]: array for key, array in arrays.items() if key.startswith(f"{prefix}/")}


def config(arrays: dict[str, np.ndarray], path: str = "config") -> dict:
    """A stored configuration."""
    return json.loads(str(arrays[path]))


def cases(name: str, marker: str) -> list[str]:
    """Names of the cases that hold `marker`."""
    return sorted({key.split("/")[0] for key in load(name) if key.split("/")[1:2] == [marker]})


def stub(weights, state):
    """The linear stub network: a function of a chunk and a training timestep (one, or one a sample)."""
    flat_state = jnp.asarray(state).reshape(len(state), -1)

    def predict(x, timestep):
        time = jnp.sin(jnp.asarray(timestep, jnp.float32)[..., None] * weights["w"])
        flat = x.reshape(x.shape[0], -1) @ weights["W"].T + weights["b"] + flat_state @ weights["C"].T + time
        return flat.reshape(x.shape)

    return predict
