"""Gemma with several experts that share one attention. Parameter names are those of pi0's checkpoints.

Each expert has its own width and weights; queries, keys and values of all tokens meet in one attention.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlgen.vla.config import ExpertConfig, VlaConfig
from rlgen.vla.linear import project

# Finite, so that a row without any valid key stays a number; nothing valid reads such a row.
MASKED = -2.3819763e38

Tokens = Float[Array, "B T W"]
KeyValue = tuple[Float[Array, "B T K d"], Float[Array, "B T K d"]]


def expert_name(name: str, index: int) -> str:
    """The first expert's parameters carry no number, so that PaliGemma's own weights fit."""
    return name if index == 0 else f"{name}_{index}"


def fan_in(inputs: int | tuple[int, ...], batch: tuple[int, ...] = ()) -> nn.initializers.Initializer:
    """Normal with variance 1 / inputs; `inputs` and `batch` are axes of the weight."""
    return nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=inputs, out_axis=-1, batch_axis=batch)


def rotate(x: Float[Array, "B T n d"], positions: Int[Array, "B T"]) -> Float[Array, "B T n d"]:
    """Rotary positions: channel i of the first half turns with channel i of the second, base 10,000."""
    half = x.shape[-1] // 2
    wavelength = 10_000.0 ** (jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[..., None, None].astype(jnp.float32) / wavelength
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def attend(
    q: Float[Array, "B T n d"], k: Float[Array, "B S K d"], v: Float[Array, "B S K d"], mask: Bool[Array, "B T S"]
) -> Float[Array, "B T n d"]:
    """Grouped-query attention; scores and softmax in float32. `q` comes scaled."""
    b, t, n, d = q.shape
    q = q.reshape(b, t, k.shape[2], n // k.shape[2], d)
    scores = jnp.einsum("btkgd,bskd->bkgts", q, k, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None, None], scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", weights, v).reshape(b, t, n, d)


class RmsNorm(nn.Module):
    """Root-mean-square norm in float32, times 1 + scale."""

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        scale = self.param("scale", nn.initializers.zeros, (x.shape[-1],))
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + 1e-6)
        return (y * (1 + scale)).astype(x.dtype)


class Weight(nn.Module):
    """A parameter `w` of a module of its own, as the checkpoints name it."""

    shape: tuple[int, ...]
    init: nn.initializers.Initializer

    @nn.compact
    def __call__(self) -> Array:
        return self.param("w", self.init, self.shape)


class FeedForward(nn.Module):
    """Gated MLP with a tanh-GELU."""

    width: int
    hidden: int

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        gating = self.param("gating_einsum", fan_in(-2, (0,)), (2, self.width, self.hidden))
        linear = self.param("linear", fan_in(-2), (self.hidden, self.width))
        return project(nn.gelu(project(x, gating[0]), approximate=True) * project(x, gating[1]), linear)


class Attention(nn.Module):
    """Attention over the tokens of every expert, after keys and values that were computed before."""

    config: VlaConfig
    experts: tuple[ExpertConfig, ...]

    def project(self, x: Tokens, index: int) -> tuple[Array, Array, Array]:
        """Queries, keys and values of one expert's tokens, before rotation."""
        c, width = self.config, x.shape[-1]
        q_shape, kv_shape = (c.heads, width, c.head_size), (2, c.kv_heads, width, c.head_size)
        q = Weight(q_shape, fan_in(-2, (0,)), name=expert_name("q_einsum", index))()
        k, v = Weight(kv_shape, fan_in(-2, (0, 1)), name=expert_name("kv_einsum", index))()
        return tuple(project(x, w.swapaxes(0, 1)) for w in (q, k, v))

    @nn.compact
    def __call__(
        self, xs: Sequence[Tokens | None], cache: KeyValue | None, positions: Int[Array, "B T"], mask: Array
    ) -> tuple[list[Tokens | None], KeyValue]:
        c = self.config
        parts = [self.project(x, i) for i, x in enumerate(xs) if x is not None]
        q, k, v = (jnp.concatenate(p, axis=1) for p in zip(*parts, strict=True))
        q, k = rotate(q, positions) * c.head_size**-0.5, rotate(k, positions)
        if cache is not None:
            k, v = jnp.concatenate([cache[0], k], axis=1), jnp.concatenate([cache[1], v], axis=1)
        mixed, out, start = attend(q, k, v, mask), [], 0
        for i, x in enumerate(xs):
            if x is None:
                out.append(None)
                continue
            shape = (c.heads, c.head_size, x.shape[-1])
            w = Weight(shape, fan_in((-3, -2)), name=expert_name("attn_vec_einsum", i))()
            own = mixed[:, start : start + x.shape[1]]
            out.append(project(own.reshape(*x.shape[:2], -1), w.reshape(-1, x.shape[-1])))
            start += x.shape[1]
        return out, (k, v)


