"""MiniMax-01 (lightning attention beside full) and MiniMax-M2."""

from attnbench.catalog.blocks import MoE, linear, norm
from attnbench.catalog.decoder import FULL, Block, attend, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec, Recurrent, Role, Shard, State

MODEL_TYPES = ("minimax", "minimax_m2", "minimax_text_01")

_01 = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "num_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 131072,
}  # fmt: skip
_M2 = {
    "vocab_size": 200064, "hidden_size": 3072, "intermediate_size": 1536,
    "num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8,
    "head_dim": 128, "num_experts": 256, "num_experts_per_tok": 8,
    "max_position_embeddings": 196608,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """MiniMax-01: a state of head_dim x head_dim a head in linear layers, K and V in full ones."""
    m2 = c.text("model_type") == "minimax_m2"
    c = c.with_defaults(_M2 if m2 else _01)
    s = Sizes.read(c)
    moe = MoE(
        total=c.integer("num_experts"), per_token=c.integer("num_experts_per_tok"), inner=s.inner
    )
    feeds = moe_from(c, [True] * s.layers, moe, s.inner)
    if m2:
        style = Style(qk_norm="full" if c.flag("use_qk_norm", True) else None)
        return decoder(c, s, style, feeds=feeds)

    def block(kind: str) -> Block:
        return _lightning(s) if kind == "linear_attention" else attend(c, s, Style(), kind)

    return decoder(c, s, Style(), kinds=_kinds(c, s.layers), block=block, feeds=feeds)


def _kinds(c: Fields, layers: int) -> tuple[str, ...]:
    # The first release lists 0 (linear) and 1 (full) as `attn_type_list`.
    if not c.has("layer_types") and c.has("attn_type_list"):
        listed = c.integers("attn_type_list", length=layers)
        return tuple(FULL if kind else "linear_attention" for kind in listed)
    return kinds_of(c, layers, lambda i: "linear_attention" if i % 2 else FULL)


def _lightning(s: Sizes) -> Block:
    at, role = "model.layers.*.self_attn", Role.ATTENTION
    width = s.heads * s.head_dim
    mixer = Recurrent(
        name="lightning",
        heads=s.heads,
        states=(State(name="kv", shape=(s.heads, s.head_dim, s.head_dim)),),
    )
    return (mixer,), (
        *linear(f"{at}.qkv_proj", 3 * width, s.hidden, role, Shard.COLUMN),
        *linear(f"{at}.output_gate", width, s.hidden, role, Shard.COLUMN),
        *linear(f"{at}.out_proj", s.hidden, width, role, Shard.ROW),
        *norm(f"{at}.norm", width),
    )
