"""SmolLM3, Seed-OSS, ERNIE 4.5 (dense and MoE) and Helium: Llama with biases of their own."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import FULL, SLIDING, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("smollm3", "seed_oss", "ernie4_5", "ernie4_5_moe", "helium")

DEFAULTS = {
    "smollm3": {
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
        "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
    },
    "seed_oss": {
        "vocab_size": 155136, "hidden_size": 4096, "intermediate_size": 27648,
        "num_hidden_layers": 64, "num_attention_heads": 80, "num_key_value_heads": 8,
        "head_dim": 128, "max_position_embeddings": 524288, "attention_bias": True,
    },
    "ernie4_5": {
        "vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072,
        "num_hidden_layers": 18, "num_attention_heads": 16, "num_key_value_heads": 2,
        "head_dim": 128, "max_position_embeddings": 131072,
    },
    "ernie4_5_moe": {
        "vocab_size": 103424, "hidden_size": 2560, "intermediate_size": 12288,
        "num_hidden_layers": 28, "num_attention_heads": 20, "num_key_value_heads": 4,
        "max_position_embeddings": 131072, "moe_intermediate_size": 1536,
        "num_experts_per_tok": 6, "num_experts": 64, "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1, "moe_layer_interval": 1,
    },
    "helium": {
        "vocab_size": 48000, "hidden_size": 2560, "intermediate_size": 7040,
        "num_hidden_layers": 24, "num_attention_heads": 20, "num_key_value_heads": 20,
        "head_dim": 128, "max_position_embeddings": 4096,
    },
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Each is Llama with biases of its own; ERNIE's and SmolLM3's embeddings are tied."""
    kind = c.text("model_type")
    c = c.with_defaults(DEFAULTS[kind])
    s = Sizes.read(c)
    bias = c.flag("attention_bias")
    if kind == "smollm3":
        style = Style(qkv_bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias"), tied=True)
        slides = c.flag("use_sliding_window") and c.maybe("sliding_window") is not None
        no_rope = c.integers("no_rope_layers", length=s.layers) if c.has("no_rope_layers") else ()

        def pattern(i: int) -> str:
            rope = no_rope[i] if no_rope else (i + 1) % c.integer("no_rope_layer_interval", 4)
            return SLIDING if slides and rope else FULL

        return decoder(c, s, style, kinds=kinds_of(c, s.layers, pattern))
    if kind == "seed_oss":
        style = Style(
            qkv_bias=bias, out_bias=c.flag("attention_out_bias"), mlp_bias=c.flag("mlp_bias")
        )
        return decoder(c, s, style)
    if kind == "helium":
        style = Style(qkv_bias=bias, mlp_bias=c.flag("mlp_bias"))
        return decoder(c, s, style)
    bias = c.flag("use_bias")
    moe = kind == "ernie4_5_moe"
    style = Style(qkv_bias=bias, out_bias=bias, mlp_bias=bias, head_bias=bias and moe, tied=True)
    return decoder(c, s, style, feeds=_ernie(c, s) if moe else None)


def _ernie(c: Fields, s: Sizes) -> tuple[int | MoE | None, ...]:
    inner = c.integer("moe_intermediate_size")
    moe = MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=inner,
        shared=inner * c.integer("moe_num_shared_experts", 0, low=0),
        shared_bias=c.flag("use_bias"),
        correction=True,
    )
    first = c.integer("moe_layer_start_index", low=0)
    last = c.integer("moe_layer_end_index", s.layers - 1, low=-1)
    last = s.layers - 1 if last == -1 else last
    step = c.integer("moe_layer_interval")
    sparse = [(i + 1) % step == 0 and first <= i <= last for i in range(s.layers)]
    return moe_from(c, sparse, moe, s.inner)