class Block(nn.Module):
    """One layer of every expert; an expert whose tokens are None is not run."""

    config: VlaConfig
    experts: tuple[ExpertConfig, ...]

    @nn.compact
    def __call__(
        self, xs: Sequence[Tokens | None], cache: KeyValue | None, positions: Int[Array, "B T"], mask: Array
    ) -> tuple[list[Tokens | None], KeyValue]:
        def each(name, make, values):
            return [
                None if x is None else make(e)(name=expert_name(name, i))(x)
                for i, (e, x) in enumerate(zip(self.experts, values, strict=True))
            ]

        def add(a, b):
            return [None if x is None else x + y for x, y in zip(a, b, strict=True)]

        def feed_forward(e):
            return lambda name: FeedForward(e.width, e.mlp, name=name)

        normed = each("pre_attention_norm", lambda e: RmsNorm, xs)
        mixed, key_value = Attention(self.config, self.experts, name="attn")(normed, cache, positions, mask)
        xs = add(xs, mixed)
        return add(xs, each("mlp", feed_forward, each("pre_ffw_norm", lambda e: RmsNorm, xs))), key_value


class Embedder(nn.Module):
    """Token ids to vectors, scaled by the square root of the width."""

    vocabulary: int
    width: int

    @nn.compact
    def __call__(self, ids: Int[Array, "B L"]) -> Float[Array, "B L W"]:
        # 1 / sqrt(width) makes fresh text tokens as long as fresh picture tokens.
        init = nn.initializers.normal(self.width**-0.5)
        table = self.param("input_embedding", init, (self.vocabulary, self.width))
        return table[ids] * jnp.sqrt(jnp.float32(self.width))


class Gemma(nn.Module):
    """Both experts of the model: `language` first, `action` second."""

    config: VlaConfig

    def setup(self) -> None:
        c = self.config
        self.experts = (c.language, c.action)
        self.embedder = Embedder(c.vocabulary, c.language.width)
        layers = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=c.depth,
            unroll=c.depth if c.unroll else 1,
        )
        self.layers = layers(c, self.experts)
        self.final_norm = RmsNorm()
        self.final_norm_1 = RmsNorm()

    def embed(self, ids: Int[Array, "B L"]) -> Float[Array, "B L W"]:
        """Text tokens, scaled."""
        return self.embedder(ids).astype(self.config.dtype)

    def __call__(
        self,
        xs: Sequence[Tokens | None],
        positions: Int[Array, "B T"],
        mask: Bool[Array, "B T S"],
        cache: KeyValue | None = None,
    ) -> tuple[list[Tokens | None], KeyValue]:
        """Runs every layer.

        Args:
          xs: tokens of the language and the action expert; None leaves an expert out.
          positions: of the tokens given, in the order of the experts.
          mask: which keys (those of the cache first) each token attends to.
          cache: rotated keys and values `[depth, B, P, kv_heads, head_size]` of earlier tokens.

        Returns:
          Normed outputs like `xs`, and the keys and values of all tokens, those of the cache included.
        """
        xs = [None if x is None else x.astype(self.config.dtype) for x in xs]
        xs, cache = self.layers(xs, cache, positions, mask)
        norms = (self.final_norm, self.final_norm_1)
        return [None if x is None else norm(x) for norm, x in zip(norms, xs, strict=True)], cache
