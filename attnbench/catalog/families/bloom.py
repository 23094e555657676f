"""BLOOM, MPT, Falcon and OPT: the open models of 2022 and 2023, each with its own layer."""

import msgspec

from attnbench.catalog.blocks import linear
from attnbench.catalog.decoder import Block, attention, decoder
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import Full, ModelSpec, Place, Role

MODEL_TYPES = ("bloom", "mpt", "falcon", "opt", "RefinedWeb", "RefinedWebModel")

_BLOOM = {"vocab_size": 250880, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8}
_MPT = {
    "vocab_size": 50368, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16,
    "expansion_ratio": 4, "max_position_embeddings": 2048,
}  # fmt: skip
_FALCON = {
    "vocab_size": 65024, "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
    "max_position_embeddings": 2048,
}  # fmt: skip
_OPT = {
    "vocab_size": 50272, "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072,
    "num_attention_heads": 12, "max_position_embeddings": 2048,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """ALiBi has no parameters; all four tie their embeddings."""
    kind = c.text("model_type")
    if kind == "bloom":
        return _bloom(c.with_defaults(_BLOOM))
    if kind == "mpt":
        return _mpt(c.with_defaults(_MPT))
    if kind == "opt":
        return _opt(c.with_defaults(_OPT))
    return _falcon(c.with_defaults(_FALCON))


def _bloom(c: Fields) -> ModelSpec:
    c.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    style = Style(
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        gated=False,
        norm_bias=True,
        embedding_norm=True,
        tied=True,
        at="transformer",
    )
    return decoder(c, Sizes.read(c, inner=4 * c.integer("hidden_size")), style)


def _mpt(c: Fields) -> ModelSpec:
    c.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    config = c.child("attn_config") or c
    # transformers' MPT reads these and has no biases at all, whatever `no_bias` says.
    kv_heads = config.maybe("kv_n_heads")
    inner = c.integer("expansion_ratio") * c.integer("hidden_size")
    style = Style(gated=False, norms=("norm_1", "norm_2"), tied=True, at="transformer")
    return decoder(c, Sizes.read(c, inner=inner, kv_heads=kv_heads), style)


def _opt(c: Fields) -> ModelSpec:
    s = Sizes.read(c)
    bias = c.flag("enable_bias", True)
    affine = c.flag("layer_norm_elementwise_affine", True)
    style = Style(
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        gated=False,
        norms=("self_attn_layer_norm", "final_layer_norm"),
        norm_bias=affine,
        norm_weight=affine,
        # Two rows before the first position, for padding.
        positions=c.integer("max_position_embeddings") + 2,
        final_norm=c.flag("do_layer_norm_before", True) and not c.flag("_remove_final_layer_norm"),
        tied=True,
        at="model.decoder",
    )
    width = c.maybe("word_embed_proj_dim") or s.hidden
    if width == s.hidden:
        return decoder(c, s, style)
    # OPT-350m's embeddings are narrower than its layers.
    spec = decoder(c, s, style)
    narrow = tuple(
        msgspec.structs.replace(t, shape=(s.vocab, width)) if t.shape == (s.vocab, s.hidden) else t
        for t in spec.outside
    )
    between = linear(
        "model.decoder.project_in", s.hidden, width, Role.OTHER, place=Place.FIRST
    ) + linear("model.decoder.project_out", width, s.hidden, Role.OTHER, place=Place.LAST)
    return msgspec.structs.replace(spec, outside=narrow + between)


def _falcon(c: Fields) -> ModelSpec:
    c.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    new = c.flag("new_decoder_architecture")
    heads = c.integer("num_attention_heads")
    kv_heads = heads
    if new:
        kv_heads = c.maybe("num_kv_heads") or c.maybe("num_key_value_heads") or heads
    elif c.flag("multi_query", True):
        kv_heads = 1
    hidden = c.integer("hidden_size")
    c.divided("num_attention_heads", heads, "num_kv_heads", kv_heads)
    s = Sizes(
        hidden=hidden,
        layers=c.layers(),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=c.divided("hidden_size", hidden, "num_attention_heads", heads),
        inner=c.maybe("intermediate_size") or 4 * hidden,
        vocab=c.integer("vocab_size"),
    )
    bias = c.flag("bias")
    if new and (c.maybe("num_ln_in_parallel_attn") or 2) == 2:
        norms: tuple[str, ...] = ("ln_attn", "ln_mlp")
    elif new or c.flag("parallel_attn", True):
        norms = ("input_layernorm",)
    else:
        norms = ("input_layernorm", "post_attention_layernorm")
    style = Style(
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        gated=False,
        norms=norms,
        norm_bias=True,
        tied=True,
        at="transformer",
    )
    mixer = Full(
        heads=heads,
        kv_heads=kv_heads,
        key_dim=s.head_dim,
        value_dim=s.head_dim,
        transformers_kv_heads=heads if new else None,
    )
    block: Block = ((mixer,), attention(s, style, mixer))
    return decoder(c, s, style, block=lambda _: block)
