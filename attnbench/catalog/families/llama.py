"""Llama 1 to 3 and the models that are Llama but for a bias: Yi, SmolLM, Granite, Arcee."""

from attnbench.catalog.decoder import decoder
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("llama", "granite", "yi", "cwm", "aquila", "internlm3", "iquestcoder")

DEFAULTS = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Gated MLP, RMSNorm, no bias unless `attention_bias` or `mlp_bias` says so."""
    c = c.with_defaults(DEFAULTS)
    bias = c.flag("attention_bias")
    style = Style(qkv_bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias"))
    return decoder(c, Sizes.read(c), style)
