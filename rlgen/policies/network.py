"""What diffusion and Gaussian policies share: normalisers, eyes, and the network over chunks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlgen.nets.image_encoder import Backbone, random_shift
from rlgen.nets.image_encoder import ImageEncoder as EncoderModule
from rlgen.nets.layers import init_key
from rlgen.nets.mlp import DiffusionMLP
from rlgen.nets.unet1d import Unet1d
from rlgen.policies.base import Code, Observed, Params, Policy
from rlgen.policies.normalizer import Normalizer, identity_normalizer, normalize_observation, unnormalize_action

Precision = Literal["float32", "bfloat16"]
Predict = Callable[[Float[Array, "B H A"], Int[Array, "*B"]], Float[Array, "B H A"]]


@dataclass(frozen=True)
class ImageEncoder:
    """Pictures that a policy is shown, and the encoder that reads them.

    Attributes:
      size: height and width in pixels.
      cameras: number of cameras, V.
      robot_size: numbers of the robot's own state, which lead the vector.
      backbone, widths, blocks, points, token, depth, heads, embedding: of the encoder.
      shift: largest random shift in behaviour cloning, pixels.
    """

    size: int = 128
    cameras: int = 2
    robot_size: int = 8
    backbone: Backbone = "resnet"
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: int = 1
    points: int = 32
    token: int = 128
    depth: int = 1
    heads: int = 4
    embedding: int = 128
    shift: int = 4

    def __post_init__(self) -> None:
        if self.backbone not in ("resnet", "vit"):
            raise ValueError(f"backbone {self.backbone!r}: expected 'resnet' or 'vit'")

    def module(self, precision: Precision) -> EncoderModule:
        """The encoder."""
        return EncoderModule(
            self.backbone,
            self.widths,
            self.blocks,
            self.points,
            self.token,
            self.depth,
            self.heads,
            self.embedding,
            dtype=jnp.dtype(precision),
        )


@dataclass(frozen=True)
class NetworkPolicy(Policy):
    """What the network is; hashable, so that it can be a static argument of a jitted function.

    Attributes:
      observation_size: numbers in an observation's vector.
      horizon: actions in a chunk, H. Fewer may be executed.
      action_size: numbers in an action, A.
      architecture: `unet`, or `mlp`.
      dim: channels of the U-Net's finest level.
      mults: channels of each level as multiples of `dim`.
      film_deep: three-layer FiLM encoders.
      widths: hidden widths of the perceptron.
      time_size: width of the timestep's embedding.
      eyes: pictures and their encoder; None for a policy on the vector.
      precision: of activations; parameters, log densities and losses are float32.
    """

    observation_size: int
    horizon: int = 8
    action_size: int = 7
    architecture: Literal["unet", "mlp"] = "unet"
    dim: int = 32
    mults: tuple[int, ...] = (1, 2)
    film_deep: bool = False
    widths: tuple[int, ...] = (384, 384, 384)
    time_size: int = 16
    eyes: ImageEncoder | None = None
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if self.architecture not in ("unet", "mlp"):
            raise ValueError(f"architecture {self.architecture!r}: expected 'unet' or 'mlp'")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision {self.precision!r}: expected 'float32' or 'bfloat16'")
        halvings = 2 ** (len(self.mults) - 1)
        if self.architecture == "unet" and self.horizon % halvings:
            raise ValueError(f"horizon {self.horizon} with mults {self.mults}: expected a multiple of {halvings}")

    @property
    def network(self) -> nn.Module:
        """The network over chunks, called with a chunk, a timestep and a code."""
        if self.architecture == "mlp":
            return DiffusionMLP(self.action_size, self.widths, self.time_size)
        return Unet1d(self.action_size, self.dim, self.mults, self.time_size, film_deep=self.film_deep)

    @property
    def encodes(self) -> bool:
        return self.eyes is not None

    @property
    def code_size(self) -> int:
        """C, numbers in a code."""
        shape = jax.eval_shape(self._init, jax.eval_shape(lambda: jax.random.key(0)))[1]
        return shape.shape[-1]

    def init(self, key: PRNGKeyArray, normalizer: Normalizer | None = None) -> Params:
        # Compiled, the forward pass that Linen would run to find the shapes falls away.
        net = jax.jit(lambda key: self._init(key)[0])(key)
        if normalizer is None:
            normalizer = identity_normalizer(self.observation_size, self.action_size)
        return {"net": net, "normalizer": jax.tree.map(jnp.asarray, normalizer)}

    def encode(self, params: Params, observation: Observed) -> Code:
        """The normalised vector, or what the encoder says of the pictures and the robot's own state."""
        if self.eyes is None:
            return normalize_observation(params["normalizer"], observation)
        vector = normalize_observation(params["normalizer"], observation.vector)[..., : self.eyes.robot_size]
        variables = {"params": params["net"]["encoder"]}
        return self.eyes.module(self.precision).apply(variables, observation.images, vector)

    def augment(self, key: PRNGKeyArray, observation: Observed, shift: int | None = None) -> Observed:
        if self.eyes is None:
            return observation
        pad = self.eyes.shift if shift is None else shift
        return observation.replace(images=random_shift(key, jnp.asarray(observation.images), pad))

    def predictor(self, net: Any, code: Code) -> Predict:
        """The network on a set of codes, as a function of chunk and timestep."""
        trunk = net if self.eyes is None else net["trunk"]
        if self.precision == "float32":
            return self.network.apply({"params": trunk}, code, self.horizon, method="prepare")
        dtype = jnp.dtype(self.precision)
        trunk = jax.tree.map(lambda leaf: leaf.astype(dtype), trunk)
        predict = self.network.apply({"params": trunk}, code.astype(dtype), self.horizon, method="prepare")
        return lambda x, timestep: predict(x.astype(dtype), timestep).astype(jnp.float32)

    def command(self, params: Params, chunk: Float[Array, "*B H A"]) -> Float[Array, "*B H A"]:
        """A chunk in units of normalised actions as actions in [-1, 1]."""
        return jnp.clip(unnormalize_action(params["normalizer"], chunk), -1, 1)

    def chunk_shape(self, code: Code) -> tuple[int, int, int]:
        """Shape of a chunk for each code."""
        return (code.shape[0], self.horizon, self.action_size)

    def _init(self, key: PRNGKeyArray) -> tuple[Any, Code]:
        """The networks' parameters, and a code."""
        key = init_key(key)
        code, encoder = jnp.zeros((1, self.observation_size)), None
        if self.eyes is not None:
            images = jnp.zeros((1, self.eyes.cameras, self.eyes.size, self.eyes.size, 3))
            code, variables = self.eyes.module(self.precision).init_with_output(
                jax.random.fold_in(key, 1), images, jnp.zeros((1, self.eyes.robot_size))
            )
            encoder = variables["params"]
        trunk = self._init_network(key, code)
        return (trunk if encoder is None else {"encoder": encoder, "trunk": trunk}), code

    def _init_network(self, key: PRNGKeyArray, code: Code) -> Any:
        chunk = jnp.zeros((1, self.horizon, self.action_size))
        return self.network.init(key, chunk, jnp.zeros((), int), code)["params"]
