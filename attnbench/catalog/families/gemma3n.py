"""Gemma 3n and Gemma 4, text: per-layer embeddings, caches shared by the last layers."""

from collections.abc import Sequence
from typing import Any

import msgspec

from attnbench.catalog.assemble import assemble, ends, is_tied
from attnbench.catalog.blocks import MoE, Tensors, embedding, experts, linear, norm, vector
from attnbench.catalog.decoder import FULL, SLIDING, Block, feed_forward, kinds_of, lay_out
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import (
    Experts,
    Full,
    Layer,
    ModelSpec,
    Place,
    Role,
    Shard,
    Shared,
    Sliding,
)

MODEL_TYPES = ("gemma3n_text", "gemma4_text")

_COMMON = {
    "num_attention_heads": 8, "head_dim": 256, "sliding_window": 512,
    "vocab_size_per_layer_input": 262144, "hidden_size_per_layer_input": 256,
}  # fmt: skip
DEFAULTS = {
    "gemma3n_text": {
        **_COMMON, "vocab_size": 262400, "hidden_size": 2048, "intermediate_size": 16384,
        "num_hidden_layers": 35, "num_key_value_heads": 2, "num_kv_shared_layers": 15,
        "altup_num_inputs": 4, "laurel_rank": 64, "max_position_embeddings": 32768, "pattern": 5,
    },
    "gemma4_text": {
        **_COMMON, "vocab_size": 262144, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 30, "num_key_value_heads": 4, "num_kv_shared_layers": 0,
        "global_head_dim": 512, "max_position_embeddings": 131072, "pattern": 6,
    },
}  # fmt: skip
_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_AT = "model.layers.*"


def build(c: Fields) -> ModelSpec:
    """The last `num_kv_shared_layers` layers read the cache of the last one of their kind."""
    fourth = c.text("model_type") == "gemma4_text"
    c = c.with_defaults(DEFAULTS[c.text("model_type")])
    s = Sizes.read(c, inner=0)
    c.require("intermediate_size")
    inners = c.integers("intermediate_size", length=s.layers, low=1)
    shared = c.integer("num_kv_shared_layers", low=0)
    if shared >= s.layers:
        raise c.error("num_kv_shared_layers", f"{shared} of only {s.layers} layers")
    wide = fourth and c.flag("use_double_wide_mlp")
    every = c.integer("pattern")
    kinds = kinds_of(c, s.layers, lambda i: SLIDING if (i + 1) % every else FULL)
    style = Style(qk_norm="head", tied=True, norms=_NORMS)
    per_layer = c.maybe("hidden_size_per_layer_input", low=0) or 0
    moe = _moe(c) if fourth and c.flag("enable_moe_block") else None

    def build_layer(key: tuple[_Heads, int, bool], indices: tuple[int, ...]) -> Layer:
        own, inner, reuses = key
        mixers, tensors = _attention(c, s, own, reuses)
        forward, inner, _ = feed_forward(s.hidden, inner * (2 if wide and reuses else 1), style)
        tensors += forward
        for name in _NORMS:
            tensors += norm(f"{_AT}.{name}", s.hidden)
        if per_layer:
            tensors += _per_layer(s.hidden, per_layer)
        if not fourth:
            tensors += _altup(c, s.hidden)
        routed = None
        if moe is not None:
            tensors += _experts(s.hidden, moe)
            routed = Experts(total=moe.total, per_token=moe.per_token, inner=moe.inner)
        return Layer(indices=indices, mixers=mixers, tensors=tensors, inner=inner, experts=routed)

    heads = _heads(c, s, kinds, fourth)
    keys = [(heads[i], inners[i], i >= s.layers - shared) for i in range(s.layers)]
    outside = ends(c, s, style) + _outside(c, s, per_layer, fourth)
    return assemble(
        c, s, lay_out(keys, build_layer), outside, tied_embeddings=is_tied(c, style), warnings=()
    )


class _Heads(msgspec.Struct, frozen=True, kw_only=True):
    """A layer's attention: its kind, the width of a head, KV heads, one projection for K and V."""

    kind: str
    dim: int
    kv_heads: int
    one: bool


def _heads(c: Fields, s: Sizes, kinds: Sequence[str], fourth: bool) -> tuple[_Heads, ...]:
    # Gemma 4's global layers have wider heads, and fewer where K and V are one. Published
    # files say so in `global_*`, those that transformers 5 saves in `per_layer_config`.
    stated = c.child("per_layer_config")
    found = []
    for i, kind in enumerate(kinds):
        dim, kv_heads, one = s.head_dim, s.kv_heads, False
        if fourth and kind == FULL:
            one = c.flag("attention_k_eq_v")
        own = stated and (stated.child(f"{i:02}") or stated.child(str(i)))
        if own:
            dim = own.integer("head_dim", dim)
            kv_heads = own.integer("num_key_value_heads", kv_heads)
        elif fourth and kind == FULL and stated is None:
            dim = c.integer("global_head_dim")
            kv_heads = (c.maybe("num_global_key_value_heads") or kv_heads) if one else kv_heads
        c.divided("num_attention_heads", s.heads, "num_key_value_heads", kv_heads)
        found.append(_Heads(kind=kind, dim=dim, kv_heads=kv_heads, one=one))
    return tuple(found)


