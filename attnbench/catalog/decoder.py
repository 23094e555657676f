"""The decoder that most families are: a stack of layers, each attention and then an MLP.

A family reads `Sizes`, states its `Style`, and says for each layer which kind of
mixer it has and what feeds forward; `decoder` puts the tensors together.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from attnbench.catalog.assemble import assemble, ends, is_tied
from attnbench.catalog.blocks import MoE, Tensors, experts, mlp, norm, projections, vector
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.errors import UserError
from attnbench.spec.model import (
    Attention,
    Chunked,
    Experts,
    Full,
    Layer,
    Mixer,
    ModelSpec,
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


def moe_from(c: Fields, layers: Sequence[bool], moe: MoE | None, inner: int) -> tuple[Feed, ...]:
    """What feeds forward in each layer: `moe` where `layers` says so, else a dense MLP."""
    if moe is not None and moe.per_token > moe.total:
        raise c.error("num_experts_per_tok", f"{moe.per_token} of only {moe.total} experts")
    return tuple(moe if sparse and moe else inner for sparse in layers)
