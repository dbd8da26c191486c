"""The network of pi0 and pi0.5, its flow-matching loss and its sampler.

The flow has one direction of time: t = 1 is noise, t = 0 is data, x_t = t noise + (1 - t) actions, and the network
learns the velocity dx/dt = noise - actions. See https://arxiv.org/abs/2410.24164. The functions at the end are the
way to call the network.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PyTree

from rlgen.nets.layers import init_key
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.model.gemma import Gemma, KeyValue
from rlgen.vla.model.layers import Dense
from rlgen.vla.model.parameters import cast_products
from rlgen.vla.model.siglip import SigLip

Actions = Float[Array, "B H A"]


def time_features(t: Float[Array, " B"], size: int) -> Float[Array, "B size"]:
    """Returns sines, then cosines of `t` at periods from 0.004 to 4, evenly spaced in their logarithm."""
    period = 4e-3 * (4.0 / 4e-3) ** jnp.linspace(0.0, 1.0, size // 2)
    # The order of these products is part of the definition: 250 turns per unit leave few float32 digits.
    angle = t[:, None] * (1.0 / period * 2 * jnp.pi)[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def training_time(uniform: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Turns uniform values into flow times for training: Beta(1.5, 1), which favors noise, moved into [0.001, 1]."""
    # The distribution function of Beta(1.5, 1) is t ** 1.5; its inverse samples from it.
    return uniform ** (1 / 1.5) * 0.999 + 0.001


def noisy_actions(actions: Actions, noise: Actions, t: Float[Array, " B"]) -> Actions:
    """Returns the point at time `t` on the line between actions and noise: t noise + (1 - t) actions.

    Args:
      actions: at t = 0.
      noise: at t = 1.
      t: flow times in [0, 1].
    """
    t = t[:, None, None]
    return t * noise + (1 - t) * actions


def flow_target(actions: Actions, noise: Actions) -> Actions:
    """Returns the velocity along that line: dx/dt = noise - actions."""
    return noise - actions


def euler(velocity: Callable[[Actions, Float[Array, ""]], Actions], noise: Actions, steps: int | Array) -> Actions:
    """Integrates the flow from noise at t = 1 to actions at t = 0 in equal Euler steps.

    Args:
      velocity: dx/dt at `(x, t)`.
      noise: where to start.
      steps: number of steps, 1 or more; one compiled program serves any.
    """
    dt = jnp.float32(-1.0) / steps

    def step(_, carry):
        x, t = carry
        return x + dt * velocity(x, t), t + dt

    # Time is summed in float32, as in openpi's loop, which stops after the same number of steps.
    x, _ = jax.lax.fori_loop(0, steps, step, (noise, jnp.float32(1.0)))
    return x


@struct.dataclass
class Inputs:
    """The inputs of the network for B observations.

    Attributes:
      images: camera -> images in [-1, 1], for the cameras that the configuration names.
      image_mask: camera -> whether the robot has it.
      prompt: token ids.
      prompt_mask: False on padding.
      state: normalized and padded to `action_size`; pi0.5's network does not read it.
    """

    images: dict[str, Float[Array, "B h w 3"]]
    image_mask: dict[str, Bool[Array, " B"]]
    prompt: Int[Array, "B L"]
    prompt_mask: Bool[Array, "B L"]
    state: Float[Array, "B A"]


@struct.dataclass
class Block:
    """Tokens of one expert.

    Attributes:
      tokens: embeddings.
      mask: False for tokens that do not exist.
      starts: True where a group of tokens begins that earlier tokens do not attend to.
      condition: input of the adaptive norms of these tokens' expert (pi0.5).
    """

    tokens: Float[Array, "B T W"]
    mask: Bool[Array, "B T"]
    starts: Bool[Array, " T"]
    condition: Float[Array, "B W"] | None = None


@struct.dataclass
class Prefix:
    """A prefix that has been run: rotated keys and values, and a mask of those that exist."""

    cache: KeyValue
    mask: Bool[Array, "B P"]


class PaliGemma(nn.Module):
    """The vision-language part, by the names of PaliGemma's checkpoints."""

    config: VlaConfig

    def setup(self) -> None:
        """Makes the image encoder and both experts."""
        c = self.config
        self.img = SigLip(c.vision, c.image_tokens, c.language.width, jnp.dtype(c.dtype), c.unroll, c.remat)
        self.llm = Gemma(c)


