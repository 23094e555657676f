"""Zamba and Zamba2: Mamba layers, and a transformer block or two that many layers share."""

from attnbench.catalog.assemble import assemble, ends, is_tied
from attnbench.catalog.blocks import Tensors, linear, mlp, norm, projections
from attnbench.catalog.decoder import Block, lay_out
from attnbench.catalog.fields import Fields
from attnbench.catalog.recurrent import Mamba2, conv, conv_state, mamba2
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import (
    Full,
    Layer,
    ModelSpec,
    Place,
    Recurrent,
    Role,
    Shard,
    State,
    Tensor,
)

MODEL_TYPES = ("zamba", "zamba2")

_ZAMBA = {
    "vocab_size": 32000, "hidden_size": 3712, "intermediate_size": 14848,
    "num_hidden_layers": 76, "num_attention_heads": 16, "max_position_embeddings": 4096,
    "attn_layer_period": 6, "attn_layer_offset": 4, "mamba_d_state": 16, "mamba_d_conv": 4,
    "mamba_expand": 2, "mamba_dt_rank": "auto", "n_mamba_heads": 2,
}  # fmt: skip
_ZAMBA2 = {
    "vocab_size": 32000, "hidden_size": 2560, "num_hidden_layers": 54,
    "num_attention_heads": 32, "max_position_embeddings": 4096, "mamba_d_state": 64,
    "mamba_d_conv": 4, "mamba_expand": 2, "mamba_ngroups": 1, "n_mamba_heads": 8,
    "num_mem_blocks": 1, "adapter_rank": 128,
}  # fmt: skip
_AT = "model.layers.*"
_HYBRID = "hybrid"


def build(c: Fields) -> ModelSpec:
    """The shared block reads the hidden state beside the embeddings: twice the width."""
    second = c.text("model_type") == "zamba2"
    c = c.with_defaults(_ZAMBA2 if second else _ZAMBA)
    c.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    s = Sizes(
        hidden=hidden,
        layers=c.layers(),
        heads=heads,
        kv_heads=c.maybe("num_key_value_heads") or heads,
        head_dim=c.divided("2 x hidden_size", 2 * hidden, "num_attention_heads", heads),
        inner=c.maybe("intermediate_size") or 4 * hidden,
        vocab=c.integer("vocab_size"),
    )
    c.divided("num_attention_heads", heads, "num_key_value_heads", s.kv_heads)
    kinds = _kinds(c, s.layers, second)
    mixers, tensors = _mamba2(c, s) if second else _mamba(c, s)
    tensors += norm(f"{_AT}.input_layernorm", hidden)
    full = Full(heads=heads, kv_heads=s.kv_heads, key_dim=s.head_dim, value_dim=s.head_dim)

    def layer(kind: str, indices: tuple[int, ...]) -> Layer:
        if kind != _HYBRID:
            return Layer(indices=indices, mixers=mixers, tensors=tensors)
        own = linear(f"{_AT}.linear", hidden, hidden, Role.OTHER)
        adapters = _adapters(c, s) if second else ()
        return Layer(
            indices=indices,
            mixers=(full, *mixers),
            tensors=tensors + own + adapters,
            inner=s.inner,
        )

    style = Style(tied=True)
    times = c.integer("num_mem_blocks") if second else 1
    shared = _shared(s, min(times, kinds.count(_HYBRID)), second and c.flag("add_bias_linear"))
    outside = ends(c, s, style) + shared
    return assemble(c, s, lay_out(kinds, layer), outside, tied_embeddings=is_tied(c, style))


def _kinds(c: Fields, layers: int, second: bool) -> tuple[str, ...]:
    listed = c.texts("layers_block_type", length=layers)
    if listed is not None:
        return listed
    if second:
        ids = set(c.integers("hybrid_layer_ids")) if c.has("hybrid_layer_ids") else set()
        if not ids:
            raise c.error("layers_block_type", "missing: it says which layers are hybrid")
        return tuple(_HYBRID if i in ids else "mamba" for i in range(layers))
    period, offset = c.integer("attn_layer_period"), c.integer("attn_layer_offset", low=0)
    first = ("mamba", "mamba", _HYBRID)
    later = (_HYBRID if i % period == offset else "mamba" for i in range(layers - 3))
    return (*first, *later)[:layers]


