"""From layers to a whole `ModelSpec`: the ends of the model, and what any file may state."""

from collections.abc import Mapping
from typing import Any

from attnbench.catalog.blocks import Tensors, embedding, norm, vector
from attnbench.catalog.fields import Fields
from attnbench.catalog.rotary import rotary_tables
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.dtype import Dtype, parse_dtype
from attnbench.spec.model import Layer, ModelSpec, Place, Role, Shard


def is_tied(c: Fields, style: Style) -> bool:
    """Whether input and output embeddings are one tensor."""
    return c.flag("tie_word_embeddings", style.tied)


def ends(c: Fields, s: Sizes, style: Style) -> Tensors:
    """The tensors before and after the layers: embeddings, last norm, output."""
    made = embedding(f"{style.at}.embed_tokens", s.vocab, s.hidden)
    if style.embedding_norm:
        made += norm(f"{style.at}.embed_norm", s.hidden, bias=style.norm_bias, place=Place.FIRST)
    if style.positions:
        made += vector(
            f"{style.at}.embed_positions.weight",
            style.positions,
            s.hidden,
            place=Place.FIRST,
        )
    if style.final_norm:
        made += norm(
            f"{style.at}.norm",
            s.hidden,
            bias=style.norm_bias,
            weight=style.norm_weight,
            place=Place.LAST,
        )
    if not is_tied(c, style):
        made += embedding("lm_head", s.vocab, s.hidden, role=Role.OUTPUT, place=Place.LAST)
    if style.head_bias:
        made += vector(
            "lm_head.bias", s.vocab, role=Role.OUTPUT, shard=Shard.VOCAB, place=Place.LAST
        )
    return made


def assemble(
    c: Fields, s: Sizes, layers: tuple[Layer, ...], outside: Tensors, **more: Any
) -> ModelSpec:
    """A `ModelSpec` with what every configuration may state beside its sizes."""
    return ModelSpec(
        **{
            "name": c.name,
            "model_type": c.text("model_type"),
            "source": c.label,
            "hidden_size": s.hidden,
            "vocab_size": s.vocab,
            "heads": s.heads,
            "layers": layers,
            "outside": outside,
            "architecture": next(iter(c.texts("architectures") or ()), None),
            "max_position": max_position(c),
            "weight_dtype": weight_dtype(c),
            "quantization": quantization(c),
            "rotary": rotary_tables(c, layers, max_position(c)),
            "warnings": _unread(c),
            **more,
        }
    )


def _unread(c: Fields) -> tuple[str, ...]:
    if c.get("per_layer_config"):
        return ("per_layer_config is not read for this model type: layers may differ",)
    return ()


def max_position(c: Fields) -> int | None:
    """The longest context that the file states; at the top level no default stands for it."""
    stated = c.path or c.has("max_position_embeddings")
    return c.maybe("max_position_embeddings") if stated else None


def weight_dtype(c: Fields) -> Dtype | None:
    """The dtype that the file says its weights are stored in, if it does."""
    name = c.get("dtype", c.get("torch_dtype"))
    if not isinstance(name, str) or name == "auto":
        return None
    return parse_dtype(name, what=f"{c.label}: {c.path}torch_dtype")


def quantization(c: Fields) -> Mapping[str, Any] | None:
    """The `quantization_config` as published, if there is one."""
    child = c.child("quantization_config")
    return None if child is None else child.data
