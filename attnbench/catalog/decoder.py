"""The decoder that most families are: a stack of layers, each attention and then an MLP.

A family reads `Sizes`, states its `Style`, and says for each layer which kind of
mixer it has and what feeds forward; `decoder` puts the tensors together.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from attnbench.catalog.blocks import (
    MoE,
    Tensors,
    embedding,
    experts,
    linear,
    mlp,
    norm,
    projections,
    vector,
)
from attnbench.catalog.fields import Fields
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype, parse_dtype
from attnbench.spec.model import (
    Attention,
    Chunked,
    Experts,
    Full,
    Layer,
    Mixer,
    ModelSpec,
    Place,
    Role,
    Shard,
    Sliding,
)

K = TypeVar("K", bound=Hashable)
Block = tuple[tuple[Mixer, ...], Tensors]
Feed = int | MoE | None

FULL = "full_attention"
SLIDING = "sliding_attention"
CHUNKED = "chunked_attention"


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes that every decoder has, under one set of names."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocab: int

    @classmethod
    def read(cls, c: Fields, *, inner: int | None = None, kv_heads: int | None = None) -> "Sizes":
        """The sizes in `c`; `inner` and `kv_heads` stand in where it states none.

        KV heads absent are as many as heads; head_dim absent is hidden / heads.

        Raises:
            UserError: a size is missing, out of range, or contradicts another.
        """
        core = ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"]
        c.require(*core, *(["intermediate_size"] if inner is None else []))
        hidden = c.integer("hidden_size")
        heads = c.integer("num_attention_heads")
        kv = c.maybe("num_key_value_heads") or kv_heads or heads
        c.divided("num_attention_heads", heads, "num_key_value_heads", kv)
        head_dim = c.maybe("head_dim")
        if head_dim is None:
            head_dim = c.divided("hidden_size", hidden, "num_attention_heads", heads)
        return cls(
            hidden=hidden,
            layers=c.layers(),
            heads=heads,
            kv_heads=kv,
            head_dim=head_dim,
            inner=inner if inner is not None else c.integer("intermediate_size"),
            vocab=c.integer("vocab_size"),
        )


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """How a family writes a layer: biases, norms, gate.

    `qk_norm`: none; "head", one weight [head_dim] each for q and k; "full", one over
    all heads; "heads", one [head_dim] for each head. `norms` are the layer's, over the
    hidden size. `positions` are the rows of a learned position table. `tied` is what
    an absent `tie_word_embeddings` means.
    """

    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    gated: bool = True
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    norm_bias: bool = False
    norm_weight: bool = True
    qk_norm: str | None = None
    sinks: bool = False
    final_norm: bool = True
    embedding_norm: bool = False
    positions: int = 0
    tied: bool = False
    head_bias: bool = False
    at: str = "model"


def attention(s: Sizes, style: Style, mixer: Attention, at: str = "self_attn") -> Tensors:
    """The tensors of softmax attention as `mixer` sizes it."""
    name = f"{style.at}.layers.*.{at}"
    made = projections(
        name,
        s.hidden,
        heads=mixer.heads,
        kv_heads=mixer.kv_heads,
        key_dim=mixer.key_dim,
        value_dim=mixer.value_dim,
        qkv_bias=style.qkv_bias,
        out_bias=style.out_bias,
    )
    for letter, heads in (("q", mixer.heads), ("k", mixer.kv_heads)):
        if style.qk_norm == "head":
            made += norm(f"{name}.{letter}_norm", mixer.key_dim, bias=style.norm_bias)
        elif style.qk_norm == "full":
            made += norm(f"{name}.{letter}_norm", heads * mixer.key_dim, bias=style.norm_bias)
        elif style.qk_norm == "heads":
            made += vector(f"{name}.{letter}_norm.weight", heads, mixer.key_dim, role=Role.NORM)
    if style.sinks:
        made += vector(f"{name}.sinks", mixer.heads, role=Role.ATTENTION, shard=Shard.COLUMN)
    return made


def attend(c: Fields, s: Sizes, style: Style, kind: str) -> Block:
    """The usual mixer of `kind`: full, sliding (`sliding_window`) or chunked attention."""
    common: dict[str, Any] = {
        "heads": s.heads,
        "kv_heads": s.kv_heads,
        "key_dim": s.head_dim,
        "value_dim": s.head_dim,
    }
    mixer: Full | Sliding | Chunked
    if kind in (FULL, "attention"):
        mixer = Full(**common)
    elif kind == SLIDING:
        mixer = Sliding(window=c.integer("sliding_window"), **common)
    elif kind == CHUNKED:
        mixer = Chunked(chunk=c.integer("attention_chunk_size"), **common)
    else:
        raise unknown_kind(c, kind)
    return (mixer,), attention(s, style, mixer)


def unknown_kind(c: Fields, kind: str) -> UserError:
    """A complaint about an entry of `layer_types` that this family has no layer for."""
    return c.error("layer_types", f"{kind!r} is no kind of layer of this model type")


def kinds_of(c: Fields, layers: int, default: Callable[[int], str]) -> tuple[str, ...]:
    """Each layer's kind: `layer_types` where the file lists them, else `default`."""
    stated = c.texts("layer_types", length=layers)
    return stated or tuple(default(i) for i in range(layers))


