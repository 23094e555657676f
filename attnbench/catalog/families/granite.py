"""Granite with experts: GraniteMoE and GraniteMoE-shared."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import decoder, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("granitemoe", "granitemoeshared")

DEFAULTS = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
    "num_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Every layer has experts as wide as `intermediate_size`."""
    c = c.with_defaults(DEFAULTS)
    s = Sizes.read(c)
    bias = c.flag("attention_bias")
    moe = MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=s.inner,
        shared=c.integer("shared_intermediate_size", 0, low=0),
    )
    feeds = moe_from(c, [True] * s.layers, moe, s.inner)
    return decoder(c, s, Style(qkv_bias=bias, out_bias=bias), feeds=feeds)
