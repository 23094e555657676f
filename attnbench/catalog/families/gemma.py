"""Gemma 1 to 3, text: wide heads, tied embeddings, and from 2 on a local/global pattern."""

import msgspec

from attnbench.catalog.decoder import FULL, SLIDING, decoder, kinds_of
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("gemma", "gemma2", "gemma3_text", "vaultgemma")

_COMMON = {
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "num_hidden_layers": 26,
    "hidden_size": 2304, "intermediate_size": 9216, "sliding_window": 4096,
    "max_position_embeddings": 8192, "vocab_size": 256000,
}  # fmt: skip
DEFAULTS = {
    "gemma": {
        **_COMMON, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 16,
    },
    "gemma2": _COMMON,
    "vaultgemma": _COMMON,
    "gemma3_text": {
        **_COMMON, "vocab_size": 262208, "sliding_window_pattern": 6,
        "max_position_embeddings": 131072, "rope_local_base_freq": 10000,
    },
}  # fmt: skip
_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def build(c: Fields) -> ModelSpec:
    """Gemma 2 alternates local and global layers; Gemma 3 has five local, then one global."""
    kind = c.text("model_type")
    c = c.with_defaults(DEFAULTS[kind])
    s = Sizes.read(c)
    bias = c.flag("attention_bias")
    style = Style(qkv_bias=bias, out_bias=bias, tied=True)
    if kind == "gemma":
        return decoder(c, s, style)
    if kind == "vaultgemma":
        style = msgspec.structs.replace(
            style, norms=("input_layernorm", "pre_feedforward_layernorm")
        )
    else:
        qk_norm = "head" if kind == "gemma3_text" else None
        style = msgspec.structs.replace(style, norms=_NORMS, qk_norm=qk_norm)
    period = c.integer("sliding_window_pattern", 2)
    kinds = kinds_of(c, s.layers, lambda i: SLIDING if (i + 1) % period else FULL)
    return decoder(c, s, style, kinds=kinds)
