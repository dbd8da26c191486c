"""Normalization of observations and actions: fitted on data, stored with the policy."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from rlgen.core.arrays import AnyArray
from rlgen.core.errors import UserError


@struct.dataclass
class Normalizer:
    """Offsets and scales as plain arrays: normalized = (value - offset) / scale.

    Attributes:
      observation_offset: mean of the data.
      observation_scale: its standard deviation, floored.
      action_offset: middle of the range of the data's actions, or 0.
      action_scale: half of that range, floored, or 1.
    """

    observation_offset: Float[AnyArray, " O"]
    observation_scale: Float[AnyArray, " O"]
    action_offset: Float[AnyArray, " A"]
    action_scale: Float[AnyArray, " A"]


def identity_normalizer(observation_size: int, action_size: int) -> Normalizer:
    """Returns a normalizer that changes nothing."""
    return Normalizer(
        observation_offset=np.zeros(observation_size, np.float32),
        observation_scale=np.ones(observation_size, np.float32),
        action_offset=np.zeros(action_size, np.float32),
        action_scale=np.ones(action_size, np.float32),
    )


def fit_normalizer(
    observation: Float[AnyArray, "*M O"],
    action: Float[AnyArray, "*N A"],
    observation_floor: float = 1e-2,
    action_floor: float | None = 0.05,
) -> Normalizer:
    """Fits a normalizer on data.

    A dimension that hardly moves in the data is divided by the floor, not by its own standard deviation: what was
    constant among the demonstrations would otherwise swamp the network as soon as a rollout moves it.

    Args:
      observation: observations, in any units.
      action: actions in [-1, 1].
      observation_floor: smallest standard deviation divided by.
      action_floor: smallest half range of an action; None leaves actions as they are.

    Raises:
      UserError: the data is empty or not finite.
    """
    observation = np.asarray(observation, np.float64).reshape(-1, np.shape(observation)[-1])
    action = np.asarray(action, np.float64).reshape(-1, np.shape(action)[-1])
    for name, values in (("observations", observation), ("actions", action)):
        if len(values) == 0:
            raise UserError(f"0 {name} to fit a normalizer on: expected one or more; collect demonstrations first")
        # In float32, in which they are normalized.
        bad = ~(np.abs(values) <= np.finfo(np.float32).max)
        if bad.any():
            column = int(np.argwhere(bad)[0, 1])
            raise UserError(f"{name} with a value that is not finite in column {column}: repair the data first")
    offset, scale = np.zeros(action.shape[1]), np.ones(action.shape[1])
    if action_floor is not None:
        low, high = action.min(0), action.max(0)
        offset, scale = (low + high) / 2, np.maximum((high - low) / 2, action_floor)
    arrays = (observation.mean(0), np.maximum(observation.std(0), observation_floor), offset, scale)
    return Normalizer(*(array.astype(np.float32) for array in arrays))


def normalize_observation(
    normalizer: Normalizer, observation: Float[AnyArray, "*B O"], clip: float = 5.0
) -> Float[Array, "*B O"]:
    """Returns observations with mean 0 and standard deviation 1 on the data, clamped.

    Args:
      normalizer: fitted on the data.
      observation: raw observations.
      clip: largest magnitude, in standard deviations.
    """
    scaled = (observation - normalizer.observation_offset) / normalizer.observation_scale
    return jnp.clip(scaled, -clip, clip)


def normalize_action(normalizer: Normalizer, action: Float[AnyArray, "*B A"]) -> Float[AnyArray, "*B A"]:
    """Returns actions in [-1, 1] on the data."""
    return (action - normalizer.action_offset) / normalizer.action_scale


def unnormalize_action(normalizer: Normalizer, action: Float[AnyArray, "*B A"]) -> Float[AnyArray, "*B A"]:
    """Returns the inverse of `normalize_action`."""
    return action * normalizer.action_scale + normalizer.action_offset
