"""Command R (one norm, attention and MLP side by side), Command R7B, Command A, and their MoE."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import FULL, SLIDING, Feed, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("cohere", "cohere2", "cohere2_moe")

DEFAULTS = {
    "vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528,
    "num_hidden_layers": 40, "num_attention_heads": 64, "max_position_embeddings": 8192,
    "sliding_window": 4096, "sliding_window_pattern": 4, "num_experts": 8,
    "num_experts_per_tok": 2,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Cohere 2 has three local layers, then one global, and tied embeddings as all do."""
    kind = c.text("model_type")
    c = c.with_defaults(DEFAULTS)
    s = Sizes.read(c)
    bias = c.flag("attention_bias")
    style = Style(
        qkv_bias=bias,
        out_bias=bias,
        norms=("input_layernorm",),
        qk_norm="heads" if c.flag("use_qk_norm") else None,
        tied=True,
    )
    if kind == "cohere":
        return decoder(c, s, style)
    period = c.integer("sliding_window_pattern")
    kinds = kinds_of(c, s.layers, lambda i: SLIDING if (i + 1) % period else FULL)
    return decoder(c, s, style, kinds=kinds, feeds=_feeds(c, s) if kind == "cohere2_moe" else None)


def _feeds(c: Fields, s: Sizes) -> tuple[Feed, ...]:
    listed = c.texts("mlp_layer_types", length=s.layers)
    moe = MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=s.inner,
        shared=s.inner * c.integer("num_shared_experts", 0, low=0),
    )
    dense = c.maybe("prefix_dense_intermediate_size") or s.inner
    sparse = [listed is None or kind == "sparse" for kind in listed or ("sparse",) * s.layers]
    return moe_from(c, sparse, moe, dense)
