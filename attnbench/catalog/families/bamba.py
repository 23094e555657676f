"""Mamba-2 beside attention: Bamba and Granite 4 (in turn), Falcon-H1 (side by side)."""

from attnbench.catalog.blocks import MoE, Tensors, mlp
from attnbench.catalog.decoder import FULL, Block, attend, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.recurrent import Mamba2, mamba2
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec, Role

MODEL_TYPES = ("bamba", "granitemoehybrid", "falcon_h1")

_MAMBA = {
    "mamba_n_heads": 128, "mamba_d_head": "auto", "mamba_n_groups": 1, "mamba_d_state": 256,
    "mamba_d_conv": 4, "mamba_expand": 2, "num_hidden_layers": 32, "hidden_size": 4096,
    "num_attention_heads": 32,
}  # fmt: skip
DEFAULTS = {
    "bamba": {
        **_MAMBA, "vocab_size": 128000, "intermediate_size": 14336, "num_key_value_heads": 8,
        "max_position_embeddings": 262144,
    },
    "falcon_h1": {
        **_MAMBA, "vocab_size": 128000, "intermediate_size": 14336, "num_key_value_heads": 8,
        "max_position_embeddings": 8192, "mamba_d_ssm": 1024,
    },
    "granitemoehybrid": {
        **_MAMBA, "vocab_size": 32000, "intermediate_size": 11008, "num_experts": 8,
        "num_experts_per_tok": 2, "shared_intermediate_size": 1024,
        "max_position_embeddings": 2048,
    },
}  # fmt: skip
_MAMBA_KINDS = ("mamba", "linear_attention")


def build(c: Fields) -> ModelSpec:
    """Bamba lists its attention layers, Granite all layers; Falcon-H1 has both in each."""
    kind = c.text("model_type")
    c = c.with_defaults(DEFAULTS[kind])
    s = Sizes.read(c)
    bias = c.flag("attention_bias")
    if kind == "granitemoehybrid":
        return _granite(c, s, Style(qkv_bias=bias, out_bias=bias))
    style = Style(
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=c.flag("mlp_bias"),
        norms=("input_layernorm", "pre_ff_layernorm"),
    )
    state = _mamba(c, s, parallel=kind == "falcon_h1")
    if kind == "falcon_h1":
        mixers, tensors = attend(c, s, style, FULL)
        both = (mixers + state[0], tensors + state[1])
        return decoder(c, s, style, block=lambda _: both)
    full = set(c.integers("attn_layer_indices") if c.has("attn_layer_indices") else ())
    kinds = kinds_of(c, s.layers, lambda i: FULL if i in full else "mamba")
    return decoder(
        c,
        s,
        style,
        kinds=kinds,
        block=lambda k: state if k in _MAMBA_KINDS else attend(c, s, style, k),
    )


def _mamba(c: Fields, s: Sizes, *, parallel: bool = False) -> Block:
    inner = int(c.number("mamba_expand", 2) * s.hidden)
    if parallel:
        inner = c.maybe("mamba_d_ssm") or inner
    heads = c.integer("mamba_n_heads")
    dim = c.get("mamba_d_head", "auto")
    head_dim = inner // heads if dim == "auto" else c.integer("mamba_d_head")
    if head_dim * heads != inner:
        raise c.error("mamba_d_head", f"{heads} heads of {head_dim} are not {inner} channels")
    sizes = Mamba2(
        hidden=s.hidden,
        heads=heads,
        head_dim=head_dim,
        state=c.integer("mamba_d_state"),
        groups=c.integer("mamba_n_groups"),
        kernel=c.integer("mamba_d_conv"),
        inner=inner,
        scan=c.maybe("mamba_chunk_size") or 0,
        conv_bias=c.flag("mamba_conv_bias", True),
        bias=c.flag("mamba_proj_bias"),
        out_bias=c.flag("projectors_bias") if parallel else None,
        gate_norm=not parallel or c.flag("mamba_rms_norm"),
    )
    return mamba2("model.layers.*.mamba", sizes)


def _granite(c: Fields, s: Sizes, style: Style) -> ModelSpec:
    # Every layer has an MLP that each token visits, and experts where there are any.
    total = c.integer("num_experts", low=0)
    shared = c.integer("shared_intermediate_size")
    state = _mamba(c, s)
    always: Tensors = mlp("model.layers.*.shared_mlp", s.hidden, shared, role=Role.SHARED_EXPERT)

    def block(kind: str) -> Block:
        mixers, tensors = state if kind in _MAMBA_KINDS else attend(c, s, style, kind)
        return mixers, tensors if total else tensors + always

    feeds: tuple[int | MoE | None, ...] = (None,) * s.layers
    if total:
        moe = MoE(
            total=total,
            per_token=c.integer("num_experts_per_tok"),
            inner=s.inner,
            shared=shared,
        )
        feeds = moe_from(c, [True] * s.layers, moe, s.inner)
    kinds = kinds_of(c, s.layers, lambda _: "mamba")
    return decoder(c, s, style, kinds=kinds, block=block, feeds=feeds)
