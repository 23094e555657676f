"""The general rule, for a model type that no adapter knows: what its fields say.

Attention with the heads stated; Llama's gated MLP, or experts where there are any;
MLA where `kv_lora_rank` stands; a window where `sliding_window` or `layer_types` do.
The result carries a warning. Layers with a state are refused: no field says its shape.
"""

import msgspec

from attnbench.catalog.assemble import quantization
from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import (
    CHUNKED,
    FULL,
    SLIDING,
    Feed,
    decoder,
    kinds_of,
    moe_from,
    windowed,
)
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
_NOT_PLAIN = (
    "mamba", "ssm", "rwkv", "linear_attn", "linear_num", "conv_kernel", "lru_width",
    "hybrid_override", "is_encoder_decoder", "encoder_layers", "state_size", "kv_shared",
    "compress_ratio", "compress_rate", "per_layer_config",
)  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """The spec that the fields of `c` suffice for, with a warning.

    Raises:
        UserError: fields are missing; it names them.
    """
    for key in _NESTED:
        child = c.child(key)
        if child is not None:
            return _nested(c, child, key)
    _refuse_states(c)
    spec = _mla(c) if c.has("kv_lora_rank") else _plain(c)
    return msgspec.structs.replace(spec, warnings=(*spec.warnings, _warning(c)))


def _warning(c: Fields) -> str:
    kind = c.text("model_type")
    what = f"model_type {kind!r} is unknown" if kind else "no model_type is given"
    return f"{what}: computed by the general rule from its fields; parameters and cache may be off"


def _nested(c: Fields, child: Fields, key: str) -> ModelSpec:
    from attnbench.catalog import adapters

    spec = adapters.build(child)
    note = f"model_type {c.text('model_type')!r} is unknown: only its {key} is counted"
    return msgspec.structs.replace(
        spec,
        model_type=c.text("model_type"),
        quantization=spec.quantization or quantization(c),
        warnings=(*spec.warnings, note),
    )


def _refuse_states(c: Fields) -> None:
    """A file that speaks of states, or of an encoder, is no plain decoder's.

    Raises:
        UserError: it does; a cache counted without them would be wrong in silence.
    """
    for key in c.data:
        if any(word in key.lower() for word in _NOT_PLAIN) and c.data[key] not in (None, False):
            raise c.error(
                key,
                f"no adapter knows model_type {c.text('model_type')!r}, and the general rule "
                "covers decoders with attention alone",
                hint="The shapes of its states stand in no field that the rule could read.",
            )


def _plain(c: Fields) -> ModelSpec:
    s = Sizes.read(c)
    listed = c.texts("layer_types", length=s.layers)
    if listed is not None:
        for kind in listed:
            if kind not in (FULL, SLIDING, CHUNKED, "attention"):
                raise c.error(
                    "layer_types",
                    f"no adapter knows model_type {c.text('model_type')!r} and its {kind!r} layers",
                    hint="The general rule covers attention; a state's shape stands in no field.",
                )
    slides = listed or not c.states("use_sliding_window") or c.flag("use_sliding_window")
    kinds = windowed(c, s.layers) if slides else kinds_of(c, s.layers, lambda _: FULL)
    return decoder(c, s, _style(c), kinds=kinds, feeds=_feeds(c, s))


def _style(c: Fields) -> Style:
    bias = any(c.flag(key) for key in ("attention_bias", "use_bias", "bias", "qkv_bias"))
    return Style(
        qkv_bias=bias,
        out_bias=bias and not c.flag("qkv_bias"),
        mlp_bias=c.flag("mlp_bias") or c.flag("use_bias"),
        qk_norm="head" if c.flag("use_qk_norm") or c.flag("qk_norm") else None,
    )


def _feeds(c: Fields, s: Sizes) -> tuple[Feed, ...] | None:
    total = c.maybe("num_experts", low=0)
    if not total or total == 1:
        return None
    inner = c.maybe("moe_intermediate_size") or c.maybe("expert_intermediate_size") or s.inner
    shared = c.maybe("shared_expert_intermediate_size", low=0)
    if shared is None:
        shared = inner * (c.maybe("n_shared_experts", low=0) or 0)
    moe = MoE(total=total, per_token=c.integer("num_experts_per_tok"), inner=inner, shared=shared)
    first = c.maybe("first_k_dense_replace", low=0) or 0
    return moe_from(c, [i >= first for i in range(s.layers)], moe, s.inner)


def _mla(c: Fields) -> ModelSpec:
    from attnbench.catalog import mla

    s = mla.sizes(c)
    return decoder(c, s, _style(c), block=lambda _: mla.block(c, s, _style(c)), feeds=_feeds(c, s))