def windowed(c: Fields, layers: int) -> tuple[str, ...]:
    """Every layer slides where `sliding_window` is a number, none where it is null."""
    kind = FULL if c.maybe("sliding_window") is None else SLIDING
    return kinds_of(c, layers, lambda _: kind)


def lay_out(keys: Sequence[K], build: Callable[[K, tuple[int, ...]], Layer]) -> tuple[Layer, ...]:
    """One `Layer` a distinct key, in order of first appearance, with its positions."""
    places: dict[K, list[int]] = {}
    for index, key in enumerate(keys):
        places.setdefault(key, []).append(index)
    return tuple(build(key, tuple(indices)) for key, indices in places.items())


def feed_forward(
    hidden: int, feed: Feed, style: Style, name: str = "mlp"
) -> tuple[Tensors, int, Experts | None]:
    """Tensors of what feeds forward, its dense width, and its experts."""
    if feed is None:
        return (), 0, None
    if isinstance(feed, int):
        at = f"{style.at}.layers.*.{name}"
        return mlp(at, hidden, feed, gated=style.gated, bias=style.mlp_bias), feed, None
    routed = Experts(total=feed.total, per_token=feed.per_token, inner=feed.inner)
    return experts(f"{style.at}.layers.*.{name}", hidden, feed), feed.shared, routed


def decoder(
    c: Fields,
    s: Sizes,
    style: Style,
    *,
    kinds: Sequence[str] | None = None,
    block: Callable[[str], Block] | None = None,
    feeds: Sequence[Feed] | None = None,
    outside: Tensors = (),
    **more: Any,
) -> ModelSpec:
    """The whole decoder: each layer's mixer by kind, its MLP, its norms, and the ends.

    `kinds[i]` and `feeds[i]` say what layer i is made of (full attention and a dense
    MLP where not given); `block(kind)` answers mixers and tensors.
    """
    chosen = kinds or (FULL,) * s.layers
    make = block or (lambda kind: attend(c, s, style, kind))

    def build(key: tuple[str, Feed], indices: tuple[int, ...]) -> Layer:
        kind, feed = key
        mixers, tensors = make(kind)
        forward, inner, routed = feed_forward(s.hidden, feed, style)
        for name in style.norms:
            tensors += norm(
                f"{style.at}.layers.*.{name}",
                s.hidden,
                bias=style.norm_bias,
                weight=style.norm_weight,
            )
        return Layer(
            indices=indices, mixers=mixers, tensors=tensors + forward, inner=inner, experts=routed
        )

    layers = lay_out(list(zip(chosen, feeds or (s.inner,) * s.layers, strict=True)), build)
    return assemble(
        c, s, layers, ends(c, s, style) + outside, tied_embeddings=is_tied(c, style), **more
    )


