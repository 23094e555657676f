"""Heads of their own beside DeepSeek-like experts: dots.llm1, Solar Open, HY 3, Mellum."""

from attnbench.catalog.decoder import FULL, SLIDING, decoder, kinds_of
from attnbench.catalog.families.deepseek import feeds
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("dots1", "solar_open", "hy_v3", "mellum", "deepseek")

DEFAULTS: dict[str, dict[str, object]] = {
    "dots1": {
        "vocab_size": 152064, "hidden_size": 4608, "intermediate_size": 10944,
        "moe_intermediate_size": 1408, "num_hidden_layers": 62, "num_attention_heads": 32,
        "num_key_value_heads": 32, "sliding_window": 4096,
    },
    "solar_open": {
        "vocab_size": 196608, "hidden_size": 4096, "num_hidden_layers": 48,
        "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128,
        "moe_intermediate_size": 1280, "num_experts_per_tok": 8, "n_shared_experts": 1,
        "num_experts": 128, "intermediate_size": 10240,
    },
    "hy_v3": {
        "vocab_size": 120832, "hidden_size": 4096, "intermediate_size": 13312,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
        "head_dim": 128, "num_experts": 192, "num_experts_per_tok": 8,
        "num_shared_experts": 1, "moe_intermediate_size": 1536, "first_k_dense_replace": 1,
    },
    "mellum": {
        "vocab_size": 98304, "hidden_size": 2304, "intermediate_size": 7168,
        "num_hidden_layers": 28, "num_attention_heads": 32, "num_key_value_heads": 4,
        "head_dim": 128, "num_experts": 64, "num_experts_per_tok": 8, "sliding_window": 1024,
        "moe_intermediate_size": 896,
    },
    "deepseek": {"first_k_dense_replace": 0},
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """All but Solar Open and DeepSeek's first have norms on q and k."""
    kind = c.text("model_type")
    c = c.with_defaults(DEFAULTS[kind])
    experts_alone = kind == "solar_open"
    s = Sizes.read(c, inner=c.maybe("intermediate_size") or (1 if experts_alone else None))
    bias = c.flag("attention_bias")
    normed = kind not in ("solar_open", "deepseek")
    style = Style(qkv_bias=bias, out_bias=bias, qk_norm="head" if normed else None)
    if kind == "dots1":
        style = Style(qkv_bias=bias, qk_norm="head")
    slides = kind == "dots1" and c.maybe("sliding_window") is not None
    first = c.integer("max_window_layers", s.layers, low=0)
    kinds = kinds_of(c, s.layers, lambda i: SLIDING if slides and i >= first else FULL)
    if experts_alone:
        c = c.also(first_k_dense_replace=0)
    return decoder(c, s, style, kinds=kinds, feeds=feeds(c, s))
