"""RWKV-4 and xLSTM: a state a layer instead of attention, and a feed-forward of its own."""

from attnbench.catalog.assemble import assemble, ends, is_tied
from attnbench.catalog.blocks import linear, mlp, norm, vector
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import Layer, ModelSpec, Place, Recurrent, Role, Shard, State

MODEL_TYPES = ("rwkv", "xlstm")

_RWKV = {"vocab_size": 50277, "hidden_size": 4096, "num_hidden_layers": 32}
_XLSTM = {
    "vocab_size": 50304, "hidden_size": 4096, "num_hidden_layers": 32, "num_heads": 8,
    "qk_dim_factor": 0.5, "v_dim_factor": 1.0, "ffn_proj_factor": 2.667,
    "ffn_round_up_to_multiple_of": 64,
}  # fmt: skip
_ROLE, _COLUMN, _ROW = Role.RECURRENT, Shard.COLUMN, Shard.ROW


def build(c: Fields) -> ModelSpec:
    """Sources: RWKV, arXiv:2305.13048; xLSTM, arXiv:2405.04517."""
    if c.text("model_type") == "rwkv":
        return _rwkv(c.with_defaults(_RWKV))
    return _xlstm(c.with_defaults(_XLSTM))


def _sizes(c: Fields, heads: int, inner: int) -> Sizes:
    return Sizes(
        hidden=_hidden(c),
        layers=c.layers("num_hidden_layers", c.maybe("num_blocks")),
        heads=heads,
        kv_heads=heads,
        head_dim=1,
        inner=inner,
        vocab=c.integer("vocab_size"),
    )


def _hidden(c: Fields) -> int:
    return c.integer("hidden_size", c.maybe("embedding_dim"))


def _rwkv(c: Fields) -> ModelSpec:
    c.require("hidden_size", "num_hidden_layers", "vocab_size")
    hidden = _hidden(c)
    width = c.maybe("attention_hidden_size") or hidden
    s = _sizes(c, 1, c.maybe("intermediate_size") or 4 * hidden)
    at = "rwkv.blocks.*.attention"
    made = norm("rwkv.blocks.*.ln1", hidden, bias=True) + norm(
        "rwkv.blocks.*.ln2", hidden, bias=True
    )
    for name in ("time_decay", "time_first"):
        made += vector(f"{at}.{name}", width, role=_ROLE)
    for name in ("key", "value", "receptance"):
        made += vector(f"{at}.time_mix_{name}", 1, 1, hidden, role=_ROLE)
        made += linear(f"{at}.{name}", width, hidden, _ROLE, _COLUMN)
    made += linear(f"{at}.output", hidden, width, _ROLE, _ROW)
    at = "rwkv.blocks.*.feed_forward"
    for name in ("key", "receptance"):
        made += vector(f"{at}.time_mix_{name}", 1, 1, hidden, role=Role.MLP)
    made += linear(f"{at}.key", s.inner, hidden, Role.MLP, _COLUMN)
    made += linear(f"{at}.value", hidden, s.inner, Role.MLP, _ROW)
    made += linear(f"{at}.receptance", hidden, hidden, Role.MLP)
    # The last token's input to either half, and numerator, denominator and maximum.
    states = tuple(State(name=name, shape=(hidden,)) for name in ("ffn_input", "att_input"))
    states += tuple(
        State(name=name, shape=(width,), fp32=True)
        for name in ("numerator", "denominator", "maximum")
    )
    mixer = Recurrent(name="rwkv", states=states, heads=1)
    layer = Layer(indices=tuple(range(s.layers)), mixers=(mixer,), tensors=made, inner=s.inner)
    style = Style(norm_bias=True, at="rwkv")
    outside = ends(c, s, style) + norm("rwkv.blocks.0.pre_ln", hidden, bias=True, place=Place.FIRST)
    return assemble(c, s, (layer,), outside, tied_embeddings=is_tied(c, style), heads=0)


def _up(value: float, multiple: int) -> int:
    return int((value + multiple - 1) // multiple) * multiple


def _xlstm(c: Fields) -> ModelSpec:
    c.require("vocab_size")
    hidden, heads = _hidden(c), c.integer("num_heads")
    keys = _up(hidden * c.number("qk_dim_factor", 0.5), 64)
    values = _up(hidden * c.number("v_dim_factor", 1.0), 64)
    multiple = c.integer("ffn_round_up_to_multiple_of")
    s = _sizes(c, heads, _up(hidden * c.number("ffn_proj_factor", 2.667), multiple))
    bias = c.flag("use_bias")
    key_dim = c.divided("qk_dim", keys, "num_heads", heads)
    value_dim = c.divided("v_dim", values, "num_heads", heads)
    at = "backbone.blocks.*.mlstm_layer"
    made = norm("backbone.blocks.*.norm_mlstm", hidden, bias=bias)
    made += norm("backbone.blocks.*.norm_ffn", hidden, bias=bias)
    for name, width in (("q", keys), ("k", keys), ("v", values), ("ogate_preact", values)):
        made += linear(f"{at}.{name}", width, hidden, _ROLE, _COLUMN, bias=bias)
    for name in ("igate_preact", "fgate_preact"):
        made += linear(f"{at}.{name}", heads, hidden, _ROLE, _COLUMN, bias=True)
    made += norm(f"{at}.multihead_norm", values, bias=bias, role=_ROLE)
    made += linear(f"{at}.out_proj", hidden, values, _ROLE, _ROW, bias=bias)
    made += mlp("backbone.blocks.*.ffn", hidden, s.inner, bias=bias)
    states = (
        State(name="memory", shape=(heads, key_dim, value_dim)),
        State(name="normaliser", shape=(heads, key_dim)),
        State(name="maximum", shape=(heads, 1)),
    )
    mixer = Recurrent(name="mlstm", states=states, heads=heads)
    layer = Layer(indices=tuple(range(s.layers)), mixers=(mixer,), tensors=made, inner=s.inner)
    style = Style(final_norm=c.flag("add_out_norm", True), at="backbone")
    return assemble(c, s, (layer,), ends(c, s, style), tied_embeddings=is_tied(c, style), heads=0)
