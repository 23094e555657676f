"""Kimi Linear: Kimi Delta Attention in most layers, latent attention in the others."""

from attnbench.catalog import mla
from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import FULL, Block, Feed, Sizes, Style, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.recurrent import DeltaNet, kimi_delta
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("kimi_linear",)

_LINEAR = "linear_attention"
DEFAULTS = {
    "vocab_size": 163840, "hidden_size": 2304, "intermediate_size": 9216,
    "moe_intermediate_size": 1024, "num_hidden_layers": 27, "num_attention_heads": 32,
    "num_shared_experts": 1, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "qk_nope_head_dim": 128, "num_experts_per_tok": 8, "num_experts": 256,
    "first_k_dense_replace": 1, "linear_head_dim": 128, "linear_num_heads": 32,
    "linear_conv_kernel_dim": 4,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """`linear_attn_config` lists the layers of each kind, counted from 1."""
    c = c.with_defaults(DEFAULTS)
    s = mla.sizes(c)
    own = c.child("linear_attn_config") or c
    heads = own.integer("num_heads") if own is not c else c.integer("linear_num_heads")
    dim = own.integer("head_dim") if own is not c else c.integer("linear_head_dim")
    kernel = own.maybe("short_conv_kernel_size") or c.integer("linear_conv_kernel_dim")
    sizes = DeltaNet(
        hidden=s.hidden, key_heads=heads, value_heads=heads, key_dim=dim, value_dim=dim,
        kernel=kernel,
    )  # fmt: skip

    def block(kind: str) -> Block:
        if kind == _LINEAR:
            return kimi_delta("model.layers.*.self_attn", sizes)
        return mla.block(c, s, Style())

    return decoder(
        c,
        s,
        Style(),
        kinds=_kinds(c, own, s.layers),
        block=block,
        feeds=_feeds(c, s),
        max_position=c.maybe("model_max_length"),
    )


def _kinds(c: Fields, own: Fields, layers: int) -> tuple[str, ...]:
    if own is not c and own.has("full_attn_layers"):
        full = set(own.integers("full_attn_layers"))
        return tuple(FULL if i + 1 in full else _LINEAR for i in range(layers))
    return kinds_of(c, layers, lambda i: FULL if i and i % 4 == 0 else _LINEAR)


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
