"""Phi 1, 1.5 and 2 (parallel attention and MLP), Phi 3 and 4, and Phi-3.5-MoE."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import decoder, moe_from, windowed
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("phi", "phi3", "phimoe")

_PHI = {
    "vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192,
    "num_hidden_layers": 24, "num_attention_heads": 32, "max_position_embeddings": 2048,
}  # fmt: skip
_PHI3 = {
    "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip
_MOE = {
    "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 6400,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 131072, "num_experts": 16, "num_experts_per_tok": 2,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Phi has biases and one norm a layer; Phi 3 is Llama with fused projections."""
    kind = c.text("model_type")
    if kind == "phi":
        return _phi(c.with_defaults(_PHI))
    if kind == "phimoe":
        return _moe(c.with_defaults(_MOE))
    c = c.with_defaults(_PHI3)
    s = Sizes.read(c)
    return decoder(c, s, Style(), kinds=windowed(c, s.layers))


def _phi(c: Fields) -> ModelSpec:
    style = Style(
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        gated=False,
        norms=("input_layernorm",),
        norm_bias=True,
        qk_norm="head" if c.flag("qk_layernorm") else None,
        head_bias=True,
    )
    return decoder(c, Sizes.read(c), style)


def _moe(c: Fields) -> ModelSpec:
    s = Sizes.read(c)
    bias = c.flag("attention_bias")
    style = Style(qkv_bias=bias, out_bias=bias, norm_bias=True, head_bias=c.flag("lm_head_bias"))
    moe = MoE(
        total=c.integer("num_experts"), per_token=c.integer("num_experts_per_tok"), inner=s.inner
    )
    feeds = moe_from(c, [True] * s.layers, moe, s.inner)
    return decoder(c, s, style, kinds=windowed(c, s.layers), feeds=feeds)
