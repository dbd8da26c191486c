"""Gemma with two experts that share one attention. Parameter names are those of pi0's checkpoints.

Each expert has its own width and weights. Queries, keys and values of the tokens of both are joined for the attention.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from rlgen.vla.model.config import ExpertConfig, LoraConfig, VlaConfig
from rlgen.vla.model.layers import Condition, RmsNorm, Tokens, attend, gated_sum, project, recomputed, rotate
from rlgen.vla.model.lora import INIT_A, INIT_B, factor_shapes, heads_term, output_term
from rlgen.vla.model.parameters import flat_names, nested

KeyValue = tuple[Float[Array, "B T K d"], Float[Array, "B T K d"]]


def expert_name(name: str, index: int) -> str:
    """Returns the name of an expert's module; the first has no suffix, so that PaliGemma's own weights fit."""
    return name if index == 0 else f"{name}_{index}"


def fan_in(inputs: int | tuple[int, ...], batch: tuple[int, ...] = ()) -> nn.initializers.Initializer:
    """Returns normal initial weights of variance 1 / inputs; `inputs` and `batch` are axes of the weight."""
    return nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=inputs, out_axis=-1, batch_axis=batch)


def of_first_expert(params: PyTree) -> PyTree:
    """Returns the parameters of the layers' first expert, so that nothing goes through loops that it does not read."""
    flat = flat_names(params)
    return nested({name: leaf for name, leaf in flat.items() if not any(p.endswith("_1") for p in name.split("/"))})


class Weight(nn.Module):
    """A parameter `w` of a module of its own, as the checkpoints name it, with the factors of its adapter."""

    shape: tuple[int, ...]
    initial: nn.initializers.Initializer
    lora: LoraConfig | None

    @nn.compact
    def __call__(self) -> tuple[Array, tuple[Array, Array] | None]:
        """Returns the parameter, and the factors of its adapter or None."""
        w = self.param("w", self.initial, self.shape)
        if self.lora is None:
            return w, None
        a, b = factor_shapes(self.shape, self.lora.rank)
        return w, (self.param("lora_a", INIT_A, a), self.param("lora_b", INIT_B, b))


class FeedForward(nn.Module):
    """A gated MLP with a tanh-GELU, and its adapter."""

    config: ExpertConfig

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        """Returns new tokens, without the residual."""
        c = self.config
        gating = self._adapted("gating_einsum", fan_in(-2, (0,)), (2, c.width, c.mlp))
        linear = self._adapted("linear", fan_in(-2), (c.mlp, c.width))
        gate, value = (self._apply_weight(x, *(None if w is None else w[i] for w in gating)) for i in (0, 1))
        return self._apply_weight(nn.gelu(gate, approximate=True) * value, *linear)

    def _adapted(
        self, name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]
    ) -> tuple[Array, Array | None, Array | None]:
        weight = self.param(name, init, shape)
        if self.config.lora is None:
            return weight, None, None
        a, b = factor_shapes(shape, self.config.lora.rank)
        return weight, self.param(f"{name}_lora_a", INIT_A, a), self.param(f"{name}_lora_b", INIT_B, b)

    @staticmethod
    def _apply_weight(x: Tokens, weight: Array, a: Array | None, b: Array | None) -> Tokens:
        y = project(x, weight)
        return y if a is None else y + project(project(x, a), b)


def project_heads(
    x: Tokens, w: Float[Array, "n W d"], low: tuple[Array, Array] | None, lora: LoraConfig | None
) -> Float[Array, "B T n d"]:
    """Projects tokens to queries, keys or values of every head, before rotation.

    Args:
      x: tokens.
      w: the weight.
      low: factors of its adapter, where there is one.
      lora: the adapter's sizes.
    """
    y = project(x, w.swapaxes(0, 1))
    return y if low is None or lora is None else y + lora.scale * heads_term(x, *low)


