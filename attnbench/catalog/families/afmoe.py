"""AFMoE (Trinity), JetMoE and DBRX: experts, each with a layer of its own."""

from attnbench.catalog.blocks import MoE, Tensors, linear, vector
from attnbench.catalog.decoder import FULL, SLIDING, Block, attend, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import Full, ModelSpec, Role, Shard

MODEL_TYPES = ("afmoe", "jetmoe", "dbrx")

_AFMOE = {
    "vocab_size": 200192, "hidden_size": 2048, "intermediate_size": 6144,
    "moe_intermediate_size": 1408, "num_hidden_layers": 32, "num_dense_layers": 1,
    "num_attention_heads": 16, "head_dim": 128, "num_experts": 64, "num_experts_per_tok": 6,
    "num_shared_experts": 2, "global_attn_every_n_layers": 4, "sliding_window": 1024,
}  # fmt: skip
_JETMOE = {
    "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 12,
    "num_key_value_heads": 16, "head_dim": 128, "num_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip
_FOUR = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_mlp_layernorm",
    "post_mlp_layernorm",
)


def build(c: Fields) -> ModelSpec:
    """JetMoE routes its queries and outputs to experts too, DBRX nests its fields."""
    kind = c.text("model_type")
    if kind == "afmoe":
        return _afmoe(c.with_defaults(_AFMOE))
    if kind == "jetmoe":
        return _jetmoe(c.with_defaults(_JETMOE))
    return _dbrx(c)


def _afmoe(c: Fields) -> ModelSpec:
    s = Sizes.read(c)
    style = Style(qkv_bias=c.flag("attention_bias"), qk_norm="head", norms=_FOUR)
    inner = c.integer("moe_intermediate_size")
    moe = MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=inner,
        shared=inner * c.integer("num_shared_experts", low=0),
        correction=True,
    )
    first = c.integer("num_dense_layers", low=0)
    every = c.integer("global_attn_every_n_layers")
    gate = linear(
        "model.layers.*.self_attn.gate_proj", s.heads * s.head_dim, s.hidden, Role.ATTENTION,
        Shard.COLUMN,
    )  # fmt: skip

    def block(kind: str) -> Block:
        mixers, tensors = attend(c, s, style, kind)
        return mixers, tensors + gate

    return decoder(
        c,
        s,
        style,
        kinds=kinds_of(c, s.layers, lambda i: SLIDING if (i + 1) % every else FULL),
        block=block,
        feeds=moe_from(c, [i >= first for i in range(s.layers)], moe, s.inner),
    )


def _jetmoe(c: Fields) -> ModelSpec:
    # Each of `top` experts has queries for every KV head: heads are top x KV heads.
    top, kv_heads = c.integer("num_experts_per_tok"), c.integer("num_key_value_heads")
    s = Sizes.read(c.also(num_attention_heads=top * kv_heads))
    total, width = c.integer("num_experts"), kv_heads * s.head_dim
    at, role = "model.layers.*.self_attention", Role.ATTENTION
    mixer = Full(heads=s.heads, kv_heads=kv_heads, key_dim=s.head_dim, value_dim=s.head_dim)
    expert = Role.ROUTED_EXPERT
    made: Tensors = (
        *linear(f"{at}.kv_proj", 2 * width, s.hidden, role, Shard.KV),
        *linear(f"{at}.experts.router", total, s.hidden, Role.ROUTER),
        *linear(f"{at}.experts.*.q_proj", width, s.hidden, expert, Shard.EXPERT, count=total),
        *linear(f"{at}.experts.*.o_proj", s.hidden, width, expert, Shard.EXPERT, count=total),
        *vector(f"{at}.experts.bias", s.hidden, role=role),
        *vector("model.layers.*.mlp.bias", s.hidden, role=Role.MLP),
    )
    moe = MoE(total=total, per_token=top, inner=s.inner)
    feeds = moe_from(c, [True] * s.layers, moe, s.inner)
    return decoder(c, s, Style(tied=True), block=lambda _: ((mixer,), made), feeds=feeds)


def _dbrx(c: Fields) -> ModelSpec:
    attention, ffn = c.child("attn_config") or c, c.child("ffn_config") or c
    inner = ffn.integer("ffn_hidden_size", 10752)
    kv_heads = attention.integer("kv_n_heads", 1)
    s = Sizes.read(c, inner=inner, kv_heads=kv_heads)
    moe = MoE(
        total=ffn.integer("moe_num_experts", 4), per_token=ffn.integer("moe_top_k", 1), inner=inner
    )
    # LayerNorms without biases.
    style = Style(norms=("norm_1", "norm_2"))
    return decoder(c, s, style, feeds=moe_from(c, [True] * s.layers, moe, inner))
