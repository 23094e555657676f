"""LFM2 and LFM2-MoE: gated short convolutions, and attention in some layers."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import FULL, Block, Feed, attend, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.recurrent import short_conv
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("lfm2", "lfm2_moe")

DEFAULTS = {
    "vocab_size": 65536, "hidden_size": 2560, "intermediate_size": 12288,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 128000, "conv_L_cache": 3, "block_multiple_of": 256,
    "block_ffn_dim_multiplier": 1.0,
}  # fmt: skip
_MOE = {
    "hidden_size": 2048, "intermediate_size": 7168, "moe_intermediate_size": 1792,
    "num_dense_layers": 2, "num_experts": 32, "num_experts_per_tok": 4,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """A convolution's layer keeps its last inputs, and no K or V."""
    moe = c.text("model_type") == "lfm2_moe"
    c = c.with_defaults({**DEFAULTS, **(_MOE if moe else {})})
    stated = c.maybe("block_ff_dim") or c.maybe("intermediate_size")
    if stated is None:
        c.require("intermediate_size")
    inner = stated or 0
    s = Sizes.read(c, inner=inner if moe else _adjusted(c, inner))
    style = Style(
        qk_norm="head", norms=("operator_norm", "ffn_norm"), tied=c.flag("tie_embedding", True)
    )

    def block(kind: str) -> Block:
        if kind != "conv":
            return attend(c, s, style, kind)
        bias = c.flag("conv_bias")
        return short_conv("model.layers.*.conv", s.hidden, c.integer("conv_L_cache"), bias=bias)

    full = set(c.integers("full_attn_idxs")) if c.has("full_attn_idxs") else set(range(s.layers))
    kinds = kinds_of(c, s.layers, lambda i: FULL if i in full else "conv")
    return decoder(c, s, style, kinds=kinds, block=block, feeds=_feeds(c, s) if moe else None)


def _adjusted(c: Fields, inner: int) -> int:
    """Two thirds of the stated width, rounded up, as the reference code makes it."""
    if not c.flag("block_auto_adjust_ff_dim", True):
        return inner
    inner = int(c.number("block_ffn_dim_multiplier", 1.0) * int(2 * inner / 3))
    multiple = c.integer("block_multiple_of")
    return -(-inner // multiple) * multiple


def _feeds(c: Fields, s: Sizes) -> tuple[Feed, ...]:
    moe = MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=c.integer("moe_intermediate_size"),
    )
    first = c.integer("num_dense_layers", low=0)
    return moe_from(c, [i >= first for i in range(s.layers)], moe, s.inner)
