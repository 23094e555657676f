"""Qwen3-Next and Qwen 3.5: three layers of gated delta rule, then one of gated attention."""

from attnbench.catalog.blocks import MoE, linear, norm, projections
from attnbench.catalog.decoder import FULL, Block, Feed, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.recurrent import DeltaNet, delta_net
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import Full, ModelSpec, Role, Shard

MODEL_TYPES = ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")

_DELTA = {
    "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    "linear_num_key_heads": 16, "linear_num_value_heads": 32, "full_attention_interval": 4,
    "num_attention_heads": 16, "head_dim": 256, "max_position_embeddings": 32768,
    "mlp_only_layers": [], "decoder_sparse_step": 1, "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
}  # fmt: skip
DEFAULTS = {
    "qwen3_next": {
        **_DELTA, "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632,
        "num_hidden_layers": 48, "num_key_value_heads": 2, "num_experts": 512,
        "num_experts_per_tok": 10,
    },
    "qwen3_5_text": {
        **_DELTA, "vocab_size": 248320, "hidden_size": 4096, "intermediate_size": 12288,
        "num_hidden_layers": 32, "num_key_value_heads": 4,
    },
    "qwen3_5_moe_text": {
        **_DELTA, "vocab_size": 248320, "hidden_size": 2048, "num_hidden_layers": 40,
        "num_key_value_heads": 2, "num_experts": 256, "num_experts_per_tok": 8,
    },
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Attention's q projection is twice as wide: half of it gates the output."""
    kind = c.text("model_type")
    dense = kind == "qwen3_5_text"
    c = c.with_defaults(DEFAULTS[kind])
    s = Sizes.read(c, inner=c.maybe("intermediate_size") or (None if dense else 1))
    bias = c.flag("attention_bias")

    def block(which: str) -> Block:
        return gated_attention(s, bias) if which == FULL else linear_block(c, s)

    every = c.integer("full_attention_interval")
    kinds = kinds_of(c, s.layers, lambda i: "linear_attention" if (i + 1) % every else FULL)
    for which in kinds:
        if which not in (FULL, "linear_attention"):
            raise c.error("layer_types", f"{which!r} is no kind of layer of this model type")
    feeds = None if dense else _feeds(c, s)
    return decoder(c, s, Style(), kinds=kinds, block=block, feeds=feeds)


def gated_attention(s: Sizes, bias: bool) -> Block:
    """Full attention with a norm on q and k, and a gate as wide as its output."""
    at = "model.layers.*.self_attn"
    mixer = Full(heads=s.heads, kv_heads=s.kv_heads, key_dim=s.head_dim, value_dim=s.head_dim)
    made = projections(
        at,
        s.hidden,
        heads=s.heads,
        kv_heads=s.kv_heads,
        key_dim=s.head_dim,
        qkv_bias=bias,
        out_bias=bias,
    )
    gate = linear(
        f"{at}.q_gate_proj", s.heads * s.head_dim, s.hidden, Role.ATTENTION, Shard.COLUMN, bias=bias
    )
    norms = norm(f"{at}.q_norm", s.head_dim) + norm(f"{at}.k_norm", s.head_dim)
    return (mixer,), made + gate + norms


def linear_block(c: Fields, s: Sizes) -> Block:
    """The gated delta rule with the sizes that `linear_*` state."""
    sizes = DeltaNet(
        hidden=s.hidden,
        key_heads=c.integer("linear_num_key_heads"),
        value_heads=c.integer("linear_num_value_heads"),
        key_dim=c.integer("linear_key_head_dim"),
        value_dim=c.integer("linear_value_head_dim"),
        kernel=c.integer("linear_conv_kernel_dim"),
        engine_fp32=c.text("mamba_ssm_dtype") == "float32",
    )
    return delta_net("model.layers.*.linear_attn", sizes)


def _feeds(c: Fields, s: Sizes) -> tuple[Feed, ...]:
    moe = MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=c.integer("moe_intermediate_size"),
        shared=c.integer("shared_expert_intermediate_size"),
        shared_gate=True,
    )
    dense = set(c.integers("mlp_only_layers"))
    step = c.integer("decoder_sparse_step")
    sparse = [i not in dense and (i + 1) % step == 0 for i in range(s.layers)]
    return moe_from(c, sparse, moe, s.inner)