def _attention(c: Fields, s: Sizes, own: _Heads, reuses: bool) -> Block:
    dim, heads, kind = own.dim, own.kv_heads, own.kind
    common: dict[str, Any] = {
        "heads": s.heads,
        "kv_heads": heads,
        "key_dim": dim,
        "value_dim": dim,
    }
    mixer: Full | Sliding = Full(**common)
    if kind == SLIDING:
        mixer = Sliding(window=c.integer("sliding_window"), **common)
    elif kind != FULL:
        raise c.error("layer_types", f"{kind!r} is no kind of layer of this model type")
    at, role = f"{_AT}.self_attn", Role.ATTENTION
    bias = c.flag("attention_bias")
    made = linear(f"{at}.q_proj", s.heads * dim, s.hidden, role, Shard.COLUMN, bias=bias)
    made += norm(f"{at}.q_norm", dim)
    if not reuses:
        for name in ("k_proj",) if own.one else ("k_proj", "v_proj"):
            made += linear(f"{at}.{name}", heads * dim, s.hidden, role, Shard.KV, bias=bias)
        made += norm(f"{at}.k_norm", dim)
    made += linear(f"{at}.o_proj", s.hidden, s.heads * dim, role, Shard.ROW, bias=bias)
    return (Shared(like=mixer) if reuses else mixer,), made


def _per_layer(hidden: int, width: int) -> Tensors:
    return (
        *linear(f"{_AT}.per_layer_input_gate", width, hidden, Role.OTHER),
        *linear(f"{_AT}.per_layer_projection", hidden, width, Role.OTHER),
        *norm(f"{_AT}.post_per_layer_input_norm", hidden),
    )


def _altup(c: Fields, hidden: int) -> Tensors:
    # Alternating updates of `n` copies of the residual, and a low-rank residual (LAuReL).
    n, rank = c.integer("altup_num_inputs"), c.integer("laurel_rank")
    return (
        *vector(f"{_AT}.altup.correct_output_scale", hidden),
        *vector(f"{_AT}.altup.correction_coefs.weight", n, n),
        *vector(f"{_AT}.altup.prediction_coefs.weight", n * n, n),
        *vector(f"{_AT}.altup.modality_router.weight", n, hidden),
        *norm(f"{_AT}.altup.router_norm", hidden),
        *linear(f"{_AT}.laurel.linear_left", rank, hidden, Role.OTHER),
        *linear(f"{_AT}.laurel.linear_right", hidden, rank, Role.OTHER),
        *norm(f"{_AT}.laurel.post_laurel_norm", hidden),
    )


def _moe(c: Fields) -> MoE:
    return MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=c.integer("moe_intermediate_size"),
    )


def _experts(hidden: int, moe: MoE) -> Tensors:
    # Beside the dense MLP: a router that scales its input and each expert, three norms.
    return (
        *experts(f"{_AT}.moe", hidden, moe),
        *vector(f"{_AT}.router.scale", hidden, role=Role.ROUTER),
        *vector(f"{_AT}.router.per_expert_scale", moe.total, role=Role.ROUTER),
        *norm(f"{_AT}.post_feedforward_layernorm_1", hidden),
        *norm(f"{_AT}.post_feedforward_layernorm_2", hidden),
        *norm(f"{_AT}.pre_feedforward_layernorm_2", hidden),
    )


def _outside(c: Fields, s: Sizes, per_layer: int, fourth: bool) -> Tensors:
    made: Tensors = ()
    first = Place.FIRST
    if per_layer:
        wide = s.layers * per_layer
        rows = c.integer("vocab_size_per_layer_input")
        # Role OTHER: the table is looked up beside the input embedding, not instead of it.
        made += embedding("model.embed_tokens_per_layer", rows, wide, role=Role.OTHER)
        made += linear("model.per_layer_model_projection", wide, s.hidden, Role.OTHER, place=first)
        made += norm("model.per_layer_projection_norm", per_layer, place=first)
    if not fourth:
        copies = c.integer("altup_num_inputs") - 1
        for name, place in (
            ("altup_projections", first),
            ("altup_unembed_projections", Place.LAST),
        ):
            made += linear(
                f"model.{name}.*", s.hidden, s.hidden, Role.OTHER, count=copies, place=place
            )
    return made