class Attention(nn.Module):
    """Attention over the tokens of both experts, and over cached keys and values of earlier tokens."""

    config: VlaConfig
    experts: tuple[ExpertConfig, ...]

    def _project(self, x: Tokens, index: int) -> tuple[Array, Array, Array]:
        """Projects one expert's tokens to queries, keys and values, before rotation."""
        c, width, lora = self.config, x.shape[-1], self.experts[index].lora
        q_shape, kv_shape = (c.heads, width, c.head_size), (2, c.kv_heads, width, c.head_size)
        q, q_low = Weight(q_shape, fan_in(-2, (0,)), lora, name=expert_name("q_einsum", index))()
        kv, kv_low = Weight(kv_shape, fan_in(-2, (0, 1)), lora, name=expert_name("kv_einsum", index))()
        lows = [None] * 3 if lora is None else [q_low, *zip(*kv_low, strict=True)]
        out = []
        for w, low in zip((q, *kv), lows, strict=True):
            out.append(project_heads(x, w, low, lora))
        return tuple(out)

    def _merge(self, mixed: Float[Array, "B T n d"], width: int, index: int) -> Tokens:
        """Projects the heads' results for one expert's tokens back to its width."""
        c, lora = self.config, self.experts[index].lora
        shape, name = (c.heads, c.head_size, width), expert_name("attn_vec_einsum", index)
        w, low = Weight(shape, fan_in((-3, -2)), lora, name=name)()
        y = project(mixed.reshape(*mixed.shape[:2], -1), w.reshape(-1, width))
        return y if low is None else y + lora.scale * output_term(mixed, *low)

    @nn.compact
    def __call__(
        self, xs: Sequence[Tokens | None], cache: KeyValue | None, positions: Int[Array, "B T"], mask: Array
    ) -> tuple[list[Tokens | None], KeyValue]:
        """Attends from the tokens of both experts to all tokens.

        Args:
          xs: tokens of each expert, or None.
          cache: rotated keys and values of earlier tokens, or None.
          positions: of the tokens of both experts together, for the rotation.
          mask: `[B, T, S]`, True where a token attends to one of the S cached and present tokens.

        Returns:
          Results for each expert, and rotated keys and values of all tokens.
        """
        parts = [self._project(x, i) for i, x in enumerate(xs) if x is not None]
        q, k, v = (jnp.concatenate(p, axis=1) for p in zip(*parts, strict=True))
        q, k = rotate(q, positions) * self.config.head_size**-0.5, rotate(k, positions)
        if cache is not None:
            k, v = jnp.concatenate([cache[0], k], axis=1), jnp.concatenate([cache[1], v], axis=1)
        mixed, out, start = attend(q, k, v, mask), [], 0
        for i, x in enumerate(xs):
            if x is None:
                out.append(None)
                continue
            out.append(self._merge(mixed[:, start : start + x.shape[1]], x.shape[-1], i))
            start += x.shape[1]
        return out, (k, v)


class Layer(nn.Module):
    """One layer of both experts; an expert whose tokens are None is not run."""

    config: VlaConfig
    experts: tuple[ExpertConfig, ...]

    @nn.compact
    def __call__(
        self,
        xs: Sequence[Tokens | None],
        cache: KeyValue | None,
        positions: Int[Array, "B T"],
        mask: Array,
        conditions: Sequence[Condition | None],
    ) -> tuple[list[Tokens | None], KeyValue]:
        """Runs the layer; arguments as of `Attention.__call__`.

        `conditions` are the inputs of the adaptive norms of each expert, or None.
        """

        def norm(name, values):
            pairs: list = [
                (None, None) if x is None else RmsNorm(name=expert_name(name, i))(x, conditions[i])
                for i, x in enumerate(values)
            ]
            return zip(*pairs, strict=True)

        def add(values, changes, gates):
            return [None if x is None else gated_sum(x, *y) for x, *y in zip(values, changes, gates, strict=True)]

        normed, gates = norm("pre_attention_norm", xs)
        mixed, key_value = Attention(self.config, self.experts, name="attn")(normed, cache, positions, mask)
        xs = add(xs, mixed, gates)
        normed, gates = norm("pre_ffw_norm", xs)
        changes = [
            None if x is None else FeedForward(self.experts[i], name=expert_name("mlp", i))(x)
            for i, x in enumerate(normed)
        ]
        return add(xs, changes, gates), key_value


class Embedder(nn.Module):
    """An embedding of token ids, scaled by the square root of the width."""

    vocabulary: int
    width: int

    @nn.compact
    def __call__(self, ids: Int[Array, "B L"]) -> Float[Array, "B L W"]:
        """Returns the embeddings of token ids."""
        # 1 / sqrt(width) gives fresh text tokens the norm of fresh image tokens.
        init = nn.initializers.normal(self.width**-0.5)
        table = self.param("input_embedding", init, (self.vocabulary, self.width))
        return table[ids] * jnp.sqrt(jnp.float32(self.width))


