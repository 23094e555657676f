"""OLMo 1 (norms without weights), OLMo 2 and 3 (norms after, on q and k too), OLMoE."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import FULL, SLIDING, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("olmo", "olmo2", "olmo3", "olmoe", "flex_olmo")

DEFAULTS = {
    "vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
    "sliding_window": 4096,
}  # fmt: skip
_EXPERTS = {
    "olmoe": {
        "hidden_size": 2048, "intermediate_size": 2048, "num_hidden_layers": 16,
        "num_attention_heads": 16, "num_experts": 64, "num_experts_per_tok": 8,
    },
    "flex_olmo": {"vocab_size": 100352, "num_experts": 7, "num_experts_per_tok": 5},
}  # fmt: skip
_AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")


def build(c: Fields) -> ModelSpec:
    """OLMo 3 has three sliding layers, then a full one."""
    kind = c.text("model_type")
    c = c.with_defaults({**DEFAULTS, **_EXPERTS.get(kind, {})})
    s = Sizes.read(c)
    bias = c.flag("attention_bias")
    if kind == "olmo":
        return decoder(c, s, Style(qkv_bias=bias, out_bias=bias, norm_weight=False))
    plain = Style(qkv_bias=bias, out_bias=bias, qk_norm="full")
    after = Style(qkv_bias=bias, out_bias=bias, qk_norm="full", norms=_AFTER)
    if kind in _EXPERTS:
        moe = MoE(
            total=c.integer("num_experts"),
            per_token=c.integer("num_experts_per_tok"),
            inner=s.inner,
        )
        feeds = moe_from(c, [True] * s.layers, moe, s.inner)
        return decoder(c, s, plain if kind == "olmoe" else after, feeds=feeds)
    if kind == "olmo2":
        return decoder(c, s, after)
    kinds = kinds_of(c, s.layers, lambda i: SLIDING if (i + 1) % 4 else FULL)
    return decoder(c, s, after, kinds=kinds)