class Pi0(nn.Module):
    """The whole network; the functions of this module are the way to call it."""

    config: VlaConfig

    def setup(self) -> None:
        """Makes all parts; names are those in checkpoints."""
        width = self.config.action.width
        self.PaliGemma = PaliGemma(self.config)
        self.action_in_proj = Dense([width])
        if self.config.family == "pi0":
            self.state_proj = Dense([width])
            self.action_time_mlp_in = Dense([width])
            self.action_time_mlp_out = Dense([width])
        else:
            self.time_mlp_in = Dense([width])
            self.time_mlp_out = Dense([width])
        self.action_out_proj = Dense([self.config.action_size])

    def prefix(self, inputs: Inputs) -> Block:
        """Embeds images and text."""
        names = self.config.cameras
        count, tokens = len(inputs.prompt), self.config.image_tokens
        # All cameras share the encoder, so they are one batch.
        images = self.PaliGemma.img(jnp.concatenate([inputs.images[name] for name in names]))
        images = images.reshape(len(names), count, tokens, -1).swapaxes(0, 1)
        images = images.reshape(count, len(names) * tokens, -1)
        exists = jnp.repeat(jnp.stack([inputs.image_mask[name] for name in names], axis=1), tokens, axis=1)
        both = jnp.concatenate([images, self.PaliGemma.llm.embed(inputs.prompt)], axis=1)
        return Block(both, jnp.concatenate([exists, inputs.prompt_mask], axis=1), jnp.zeros(both.shape[1], bool))

    def suffix(self, state: Float[Array, "B A"], x: Actions, t: Float[Array, " B"]) -> Block:
        """Embeds the state (pi0) and the noisy actions.

        Args:
          state: normalized and padded.
          x: noisy actions.
          t: their flow times.
        """
        action = self.action_in_proj(x)
        time = time_features(t, action.shape[-1])
        if self.config.family == "pi05":
            condition = nn.swish(self.time_mlp_out(nn.swish(self.time_mlp_in(time))))
            return Block(action, jnp.ones(action.shape[:2], bool), jnp.arange(action.shape[1]) < 1, condition)
        action = jnp.concatenate([action, jnp.broadcast_to(time[:, None], action.shape)], axis=-1)
        action = self.action_time_mlp_out(nn.swish(self.action_time_mlp_in(action)))
        tokens = jnp.concatenate([self.state_proj(state)[:, None], action], axis=1)
        starts = jnp.arange(tokens.shape[1]) < 2
        return Block(tokens, jnp.ones(tokens.shape[:2], bool), starts)

    def run_prefix(self, inputs: Inputs, in_place: bool = False) -> Prefix:
        """Runs the language expert over images and text; `in_place` as of `Gemma.keys_and_values`."""
        block = self.prefix(inputs)
        where, mask = positions(block.mask), attention_mask(block)
        cache = self.PaliGemma.llm.keys_and_values(block.tokens, where, mask, in_place=in_place)
        return Prefix(cache, block.mask)

    def run_suffix(self, prefix: Prefix, block: Block) -> Actions:
        """Runs the action expert over a suffix; returns the velocity."""
        p, s = prefix.mask.shape[1], block.mask.shape[1]
        to_prefix = jnp.broadcast_to(prefix.mask[:, None], (len(prefix.mask), s, p))
        mask = jnp.concatenate([to_prefix, attention_mask(block)], axis=2)
        where = jnp.sum(prefix.mask, axis=1, keepdims=True) + positions(block.mask)
        (_, out), _ = self.PaliGemma.llm([None, block.tokens], where, mask, prefix.cache, block.condition)
        return self.action_out_proj(out[:, -self.config.horizon :].astype(jnp.float32))

    def __call__(self, inputs: Inputs, x: Actions, t: Float[Array, " B"]) -> Actions:
        """Returns the velocity of noisy actions.

        Args:
          inputs: of the observations.
          x: noisy actions.
          t: their flow times.
        """
        return self.run_suffix(self.run_prefix(inputs), self.suffix(inputs.state, x, t))

    def joint(self, inputs: Inputs, x: Actions, t: Float[Array, " B"]) -> tuple[list[Array], KeyValue]:
        """Runs both experts in one pass.

        Args:
          inputs: of the observations.
          x: noisy actions.
          t: their flow times.

        Returns:
          Outputs of both experts after the final norms; keys and values of every token.
        """
        prefix, suffix = self.prefix(inputs), self.suffix(inputs.state, x, t)
        both = Block(
            jnp.zeros(0),
            jnp.concatenate([prefix.mask, suffix.mask], axis=1),
            jnp.concatenate([prefix.starts, suffix.starts]),
        )
        tokens = [prefix.tokens, suffix.tokens]
        return self.PaliGemma.llm(tokens, positions(both.mask), attention_mask(both), None, suffix.condition)

    def initialize(self, inputs: Inputs, x: Actions, t: Float[Array, " B"]) -> Actions:
        """Uses every parameter once, so that `init` makes it; takes what `joint` takes.

        Args:
          inputs: of the observations.
          x: noisy actions.
          t: their flow times.
        """
        (_, out), _ = self.joint(inputs, x, t)
        return self.action_out_proj(out)


