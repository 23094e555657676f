"""RecurrentGemma (Griffin): two layers of RG-LRU, then one of local attention."""

from attnbench.catalog.blocks import linear, projections, vector
from attnbench.catalog.decoder import Block, decoder
from attnbench.catalog.fields import Fields
from attnbench.catalog.recurrent import conv, conv_state
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec, Recurrent, Role, Shard, Sliding, State

MODEL_TYPES = ("recurrent_gemma",)

DEFAULTS = {
    "vocab_size": 256000, "hidden_size": 2560, "intermediate_size": 7680,
    "num_hidden_layers": 26, "num_attention_heads": 10, "attention_window_size": 2048,
    "conv1d_width": 4, "block_types": ["recurrent", "recurrent", "attention"],
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Source: Griffin, arXiv:2402.19427. The MLP is half as wide as `intermediate_size`."""
    c = c.with_defaults(DEFAULTS)
    c.require("intermediate_size")
    inner = c.divided("intermediate_size", c.integer("intermediate_size"), "2", 2)
    s = Sizes.read(c, inner=inner)
    style = Style(norms=("temporal_pre_norm", "channel_pre_norm"), mlp_bias=True, tied=True)
    pattern = c.texts("block_types") or ()
    if not pattern or any(kind not in ("recurrent", "attention") for kind in pattern):
        raise c.error("block_types", "is no list of 'recurrent' and 'attention'")
    kinds = [pattern[i % len(pattern)] for i in range(s.layers)]

    def block(kind: str) -> Block:
        return _local(c, s) if kind == "attention" else _rg_lru(c, s)

    return decoder(c, s, style, kinds=kinds, block=block)


def _local(c: Fields, s: Sizes) -> Block:
    mixer = Sliding(
        heads=s.heads,
        kv_heads=s.kv_heads,
        key_dim=s.head_dim,
        value_dim=s.head_dim,
        window=c.integer("attention_window_size"),
    )
    made = projections(
        "model.layers.*.temporal_block",
        s.hidden,
        heads=s.heads,
        kv_heads=s.kv_heads,
        key_dim=s.head_dim,
        qkv_bias=c.flag("attention_bias"),
        out_bias=True,
    )
    return (mixer,), made


def _rg_lru(c: Fields, s: Sizes) -> Block:
    at, role, column = "model.layers.*.temporal_block", Role.RECURRENT, Shard.COLUMN
    width = c.maybe("lru_width") or s.hidden
    kernel = c.integer("conv1d_width")
    part = c.divided("lru_width", width, "num_attention_heads", s.heads)
    made = (
        *linear(f"{at}.linear_y", width, s.hidden, role, column, bias=True),
        *linear(f"{at}.linear_x", width, s.hidden, role, column, bias=True),
        *linear(f"{at}.linear_out", s.hidden, width, role, Shard.ROW, bias=True),
        *conv(f"{at}.conv_1d", width, kernel, bias=True),
        *vector(f"{at}.rg_lru.recurrent_param", width, role=role, shard=column),
    )
    for gate in ("input_gate", "recurrent_gate"):
        made += vector(f"{at}.rg_lru.{gate}_weight", s.heads, part, part, role=role, shard=column)
        made += vector(f"{at}.rg_lru.{gate}_bias", s.heads, part, role=role, shard=column)
    states = (
        conv_state(s.hidden, kernel, width=kernel - 1),
        State(name="rg_lru", shape=(width,), fp32=True),
    )
    return (Recurrent(name="rg_lru", states=states, heads=s.heads),), made
