"""GLM-4 dense and with experts (GLM-4.5, 4.6), and ChatGLM's own field names."""

from attnbench.catalog.decoder import decoder
from attnbench.catalog.families.deepseek import feeds
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("glm", "glm4", "glm4_moe", "glm4v_text", "glm4v_moe_text")

_DENSE = {
    "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696,
    "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 2,
    "head_dim": 128, "max_position_embeddings": 131072, "attention_bias": True,
}  # fmt: skip
_MOE = {
    "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 10944,
    "num_hidden_layers": 46, "num_attention_heads": 96, "num_key_value_heads": 8,
    "moe_intermediate_size": 1408, "num_experts_per_tok": 8, "n_shared_experts": 1,
    "num_experts": 128, "first_k_dense_replace": 1, "max_position_embeddings": 131072,
}  # fmt: skip
_VISION_MOE = {**_MOE, "attention_bias": True}
_FOUR = (
    "input_layernorm",
    "post_attention_layernorm",
    "post_self_attn_layernorm",
    "post_mlp_layernorm",
)


def build(c: Fields) -> ModelSpec:
    """Biases on q, k and v alone; GLM-4-0414 has four norms a layer."""
    kind = c.text("model_type")
    experts = "_moe" in kind
    c = c.with_defaults(_VISION_MOE if kind == "glm4v_moe_text" else _MOE if experts else _DENSE)
    if not experts:
        style = Style(qkv_bias=c.flag("attention_bias"))
        if kind != "glm":
            style = Style(qkv_bias=c.flag("attention_bias"), norms=_FOUR)
        return decoder(c, Sizes.read(c), style)
    s = Sizes.read(c)
    style = Style(
        qkv_bias=c.flag("attention_bias"), qk_norm="head" if c.flag("use_qk_norm") else None
    )
    return decoder(c, s, style, feeds=feeds(c, s))
