"""The flow VLA itself: pictures, text and state in; a velocity, a loss or actions out.

The prefix (pictures, then text) never looks at the suffix (state, then noisy actions), so it runs once: its
keys and values serve every flow time drawn in training and every step of sampling.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PyTree

from rlgen.nets.keys import init_key
from rlgen.vla import flow
from rlgen.vla.config import VlaConfig
from rlgen.vla.gemma import Gemma, KeyValue
from rlgen.vla.linear import Dense
from rlgen.vla.siglip import SigLip


@struct.dataclass
class Inputs:
    """What the model reads.

    Attributes:
      pictures: camera name -> pictures in [-1, 1]; the cameras that the configuration names.
      picture_mask: camera name -> whether the picture is there.
      prompt: token ids.
      prompt_mask: False on padding.
      state: normalised and padded to `action_size`; pi0.5's network does not look at it.
    """

    pictures: dict[str, Float[Array, "B h w 3"]]
    picture_mask: dict[str, Bool[Array, " B"]]
    prompt: Int[Array, "B L"]
    prompt_mask: Bool[Array, "B L"]
    state: Float[Array, "B A"]


@struct.dataclass
class Block:
    """Tokens of one expert.

    Attributes:
      tokens: embeddings.
      mask: which tokens exist.
      starts: True where tokens begin that earlier ones must not look at.
      condition: what drives the norms of these tokens' expert (pi0.5).
    """

    tokens: Float[Array, "B T W"]
    mask: Bool[Array, "B T"]
    starts: Bool[Array, " T"]
    condition: Float[Array, "B W"] | None = None


@struct.dataclass
class Prefix:
    """A prefix that has been run: rotated keys and values, and which of them exist."""

    cache: KeyValue
    mask: Bool[Array, "B P"]


class PaliGemma(nn.Module):
    """The vision-language part, by the names of its checkpoints."""

    config: VlaConfig

    def setup(self) -> None:
        c = self.config
        self.img = SigLip(c.vision, c.picture_tokens, c.language.width, jnp.dtype(c.dtype), c.unroll, c.remat)
        self.llm = Gemma(c)


class Pi0(nn.Module):
    """The whole network; the functions below are the way to call it."""

    config: VlaConfig

    def setup(self) -> None:
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
        names = self.config.cameras
        count, tokens = len(inputs.prompt), self.config.picture_tokens
        # All cameras share the encoder, so they go through it as one batch.
        pictures = self.PaliGemma.img(jnp.concatenate([inputs.pictures[name] for name in names]))
        pictures = pictures.reshape(len(names), count, tokens, -1).swapaxes(0, 1)
        pictures = pictures.reshape(count, len(names) * tokens, -1)
        seen = jnp.repeat(jnp.stack([inputs.picture_mask[name] for name in names], axis=1), tokens, axis=1)
        both = jnp.concatenate([pictures, self.PaliGemma.llm.embed(inputs.prompt)], axis=1)
        return Block(both, jnp.concatenate([seen, inputs.prompt_mask], axis=1), jnp.zeros(both.shape[1], bool))

    def suffix(self, state: Float[Array, "B A"], x: flow.Actions, t: Float[Array, " B"]) -> Block:
        action = self.action_in_proj(x)
        time = flow.time_features(t, action.shape[-1])
        if self.config.family == "pi05":
            condition = nn.swish(self.time_mlp_out(nn.swish(self.time_mlp_in(time))))
            return Block(action, jnp.ones(action.shape[:2], bool), jnp.arange(action.shape[1]) < 1, condition)
        action = jnp.concatenate([action, jnp.broadcast_to(time[:, None], action.shape)], axis=-1)
        action = self.action_time_mlp_out(nn.swish(self.action_time_mlp_in(action)))
        tokens = jnp.concatenate([self.state_proj(state)[:, None], action], axis=1)
        starts = jnp.arange(tokens.shape[1]) < 2
        return Block(tokens, jnp.ones(tokens.shape[:2], bool), starts)

    def run_prefix(self, inputs: Inputs) -> Prefix:
        block = self.prefix(inputs)
        _, cache = self.PaliGemma.llm([block.tokens, None], positions(block.mask), attention_mask(block))
        return Prefix(cache, block.mask)

    def run_suffix(self, prefix: Prefix, block: Block) -> flow.Actions:
        p, s = prefix.mask.shape[1], block.mask.shape[1]
        seen = jnp.broadcast_to(prefix.mask[:, None], (len(prefix.mask), s, p))
        mask = jnp.concatenate([seen, attention_mask(block)], axis=2)
        where = jnp.sum(prefix.mask, axis=1, keepdims=True) + positions(block.mask)
        (_, out), _ = self.PaliGemma.llm([None, block.tokens], where, mask, prefix.cache, block.condition)
        return self.action_out_proj(out[:, -self.config.horizon :].astype(jnp.float32))

    def __call__(self, inputs: Inputs, x: flow.Actions, t: Float[Array, " B"]) -> flow.Actions:
        return self.run_suffix(self.run_prefix(inputs), self.suffix(inputs.state, x, t))

    def joint(self, inputs: Inputs, x: flow.Actions, t: Float[Array, " B"]) -> tuple[list[Array], KeyValue]:
        """Both experts in one pass: outputs after the final norms, keys and values of every token."""
        prefix, suffix = self.prefix(inputs), self.suffix(inputs.state, x, t)
        both = Block(
            jnp.zeros(0),
            jnp.concatenate([prefix.mask, suffix.mask], axis=1),
            jnp.concatenate([prefix.starts, suffix.starts]),
        )
        tokens = [prefix.tokens, suffix.tokens]
        return self.PaliGemma.llm(tokens, positions(both.mask), attention_mask(both), None, suffix.condition)

    def touch(self, inputs: Inputs, x: flow.Actions, t: Float[Array, " B"]) -> flow.Actions:
        """Uses every parameter once, for initialisation."""
        (_, out), _ = self.joint(inputs, x, t)
        return self.action_out_proj(out)


def positions(mask: Bool[Array, "B T"]) -> Int[Array, "B T"]:
    """Position of each token; one that does not exist takes none."""
    return jnp.cumsum(mask, axis=1) - 1


def attention_mask(block: Block) -> Bool[Array, "B T T"]:
    """(query, key): both exist, and the key's group does not begin after the query's."""
    group = jnp.cumsum(block.starts)
    allowed = group[None, :] <= group[:, None]
    return allowed[None] & block.mask[:, None, :] & block.mask[:, :, None]


def apply(config: VlaConfig, params: PyTree, *args, method=None):
    """Calls the network, or one of its methods, on plain parameters."""
    return Pi0(config).apply({"params": params}, *args, method=method)


def example_inputs(config: VlaConfig, count: int = 1) -> Inputs:
    """Zeros of the right shapes."""
    side = config.image_size
    return Inputs(
        pictures={name: jnp.zeros((count, side, side, 3)) for name in config.cameras},
        picture_mask={name: jnp.ones(count, bool) for name in config.cameras},
        prompt=jnp.zeros((count, config.prompt_length), jnp.int32),
        prompt_mask=jnp.ones((count, config.prompt_length), bool),
        state=jnp.zeros((count, config.action_size)),
    )


@partial(jax.jit, static_argnums=0)
def init(config: VlaConfig, key: Array) -> PyTree:
    """Fresh float32 parameters as a nested dict, named as in pi0's checkpoints; `key` of JAX's default kind."""
    x = jnp.zeros((1, config.horizon, config.action_size))
    return Pi0(config).init(init_key(key), example_inputs(config), x, jnp.ones(1), method="touch")["params"]


def embed_prefix(config: VlaConfig, params: PyTree, inputs: Inputs) -> Block:
    """Picture and text tokens."""
    return apply(config, params, inputs, method="prefix")


def embed_suffix(
    config: VlaConfig, params: PyTree, state: Float[Array, "B A"], x: flow.Actions, t: Float[Array, " B"]
) -> Block:
    """The state token (pi0) and the noisy actions' tokens."""
    return apply(config, params, state, x, t, method="suffix")