def is_tied(c: Fields, style: Style) -> bool:
    """Whether input and output embeddings are one tensor."""
    return c.flag("tie_word_embeddings", style.tied)


def ends(c: Fields, s: Sizes, style: Style) -> Tensors:
    """The tensors before and after the layers: embeddings, last norm, output."""
    made = embedding(f"{style.at}.embed_tokens", s.vocab, s.hidden)
    if style.embedding_norm:
        made += norm(f"{style.at}.embed_norm", s.hidden, bias=style.norm_bias, place=Place.FIRST)
    if style.positions:
        made += vector(
            f"{style.at}.embed_positions.weight",
            style.positions,
            s.hidden,
            place=Place.FIRST,
        )
    if style.final_norm:
        made += norm(
            f"{style.at}.norm",
            s.hidden,
            bias=style.norm_bias,
            weight=style.norm_weight,
            place=Place.LAST,
        )
    if not is_tied(c, style):
        made += embedding("lm_head", s.vocab, s.hidden, role=Role.OUTPUT, place=Place.LAST)
    if style.head_bias:
        made += vector(
            "lm_head.bias", s.vocab, role=Role.OUTPUT, shard=Shard.VOCAB, place=Place.LAST
        )
    return made


def assemble(
    c: Fields, s: Sizes, layers: tuple[Layer, ...], outside: Tensors, **more: Any
) -> ModelSpec:
    """A `ModelSpec` with what every configuration may state beside its sizes."""
    return ModelSpec(
        **{
            "name": c.name,
            "model_type": c.text("model_type"),
            "source": c.label,
            "hidden_size": s.hidden,
            "vocab_size": s.vocab,
            "heads": s.heads,
            "layers": layers,
            "outside": outside,
            "architecture": next(iter(c.texts("architectures") or ()), None),
            "max_position": max_position(c),
            "weight_dtype": weight_dtype(c),
            "quantization": quantization(c),
            "warnings": _unread(c),
            **more,
        }
    )


def _unread(c: Fields) -> tuple[str, ...]:
    if c.get("per_layer_config"):
        return ("per_layer_config is not read for this model type: layers may differ",)
    return ()


def max_position(c: Fields) -> int | None:
    """The longest context that the file states; at the top level no default stands for it."""
    stated = c.path or c.has("max_position_embeddings")
    return c.maybe("max_position_embeddings") if stated else None


def weight_dtype(c: Fields) -> Dtype | None:
    """The dtype that the file says its weights are stored in, if it does."""
    name = c.get("dtype", c.get("torch_dtype"))
    if not isinstance(name, str) or name == "auto":
        return None
    return parse_dtype(name, what=f"{c.label}: {c.path}torch_dtype")


def quantization(c: Fields) -> Mapping[str, Any] | None:
    """The `quantization_config` as published, if there is one."""
    child = c.child("quantization_config")
    return None if child is None else child.data


def moe_from(c: Fields, layers: Sequence[bool], moe: MoE | None, inner: int) -> tuple[Feed, ...]:
    """What feeds forward in each layer: `moe` where `layers` says so, else a dense MLP."""
    if moe is not None and moe.per_token > moe.total:
        raise c.error("num_experts_per_tok", f"{moe.per_token} of only {moe.total} experts")
    return tuple(moe if sparse and moe else inner for sparse in layers)


__all__ = [
    "CHUNKED",
    "FULL",
    "SLIDING",
    "Block",
    "Feed",
    "Sizes",
    "Style",
    "assemble",
    "attend",
    "attention",
    "decoder",
    "ends",
    "feed_forward",
    "is_tied",
    "kinds_of",
    "lay_out",
    "linear",
    "moe_from",
    "quantization",
    "unknown_kind",
    "weight_dtype",
    "windowed",
]
