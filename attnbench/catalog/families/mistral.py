"""Mistral, Ministral and Mixtral: Llama with a sliding window, or with experts."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import decoder, moe_from, windowed
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("mistral", "ministral", "ministral3", "mixtral")

DEFAULTS = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 131072, "num_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Every layer slides where `sliding_window` is a number (Mistral 0.1: absent means 4096)."""
    mixtral = c.text("model_type") == "mixtral"
    plain = {} if mixtral or c.text("model_type") == "ministral3" else {"sliding_window": 4096}
    c = c.with_defaults({**DEFAULTS, **plain})
    s = Sizes.read(c)
    feeds = None
    if mixtral:
        moe = MoE(
            total=c.integer("num_experts"),
            per_token=c.integer("num_experts_per_tok"),
            inner=s.inner,
        )
        feeds = moe_from(c, [True] * s.layers, moe, s.inner)
    return decoder(c, s, Style(), kinds=windowed(c, s.layers), feeds=feeds)
