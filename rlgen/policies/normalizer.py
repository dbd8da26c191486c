"""Brings observations and actions to the scale that networks like. Fitted on data, stored with the policy."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from rlgen.core.errors import UserError


@struct.dataclass
class Normalizer:
    """Offsets and scales as plain arrays: normalised = (value - offset) / scale.

    Attributes:
      observation_offset, observation_scale: mean and floored standard deviation of the data.
      action_offset, action_scale: middle and floored half range of the data's actions, or 0 and 1.
    """

    observation_offset: Float[Array, " O"]
    observation_scale: Float[Array, " O"]
    action_offset: Float[Array, " A"]
    action_scale: Float[Array, " A"]


def identity_normalizer(observation_size: int, action_size: int) -> Normalizer:
    """Changes nothing."""
    return Normalizer(
        observation_offset=np.zeros(observation_size, np.float32),
        observation_scale=np.ones(observation_size, np.float32),
        action_offset=np.zeros(action_size, np.float32),
        action_scale=np.ones(action_size, np.float32),
    )


def fit_normalizer(
    observation: Float[np.ndarray, "M O"],
    action: Float[np.ndarray, "M A"],
    observation_floor: float = 1e-2,
    action_floor: float | None = 0.05,
) -> Normalizer:
    """Fits on data.

    A number that hardly moves in the data is divided by the floor, not by its own spread: what was constant among the
    demonstrations would otherwise swamp the network as soon as a rollout moves it.

    Args:
      observation: observations, metres, radians or whatever they are.
      action: actions in [-1, 1]; leading axes may be more than one.
      observation_floor: smallest standard deviation divided by.
      action_floor: smallest half range of an action; None leaves actions as they are.

    Raises:
      UserError: the data is empty or not finite.
    """
    observation = np.asarray(observation, np.float64).reshape(-1, np.shape(observation)[-1])
    action = np.asarray(action, np.float64).reshape(-1, np.shape(action)[-1])
    for name, values in (("observations", observation), ("actions", action)):
        if len(values) == 0:
            raise UserError(f"0 {name} to fit a normaliser on: expected one or more; collect demonstrations first")
        if not np.isfinite(values).all():
            column = int(np.argwhere(~np.isfinite(values))[0, 1])
            raise UserError(f"{name} with a value that is not finite in column {column}: mend the data first")
    offset, scale = np.zeros(action.shape[1]), np.ones(action.shape[1])
    if action_floor is not None:
        low, high = action.min(0), action.max(0)
        offset, scale = (low + high) / 2, np.maximum((high - low) / 2, action_floor)
    arrays = (observation.mean(0), np.maximum(observation.std(0), observation_floor), offset, scale)
    return Normalizer(*(array.astype(np.float32) for array in arrays))


def normalize_observation(
    normalizer: Normalizer, observation: Float[Array, "*B O"], clip: float = 5.0
) -> Float[Array, "*B O"]:
    """Observations with mean 0 and deviation 1 on the data, clamped to +-`clip` deviations."""
    scaled = (observation - normalizer.observation_offset) / normalizer.observation_scale
    return jnp.clip(scaled, -clip, clip)


def normalize_action(normalizer: Normalizer, action: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
    """Actions in [-1, 1] on the data."""
    return (action - normalizer.action_offset) / normalizer.action_scale


def unnormalize_action(normalizer: Normalizer, action: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
    """The inverse of `normalize_action`."""
    return action * normalizer.action_scale + normalizer.action_offset
