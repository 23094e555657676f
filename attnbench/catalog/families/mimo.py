"""MiMo-V2-Flash: K wider than V, and head counts of their own in sliding layers."""

from attnbench.catalog.decoder import FULL, SLIDING, Block, attention, decoder, kinds_of
from attnbench.catalog.families.deepseek import feeds
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import Full, ModelSpec, Sliding

MODEL_TYPES = ("mimo_v2_flash",)

DEFAULTS = {
    "vocab_size": 152576, "hidden_size": 4096, "intermediate_size": 16384,
    "num_hidden_layers": 48, "num_attention_heads": 64, "num_key_value_heads": 4,
    "head_dim": 192, "v_head_dim": 128, "num_experts": 256,
    "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "first_k_dense_replace": 1,
    "max_position_embeddings": 131072,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Sliding layers have twice the KV heads of full ones, and an attention sink a head."""
    c = c.with_defaults(DEFAULTS)
    s = Sizes.read(c)
    value_dim = c.integer("v_head_dim")
    size = c.maybe("sliding_window_size")
    # `sliding_window_size` counts the tokens before the query, `sliding_window` it too.
    window = c.integer("sliding_window", 129) if size is None else size + 1
    style = Style(qkv_bias=c.flag("attention_bias"))
    sinks = Style(qkv_bias=c.flag("attention_bias"), sinks=True)
    heads = c.maybe("swa_num_key_value_heads") or 2 * s.kv_heads
    c.divided("num_attention_heads", s.heads, "swa_num_key_value_heads", heads)

    def block(kind: str) -> Block:
        if kind == FULL:
            full = Full(heads=s.heads, kv_heads=s.kv_heads, key_dim=s.head_dim, value_dim=value_dim)
            return (full,), attention(s, style, full)
        local = Sliding(
            heads=s.heads, kv_heads=heads, key_dim=s.head_dim, value_dim=value_dim, window=window
        )
        return (local,), attention(s, sinks, local)

    return decoder(c, s, style, kinds=_kinds(c, s.layers), block=block, feeds=feeds(c, s))


def _kinds(c: Fields, layers: int) -> tuple[str, ...]:
    # The first release lists 1 (sliding) and 0 (full) as `hybrid_layer_pattern`.
    if not c.has("layer_types") and c.has("hybrid_layer_pattern"):
        listed = c.integers("hybrid_layer_pattern", length=layers)
        return tuple(SLIDING if kind else FULL for kind in listed)
    return kinds_of(c, layers, lambda i: SLIDING if i and (i + 1) % 6 else FULL)
