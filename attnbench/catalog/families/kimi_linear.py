"""Kimi Linear and Ling 2.5: Kimi Delta Attention in most layers, latent in the others."""

from attnbench.catalog import mla
from attnbench.catalog.blocks import MoE, linear
from attnbench.catalog.decoder import FULL, Block, Feed, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.recurrent import DeltaNet, kimi_delta
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec, Role, Shard

MODEL_TYPES = ("kimi_linear", "bailing_hybrid")

_LINEAR = "linear_attention"
DEFAULTS = {
    "vocab_size": 163840, "hidden_size": 2304, "intermediate_size": 9216,
    "moe_intermediate_size": 1024, "num_hidden_layers": 27, "num_attention_heads": 32,
    "num_shared_experts": 1, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "qk_nope_head_dim": 128, "num_experts_per_tok": 8, "num_experts": 256,
    "first_k_dense_replace": 1, "linear_head_dim": 128, "linear_num_heads": 32,
    "linear_conv_kernel_dim": 4,
}  # fmt: skip
_BAILING = {
    **DEFAULTS, "vocab_size": 157184, "hidden_size": 2560, "intermediate_size": 6144,
    "moe_intermediate_size": 768, "num_hidden_layers": 42, "num_experts": 512,
    "first_k_dense_replace": 2, "head_dim": 128, "short_conv_kernel_size": 4,
    "layer_group_size": 6,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """`linear_attn_config` lists the layers of each kind, counted from 1."""
    if c.text("model_type") == "bailing_hybrid":
        return _bailing(c.with_defaults(_BAILING))
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


def _bailing(c: Fields) -> ModelSpec:
    # Decay and output gate straight, not through a low rank; a gate a head beside MLA.
    s = mla.sizes(c)
    # transformers writes the rope's width over head_dim when it saves; the KDA's is apart.
    dim = c.maybe("linear_head_dim") if c.has("linear_head_dim") else c.integer("head_dim")
    sizes = DeltaNet(
        hidden=s.hidden,
        key_heads=s.heads,
        value_heads=s.heads,
        key_dim=dim or 0,
        value_dim=dim or 0,
        kernel=c.integer("short_conv_kernel_size"),
    )
    at = "model.layers.*.self_attn"

    def block(kind: str) -> Block:
        if kind == _LINEAR:
            return kimi_delta(at, sizes, low_rank=False)
        mixers, tensors = mla.block(c, s, Style())
        gate = linear(f"{at}.g_proj", s.heads, s.hidden, Role.ATTENTION, Shard.COLUMN)
        return mixers, tensors + gate

    every = c.integer("layer_group_size")
    kinds = kinds_of(c, s.layers, lambda i: _LINEAR if (i + 1) % every else FULL)
    return decoder(c, s, Style(), kinds=kinds, block=block, feeds=_feeds(c, s))
