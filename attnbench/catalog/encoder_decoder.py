"""What encoder-decoders share: two stacks, and cross-attention from one to the other."""

from collections.abc import Sequence

import msgspec

from attnbench.catalog.blocks import MoE, Tensors, experts, mlp, norm, projections
from attnbench.catalog.decoder import Feed, lay_out
from attnbench.spec.model import Cross, Experts, Full, Layer, Mixer


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """One stack's layer: sizes, biases, and the names of its norms.

    `key_bias` is K's own where it differs (Whisper has none). `cross` adds attention
    to the encoder's output, `cross_length` tokens of it where that is fixed.
    """

    at: str
    hidden: int
    heads: int
    head_dim: int
    norms: tuple[str, ...]
    norm_bias: bool = True
    bias: bool = True
    key_bias: bool = True
    mlp_bias: bool = True
    gated: bool = False
    cross: bool = False
    cross_length: int | None = None
    extra: Tensors = ()


def layers(stack: Stack, feeds: Sequence[Feed]) -> tuple[Layer, ...]:
    """The layers of `stack`, `feeds[i]` saying what feeds forward in layer i."""

    def build(feed: Feed, indices: tuple[int, ...]) -> Layer:
        mixers: tuple[Mixer, ...] = (
            Full(
                heads=stack.heads,
                kv_heads=stack.heads,
                key_dim=stack.head_dim,
                value_dim=stack.head_dim,
            ),
        )
        tensors = _attention(stack, "self_attn") + stack.extra
        if stack.cross:
            tensors += _attention(stack, "encoder_attn")
            mixers += (
                Cross(
                    heads=stack.heads,
                    kv_heads=stack.heads,
                    key_dim=stack.head_dim,
                    value_dim=stack.head_dim,
                    length=stack.cross_length,
                ),
            )
        for name in stack.norms:
            tensors += norm(f"{stack.at}.{name}", stack.hidden, bias=stack.norm_bias)
        routed, inner = None, 0
        if isinstance(feed, MoE):
            tensors += experts(f"{stack.at}.ffn", stack.hidden, feed)
            routed = Experts(total=feed.total, per_token=feed.per_token, inner=feed.inner)
        elif feed is not None:
            inner = feed
            tensors += mlp(
                f"{stack.at}.mlp", stack.hidden, feed, gated=stack.gated, bias=stack.mlp_bias
            )
        return Layer(indices=indices, mixers=mixers, tensors=tensors, inner=inner, experts=routed)

    return lay_out(list(feeds), build)


def _attention(stack: Stack, name: str) -> Tensors:
    return projections(
        f"{stack.at}.{name}",
        stack.hidden,
        heads=stack.heads,
        kv_heads=stack.heads,
        key_dim=stack.head_dim,
        qkv_bias=stack.bias,
        key_bias=stack.key_bias and stack.bias,
        out_bias=stack.bias,
    )
