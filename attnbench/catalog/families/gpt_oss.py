"""gpt-oss: sliding and full layers in turn, an attention sink a head, experts with biases."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import FULL, SLIDING, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("gpt_oss",)

DEFAULTS = {
    "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
    "num_hidden_layers": 36, "num_attention_heads": 64, "num_key_value_heads": 8,
    "head_dim": 64, "sliding_window": 128, "num_experts": 128, "num_experts_per_tok": 4,
    "max_position_embeddings": 131072,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Even layers slide. The sinks are learned logits; they cost no cache."""
    c = c.with_defaults(DEFAULTS)
    s = Sizes.read(c)
    bias = c.flag("attention_bias", True)
    moe = MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=s.inner,
        router_bias=True,
        bias=True,
    )
    return decoder(
        c,
        s,
        Style(qkv_bias=bias, out_bias=bias, sinks=True),
        kinds=kinds_of(c, s.layers, lambda i: FULL if i % 2 else SLIDING),
        feeds=moe_from(c, [True] * s.layers, moe, s.inner),
    )