def _mamba(c: Fields, s: Sizes) -> Block:
    # Zamba's Mamba has heads: each its own projection to dt, B and C.
    at, role = f"{_AT}.mamba", Role.RECURRENT
    inner, heads = c.integer("mamba_expand") * s.hidden, c.integer("n_mamba_heads")
    width = c.divided("mamba_expand x hidden_size", inner, "n_mamba_heads", heads)
    state, kernel = c.integer("mamba_d_state"), c.integer("mamba_d_conv")
    auto = c.get("mamba_dt_rank") == "auto"
    rank = -(-s.hidden // 16) if auto else c.integer("mamba_dt_rank")
    shapes = {
        "x_proj_weight": (heads, rank + 2 * state, width),
        "dt_proj_weight": (heads, width, rank),
        "dt_proj_bias": (heads, width),
        "A_log": (heads, width, state),
        "D": (heads, width),
    }
    made: Tensors = tuple(
        Tensor(name=f"{at}.{name}", shape=shape, role=role, shard=Shard.COLUMN)
        for name, shape in shapes.items()
    )
    bias = c.flag("mamba_proj_bias")
    made += linear(f"{at}.in_proj", 2 * inner, s.hidden, role, Shard.COLUMN, bias=bias)
    made += conv(f"{at}.conv1d", inner, kernel, bias=c.flag("mamba_conv_bias", True))
    made += linear(f"{at}.out_proj", s.hidden, inner, role, Shard.ROW, bias=bias)
    states = (
        conv_state(inner, kernel),
        State(name="ssm", shape=(heads, width, state), fp32=True),
    )
    return (Recurrent(name="mamba", states=states, heads=heads),), made


def _mamba2(c: Fields, s: Sizes) -> Block:
    inner, heads = int(c.number("mamba_expand", 2) * s.hidden), c.integer("n_mamba_heads")
    bias = c.flag("add_bias_linear")
    sizes = Mamba2(
        hidden=s.hidden,
        heads=heads,
        head_dim=c.divided("mamba_expand x hidden_size", inner, "n_mamba_heads", heads),
        state=c.integer("mamba_d_state"),
        groups=c.integer("mamba_ngroups"),
        kernel=c.integer("mamba_d_conv"),
        inner=inner,
        scan=c.maybe("chunk_size") or 0,
        bias=bias,
    )
    return mamba2(f"{_AT}.mamba", sizes)


def _adapters(c: Fields, s: Sizes) -> Tensors:
    """What a hybrid layer adds of its own to the block it shares."""
    rank, wide = c.integer("adapter_rank"), 2 * s.hidden
    at = f"{_AT}.shared_transformer"
    made = linear(f"{at}.feed_forward.adapter_down", rank, s.hidden, Role.MLP)
    made += linear(f"{at}.feed_forward.adapter_up", 2 * s.inner, rank, Role.MLP, Shard.COLUMN)
    if c.flag("use_shared_attention_adapter"):
        for name in ("q", "k", "v"):
            made += linear(f"{at}.self_attn.{name}_adapter_down", rank, wide, Role.ATTENTION)
            made += linear(
                f"{at}.self_attn.{name}_adapter_up", wide, rank, Role.ATTENTION, Shard.COLUMN
            )
    return made


def _shared(s: Sizes, times: int, bias: bool) -> Tensors:
    """The shared blocks, `times` of them; every stage that has a hybrid layer holds them."""
    at, wide = "model.shared_transformer.*", 2 * s.hidden
    made = projections(
        f"{at}.self_attn", wide, heads=s.heads, kv_heads=s.kv_heads, key_dim=s.head_dim
    )
    # The output returns to the hidden size.
    made = made[:-1] + linear(
        f"{at}.self_attn.o_proj", s.hidden, s.heads * s.head_dim, Role.ATTENTION, Shard.ROW
    )
    made += mlp(f"{at}.feed_forward", s.hidden, s.inner, bias=bias)
    made += norm(f"{at}.input_layernorm", wide) + norm(f"{at}.pre_ff_layernorm", s.hidden)
    return tuple(
        Tensor(
            name=t.name, shape=t.shape, role=t.role, shard=t.shard, count=times, place=Place.EVERY
        )
        for t in made
    )
