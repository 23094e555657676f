"""GPT-2 and its relatives: learned positions, LayerNorm, biases everywhere, a plain MLP."""

from attnbench.catalog.decoder import decoder
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("gpt2", "gpt_bigcode", "openai-gpt", "gpt-sw3")

DEFAULTS = {
    "vocab_size": 50257, "hidden_size": 768, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 1024, "multi_query": True,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """GPT-BigCode (StarCoder) is GPT-2 with one KV head; GPT-1 has no last norm."""
    kind = c.text("model_type")
    c = c.with_defaults(DEFAULTS)
    c.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    single = kind == "gpt_bigcode" and c.flag("multi_query")
    inner = c.maybe("intermediate_size") or 4 * c.integer("hidden_size")
    s = Sizes.read(c, inner=inner, kv_heads=1 if single else None)
    style = Style(
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        gated=False,
        norm_bias=True,
        norms=("ln_1", "ln_2"),
        positions=c.integer("max_position_embeddings", 512 if kind == "openai-gpt" else None),
        final_norm=kind != "openai-gpt",
        tied=True,
        at="transformer",
    )
    return decoder(c, s, style)
