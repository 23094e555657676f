"""EXAONE 4 (norms after) and EXAONE-MoE: three sliding layers, then a full one."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import FULL, SLIDING, Feed, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("exaone4", "exaone_moe")

DEFAULTS = {
    "vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 16384,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "max_position_embeddings": 2048, "sliding_window": 4096, "sliding_window_pattern": 4,
    "first_k_dense_replace": 1, "moe_intermediate_size": 1024, "num_experts": 64,
    "num_experts_per_tok": 8, "num_shared_experts": 1,
}  # fmt: skip
_AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")


def build(c: Fields) -> ModelSpec:
    """`sliding_window_pattern` is a period, or letters: L local, G global."""
    moe = c.text("model_type") == "exaone_moe"
    c = c.with_defaults(DEFAULTS)
    s = Sizes.read(c)
    style = Style(qk_norm="head") if moe else Style(qk_norm="head", norms=_AFTER)
    slides = c.maybe("sliding_window") is not None
    pattern = c.get("sliding_window_pattern")

    def default(i: int) -> str:
        if not slides:
            return FULL
        if isinstance(pattern, str) and pattern:
            return SLIDING if pattern[i % len(pattern)] == "L" else FULL
        return SLIDING if (i + 1) % c.integer("sliding_window_pattern") else FULL

    kinds = kinds_of(c, s.layers, default)
    return decoder(c, s, style, kinds=kinds, feeds=_feeds(c, s) if moe else None)


def _feeds(c: Fields, s: Sizes) -> tuple[Feed, ...]:
    inner = c.integer("moe_intermediate_size")
    moe = MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=inner,
        shared=inner * c.integer("num_shared_experts", low=0),
    )
    listed = c.texts("mlp_layer_types", length=s.layers)
    first = c.integer("first_k_dense_replace", low=0)
    sparse = [i >= first if listed is None else listed[i] == "sparse" for i in range(s.layers)]
    return moe_from(c, sparse, moe, s.inner)