class Gemma(nn.Module):
    """Both experts of the model: `language` first, `action` second."""

    config: VlaConfig

    def setup(self) -> None:
        """Makes the embedder, the layers and the final norms."""
        c = self.config
        self.experts = (c.language, c.action)
        self.embedder = Embedder(c.vocabulary, c.language.width)
        layers = nn.scan(
            recomputed(Layer, c.remat),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
            length=c.depth,
            unroll=c.depth if c.unroll else 1,
        )
        self.layers = layers(c, self.experts)
        self.final_norm = RmsNorm()
        self.final_norm_1 = RmsNorm()

    def embed(self, ids: Int[Array, "B L"]) -> Float[Array, "B L W"]:
        """Embeds text tokens."""
        return self.embedder(ids).astype(self.config.dtype)

    def keys_and_values(
        self, x: Tokens, positions: Int[Array, "B T"], mask: Bool[Array, "B T T"], *, in_place: bool = False
    ) -> KeyValue:
        """Runs the language expert alone, for its keys and values.

        Nothing reads what else the last layer makes, and so it is not computed: in a loop over layers no compiler would
        leave it out. In an unrolled one it does so by itself.

        Args:
          x: tokens.
          positions: of the tokens.
          mask: whether a token attends to another.
          in_place: read layers where they lie, as nothing is differentiated; otherwise from a copy without the last.

        Returns:
          Rotated keys and values `[depth, B, T, kv_heads, head_size]`.
        """
        c = self.config
        if c.unroll or not c.depth or self.is_initializing():
            return self([x, None], positions, mask)[1]
        layer = recomputed(Layer, c.remat)(c, self.experts, parent=None)
        weights = of_first_expert(self.layers.variables["params"])

        def run(x: Tokens, params: PyTree) -> tuple[Tokens, KeyValue]:
            (x, _), key_value = layer.apply({"params": params}, [x, None], None, positions, mask, (None, None))
            return x, key_value

        def run_at(x: Tokens, index: Array) -> tuple[Tokens, KeyValue]:
            return run(x, jax.tree.map(lambda w: jax.lax.dynamic_index_in_dim(w, index, keepdims=False), weights))

        if in_place:
            x, before = jax.lax.scan(run_at, x.astype(c.dtype), jnp.arange(c.depth - 1))
        else:
            x, before = jax.lax.scan(run, x.astype(c.dtype), jax.tree.map(lambda w: w[:-1], weights))
        last = self._project_last(x, positions, jax.tree.map(lambda w: w[-1], weights))
        return tuple(jnp.concatenate([a, b[None]]) for a, b in zip(before, last, strict=True))

    def _project_last(self, x: Tokens, positions: Int[Array, "B T"], params: PyTree) -> KeyValue:
        """Returns keys and values of the last layer, from what goes into it."""
        normed, _ = RmsNorm(parent=None).apply({"params": params["pre_attention_norm"]}, x)
        kv, lora = params["attn"]["kv_einsum"], self.config.language.lora
        key, value = (
            project_heads(normed, kv["w"][i], None if lora is None else (kv["lora_a"][i], kv["lora_b"][i]), lora)
            for i in (0, 1)
        )
        return rotate(key, positions), value

    def __call__(
        self,
        xs: Sequence[Tokens | None],
        positions: Int[Array, "B T"],
        mask: Bool[Array, "B T S"],
        cache: KeyValue | None = None,
        condition: Condition | None = None,
    ) -> tuple[list[Tokens | None], KeyValue]:
        """Runs every layer.

        Args:
          xs: tokens of the language and the action expert; None leaves an expert out.
          positions: of the tokens given, in the order of the experts.
          mask: whether a token attends to a key; cached keys come first.
          cache: rotated keys and values `[depth, B, P, kv_heads, head_size]` of earlier tokens.
          condition: drives the action expert's norms, for pi0.5.

        Returns:
          Normalized outputs like `xs`, and the keys and values of all tokens, cached ones included.
        """
        xs = [None if x is None else x.astype(self.config.dtype) for x in xs]
        conditions = (None, None if condition is None else condition.astype(self.config.dtype))
        xs, cache = self.layers(xs, cache, positions, mask, conditions)
        norms = (self.final_norm, self.final_norm_1)
        pairs = zip(norms, xs, conditions, strict=True)
        # The last norm's gate has no residual.
        return [None if x is None else norm(x, c)[0] for norm, x, c in pairs], cache
