"""Llama 4's text model: chunked attention but for every fourth layer, experts in some."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import CHUNKED, FULL, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("llama4_text",)

DEFAULTS = {
    "vocab_size": 202048, "hidden_size": 5120, "intermediate_size": 8192,
    "intermediate_size_mlp": 16384, "num_hidden_layers": 48, "num_attention_heads": 40,
    "num_key_value_heads": 8, "head_dim": 128, "num_experts": 16, "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 1, "no_rope_layer_interval": 4, "attention_chunk_size": 8192,
    "max_position_embeddings": 131072,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """The layers with rope see their chunk, those without see all; a shared expert in each MoE."""
    c = c.with_defaults(DEFAULTS)
    s = Sizes.read(c)
    bias = c.flag("attention_bias")
    moe = MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=s.inner,
        shared=s.inner,
    )
    step = c.integer("interleave_moe_layer_step")
    listed = c.integers("moe_layers") if c.has("moe_layers") else range(step - 1, s.layers, step)
    sparse = set(listed)
    feeds = moe_from(
        c, [i in sparse for i in range(s.layers)], moe, c.integer("intermediate_size_mlp")
    )
    kinds = _kinds(c, s.layers)
    return decoder(c, s, Style(qkv_bias=bias, out_bias=bias), kinds=kinds, feeds=feeds)


def _kinds(c: Fields, layers: int) -> tuple[str, ...]:
    stated = bool(c.get("no_rope_layers"))
    rope = c.integers("no_rope_layers", length=layers) if stated else ()
    every = c.integer("no_rope_layer_interval")
    return kinds_of(
        c, layers, lambda i: CHUNKED if (rope[i] if stated else (i + 1) % every) else FULL
    )