def positions(mask: Bool[Array, "B T"]) -> Int[Array, "B T"]:
    """Returns the position of each token; tokens that do not exist take none."""
    return jnp.cumsum(mask, axis=1) - 1


def attention_mask(block: Block) -> Bool[Array, "B T T"]:
    """Returns the mask (query, key): both exist, and the key's group does not begin after the query's."""
    group = jnp.cumsum(block.starts)
    allowed = group[None, :] <= group[:, None]
    return allowed[None] & block.mask[:, None, :] & block.mask[:, :, None]


def apply(config: VlaConfig, params: PyTree, *args, method=None):
    """Calls the network, or one of its methods, on plain parameters.

    Args:
      config: the model.
      params: its parameters, without the key `params` of Flax.
      *args: of the method.
      method: name of the method; `__call__` by default.
    """
    return Pi0(config).apply({"params": params}, *args, method=method)


def example_inputs(config: VlaConfig, count: int = 1) -> Inputs:
    """Returns zeros of the shapes that `count` observations have."""
    side = config.image_size
    return Inputs(
        images={name: jnp.zeros((count, side, side, 3)) for name in config.cameras},
        image_mask={name: jnp.ones(count, bool) for name in config.cameras},
        prompt=jnp.zeros((count, config.prompt_length), jnp.int32),
        prompt_mask=jnp.ones((count, config.prompt_length), bool),
        state=jnp.zeros((count, config.action_size)),
    )


@partial(jax.jit, static_argnums=0)
def init(config: VlaConfig, key: Array) -> PyTree:
    """Returns fresh float32 parameters as a nested dict, named as in pi0's checkpoints; `key` is a `jax.random.key`."""
    x = jnp.zeros((1, config.horizon, config.action_size))
    return Pi0(config).init(init_key(key), example_inputs(config), x, jnp.ones(1), method="initialize")["params"]


def embed_suffix(
    config: VlaConfig, params: PyTree, state: Float[Array, "B A"], x: Actions, t: Float[Array, " B"]
) -> Block:
    """Embeds the state (pi0) and the noisy actions.

    Args:
      config: the model.
      params: its parameters.
      state: normalized and padded.
      x: noisy actions.
      t: their flow times.
    """
    return apply(config, params, state, x, t, method="suffix")


def velocity(config: VlaConfig, params: PyTree, inputs: Inputs, x: Actions, t: Float[Array, " B"]) -> Actions:
    """Computes the velocity dx/dt at noisy actions.

    Args:
      config: the model.
      params: its parameters.
      inputs: of the observations.
      x: noisy actions.
      t: their flow times.
    """
    return apply(config, params, inputs, x, t)


def flow_loss(
    config: VlaConfig, params: PyTree, inputs: Inputs, actions: Actions, noise: Array, t: Array
) -> Float[Array, "R B H"]:
    """Computes the squared error of the velocity, averaged over action dimensions, padding included as in openpi.

    Args:
      config: the model.
      params: its parameters.
      inputs: of B observations.
      actions: normalized and padded, `[B, H, A]`.
      noise: R draws for each observation, `[R, B, H, A]`; more draws make a better gradient for little more
        work, because the prefix runs once.
      t: flow times, `[R, B]`.
    """
    draws, count = t.shape
    params = cast_products(config, params)
    prefix = apply(config, params, inputs, method="run_prefix")
    k, v = (jnp.tile(x, (1, draws, 1, 1, 1)) for x in prefix.cache)
    prefix = Prefix((k, v), jnp.tile(prefix.mask, (draws, 1)))
    actions = jnp.tile(actions, (draws, 1, 1))
    state = jnp.tile(inputs.state, (draws, 1))
    noise, t = noise.reshape(actions.shape), t.reshape(-1)
    suffix = embed_suffix(config, params, state, noisy_actions(actions, noise, t), t)
    out = apply(config, params, prefix, suffix, method="run_suffix")
    error = jnp.square(out - flow_target(actions, noise))
    return jnp.mean(error, axis=-1).reshape(draws, count, -1)


@partial(jax.jit, static_argnames="config")
def sample(config: VlaConfig, params: PyTree, inputs: Inputs, noise: Actions, steps: int | Array = 10) -> Actions:
    """Samples normalized actions by Euler steps, with the prefix run once.

    Args:
      config: the model.
      params: its parameters.
      inputs: of the observations.
      noise: at t = 1.
      steps: Euler steps; one compiled program serves any number.
    """
    prefix = apply(config, params, inputs, True, method="run_prefix")

    def slope(x, t):
        block = embed_suffix(config, params, inputs.state, x, jnp.broadcast_to(t, len(x)))
        return apply(config, params, prefix, block, method="run_suffix")

    return euler(slope, noise, steps)
