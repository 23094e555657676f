"""Qwen 1.5, 2, 2.5 and 3, dense and with experts, and QwQ."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import FULL, SLIDING, Feed, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = (
    "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen2_vl_text", "qwen2_5_vl_text",
    "qwen3_vl_text", "qwen3_vl_moe_text",
)  # fmt: skip

_DENSE: dict[str, object] = {
    "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "max_position_embeddings": 32768, "max_window_layers": 28,
}  # fmt: skip
_MOE: dict[str, object] = {
    "vocab_size": 151936, "hidden_size": 2048, "num_hidden_layers": 24,
    "max_position_embeddings": 32768, "max_window_layers": 28, "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}  # fmt: skip
_VL: dict[str, object] = {
    **_DENSE, "vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
}  # fmt: skip
DEFAULTS: dict[str, dict[str, object]] = {
    "qwen2": _DENSE,
    "qwen3": {**_DENSE, "head_dim": 128},
    "qwen2_vl_text": _VL,
    "qwen2_5_vl_text": _VL,
    "qwen3_vl_text": {**_DENSE, "head_dim": 128, "max_position_embeddings": 128000},
    "qwen3_vl_moe_text": {
        **_MOE, "intermediate_size": 5632, "num_attention_heads": 16, "num_key_value_heads": 16,
        "moe_intermediate_size": 1408, "num_experts": 60, "num_experts_per_tok": 4,
        "head_dim": 128,
    },
    "qwen2_moe": {
        **_MOE, "intermediate_size": 5632, "num_attention_heads": 16, "num_key_value_heads": 16,
        "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632,
        "num_experts": 60, "num_experts_per_tok": 4, "qkv_bias": True,
    },
    "qwen3_moe": {
        **_MOE, "intermediate_size": 6144, "num_attention_heads": 32, "num_key_value_heads": 4,
        "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
    },
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Qwen 2 has biases on q, k and v; Qwen 3 has norms on q and k instead."""
    kind = c.text("model_type")
    c = c.with_defaults(DEFAULTS[kind])
    s = Sizes.read(c)
    if kind.startswith("qwen2"):
        style = Style(qkv_bias=c.flag("qkv_bias", True))
    else:
        bias = c.flag("attention_bias")
        style = Style(qk_norm="head", qkv_bias=bias, out_bias=bias)
    feeds = _feeds(c, s) if "_moe" in kind else None
    return decoder(c, s, style, kinds=_kinds(c, s.layers), feeds=feeds)


def _kinds(c: Fields, layers: int) -> tuple[str, ...]:
    # The first `max_window_layers` see everything, those after them a window.
    slides = c.flag("use_sliding_window") and c.maybe("sliding_window") is not None
    first = c.integer("max_window_layers", layers, low=0)
    if not slides:
        return (FULL,) * layers
    return kinds_of(c, layers, lambda i: SLIDING if i >= first else FULL)


def _feeds(c: Fields, s: Sizes) -> tuple[Feed, ...]:
    shared = c.maybe("shared_expert_intermediate_size", low=0) or 0
    moe = MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=c.integer("moe_intermediate_size"),
        shared=shared,
        shared_gate=shared > 0,
    )
    dense = set(c.integers("mlp_only_layers"))
    step = c.integer("decoder_sparse_step")
    sparse = [i not in dense and (i + 1) % step == 0 for i in range(s.layers)]
    return moe_from(c, sparse, moe, s.inner)
