"""Gemma 4's tower: gated layers with four norms, positions by row and by column."""

from attnbench.catalog.blocks import mlp, norm, projections, vector
from attnbench.catalog.fields import Fields
from attnbench.catalog.vision.vit import Tower, dense, vision

MODEL_TYPES = ("gemma4_vision",)

DEFAULTS = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 16,
    "num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 64, "patch_size": 16,
    "position_embedding_size": 10240,
}  # fmt: skip
_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def tower(c: Fields) -> Tower:
    """Each patch of patch x patch x 3 numbers enters through one linear layer."""
    c = c.with_defaults(DEFAULTS)
    hidden, dim = c.integer("hidden_size"), c.integer("head_dim")
    at = "vision_tower"
    ends = dense(f"{at}.patch_embedder.input_proj", hidden, 3 * c.integer("patch_size") ** 2)
    ends += vision(
        vector(f"{at}.position_embedding_table", 2, c.integer("position_embedding_size"), hidden)
    )
    bias = c.flag("attention_bias")
    layer = projections(
        f"{at}.layers.*.self_attn",
        hidden,
        heads=c.integer("num_attention_heads"),
        kv_heads=c.integer("num_key_value_heads"),
        key_dim=dim,
        qkv_bias=bias,
        out_bias=bias,
    )
    layer += norm(f"{at}.layers.*.q_norm", dim) + norm(f"{at}.layers.*.k_norm", dim)
    layer += mlp(f"{at}.layers.*.mlp", hidden, c.integer("intermediate_size"))
    for name in _NORMS:
        layer += norm(f"{at}.layers.*.{name}", hidden)
    return Tower(tensors=ends + vision(layer, times=c.layers()), width=hidden)
