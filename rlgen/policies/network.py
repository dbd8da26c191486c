"""The network that diffusion and Gaussian policies share: normalizers, the image encoder, and the net over chunks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rlgen.configs.schema import PolicyConfig
from rlgen.nets.image_encoder import ImageEncoder, random_shift
from rlgen.nets.layers import Timestep, apply_network, at_least_single, init_key
from rlgen.nets.mlp import DiffusionMLP
from rlgen.nets.unet1d import Unet1d
from rlgen.policies.base import Features, Params, Policy, PolicyObservation
from rlgen.policies.normalizer import (
    Normalizer,
    identity_normalizer,
    normalize_observation,
    unnormalize_action,
)

Predict = Callable[[Float[Array, "B H A"], Timestep], Float[Array, "B H A"]]


@dataclass(frozen=True)
class NetworkPolicy(Policy):
    """A policy with a network over chunks; hashable, so that it can be a static argument of a jitted function.

    Attributes:
      config: the policy's configuration.
      observation_size: length O of an observation's vector.
      action_size: length A of an action.
    """

    config: PolicyConfig
    observation_size: int
    action_size: int = 7

    @property
    def horizon(self) -> int:
        """H, the number of actions in a chunk."""
        return self.config.horizon

    @property
    def has_images(self) -> bool:
        """True for a policy that observes images."""
        return self.config.has_images

    @property
    def network(self) -> nn.Module:
        """The network over chunks, called with a chunk, a timestep and features."""
        config = self.config
        if config.network == "mlp":
            return DiffusionMLP(self.action_size, config.mlp_widths, config.time_embedding_size)
        return Unet1d(
            self.action_size,
            config.dim,
            config.dim_mults,
            config.time_embedding_size,
            groups=config.norm_groups,
            film_deep=config.film_deep,
        )

    @property
    def image_encoder(self) -> ImageEncoder:
        """The encoder of images; only a policy that observes images has parameters of it."""
        return ImageEncoder(self.config.image_encoder, dtype=jnp.dtype(self.config.compute_dtype))

    @property
    def feature_size(self) -> int:
        """C, the length of a row of features."""
        shape = jax.eval_shape(self._init, jax.eval_shape(lambda: jax.random.key(0)))[1]
        return shape.shape[-1]

    def init(self, key: PRNGKeyArray, normalizer: Normalizer | None = None) -> Params:
        """Returns fresh parameters; without a normalizer observations and actions are used as they are."""
        # Compiled, so that the forward pass that Linen runs to find the shapes is not executed.
        net = jax.jit(lambda key: self._init(key)[0])(key)
        if normalizer is None:
            normalizer = identity_normalizer(self.observation_size, self.action_size)
        return {"net": net, "normalizer": jax.tree.map(jnp.asarray, normalizer)}

    def encode(self, params: Params, observation: PolicyObservation) -> Features:
        """Returns the normalized vector, or the encoder's features of the images and the robot's own state."""
        if not self.has_images:
            return normalize_observation(params["normalizer"], observation)
        size = self.config.image_encoder.robot_state_size
        robot_state = normalize_observation(params["normalizer"], observation.vector)[..., :size]
        return apply_network(self.image_encoder, params["net"]["encoder"], observation.images, robot_state)

    def augment(self, key: PRNGKeyArray, observation: PolicyObservation, shift: int | None = None) -> PolicyObservation:
        """Shifts images at random and leaves vectors as they are; arguments as of `Policy.augment`."""
        if not self.has_images:
            return observation
        pad = self.config.image_encoder.random_shift if shift is None else shift
        return observation._replace(images=random_shift(key, jnp.asarray(observation.images), pad))

    def predictor(self, net: Any, features: Features) -> Predict:
        """Returns the network on given features as a function of chunk and timestep.

        The part of the network that depends on features alone is computed once.
        """
        net_params, features = self.for_compute(net["trunk"] if self.has_images else net, features)
        predict = apply_network(self.network, net_params, features, self.horizon, method="prepare")
        return lambda x, timestep: at_least_single(predict(x.astype(features.dtype), timestep))

    def for_compute(self, net_params: Any, features: Features) -> tuple[Any, Features]:
        """Returns parameters and features in the type of activations, `compute_dtype`; wider ones are left."""
        if self.config.compute_dtype == "float32":
            return net_params, features
        dtype = jnp.dtype(self.config.compute_dtype)
        return jax.tree.map(lambda leaf: leaf.astype(dtype), net_params), features.astype(dtype)

    def to_action(self, params: Params, chunk: Float[Array, "*B H A"]) -> Float[Array, "*B H A"]:
        """Returns normalized actions as actions in [-1, 1]."""
        return jnp.clip(unnormalize_action(params["normalizer"], chunk), -1, 1)

    def chunk_shape(self, features: Features) -> tuple[int, int, int]:
        """Returns the shape `(B, H, A)` of a chunk for each row of features."""
        return (features.shape[0], self.horizon, self.action_size)

    def _init(self, key: PRNGKeyArray) -> tuple[Any, Features]:
        """Returns the networks' parameters, and one row of features."""
        key = init_key(key)
        if not self.has_images:
            features = jnp.zeros((1, self.observation_size))
            return self._init_network(key, features), features
        config = self.config.image_encoder
        images = jnp.zeros((1, config.cameras, config.image_size, config.image_size, 3))
        features, variables = self.image_encoder.init_with_output(
            jax.random.fold_in(key, 1), images, jnp.zeros((1, config.robot_state_size))
        )
        return {"encoder": variables["params"], "trunk": self._init_network(key, features)}, features

    def _init_network(self, key: PRNGKeyArray, features: Features) -> Any:
        chunk = jnp.zeros((1, self.horizon, self.action_size))
        return self.network.init(key, chunk, jnp.zeros((), int), features)["params"]