def velocity(config: VlaConfig, params: PyTree, inputs: Inputs, x: flow.Actions, t: Float[Array, " B"]) -> flow.Actions:
    """dx/dt at the noisy actions `x` and flow time `t`."""
    return apply(config, params, inputs, x, t)


def flow_loss(
    config: VlaConfig, params: PyTree, inputs: Inputs, actions: flow.Actions, noise: Array, t: Array
) -> Float[Array, "R B H"]:
    """Squared error of the velocity, averaged over action dimensions (padding included, as pi0 does).

    Args:
      config: sizes.
      params: parameters.
      inputs: B observations.
      actions: normalised and padded, `[B, H, A]`.
      noise: R draws for each observation, `[R, B, H, A]`; more draws make a better gradient for little more
        work, since the prefix runs once.
      t: flow times, `[R, B]`.
    """
    draws, count = t.shape
    prefix = apply(config, params, inputs, method="run_prefix")
    k, v = (jnp.tile(x, (1, draws, 1, 1, 1)) for x in prefix.cache)
    prefix = Prefix((k, v), jnp.tile(prefix.mask, (draws, 1)))
    actions = jnp.tile(actions, (draws, 1, 1))
    state = jnp.tile(inputs.state, (draws, 1))
    noise, t = noise.reshape(actions.shape), t.reshape(-1)
    suffix = embed_suffix(config, params, state, flow.noisy_actions(actions, noise, t), t)
    out = apply(config, params, prefix, suffix, method="run_suffix")
    error = jnp.square(out - flow.flow_target(actions, noise))
    return jnp.mean(error, axis=-1).reshape(draws, count, -1)


@partial(jax.jit, static_argnames="config")
def sample(
    config: VlaConfig, params: PyTree, inputs: Inputs, noise: flow.Actions, steps: int | Array = 10
) -> flow.Actions:
    """Normalised actions: Euler steps from `noise` with the prefix run once."""
    prefix = apply(config, params, inputs, method="run_prefix")

    def slope(x, t):
        block = embed_suffix(config, params, inputs.state, x, jnp.broadcast_to(t, len(x)))
        return apply(config, params, prefix, block, method="run_suffix")

    return flow.euler(slope, noise, steps)
