"""Tables of cosines and sines that an engine makes for rotary embeddings, from a configuration.

A table has a row a position and a column a rotated dimension; layers alike share one.
Rows by `rope_type`: as many as max_position_embeddings; `linear` and `dynamic` that times
the factor; `yarn` the original length times the factor; `longrope` both lengths, one
after the other; with sections for pictures and time (mrope), four times as many.

Source: vLLM, `model_executor/layers/rotary_embedding`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from attnbench.catalog.fields import MAX_SIZE, Fields
from attnbench.spec.model import Attention, Latent, Layer, Sliding

_ORIGINAL = "original_max_position_embeddings"


def rotary_tables(c: Fields, layers: Iterable[Layer], positions: int | None) -> tuple[int, ...]:
    """Numbers in each table; none where the file does not say how long a context may be."""
    if not positions:
        return ()
    found: dict[tuple[int, int, str], int] = {}
    for layer in layers:
        for mixer in layer.mixers:
            if not isinstance(mixer, Attention | Latent):
                continue
            rope, which = _rope_of(c, mixer)
            width = _width(c, mixer, rope)
            rows = _rows(c, rope, positions)
            if width and 0 < rows * width <= MAX_SIZE:
                found[rows, width, which] = rows * width
    return tuple(found.values())


def _rope_of(c: Fields, mixer: Attention | Latent) -> tuple[Mapping[str, Any], str]:
    """The parameters that the mixer's layer rotates by, and a name for them."""
    stated = c.get("rope_parameters") or c.get("rope_scaling") or {}
    if not isinstance(stated, Mapping):
        return {}, ""
    local = isinstance(mixer, Sliding)
    kind = "sliding_attention" if local else "full_attention"
    nested = stated.get(kind)
    if isinstance(nested, Mapping):
        return nested, kind
    if local and c.get("rope_local_base_freq") is not None:
        return {}, "local"
    return stated, ""


def _width(c: Fields, mixer: Attention | Latent, rope: Mapping[str, Any]) -> int:
    if isinstance(mixer, Latent):
        return mixer.rope_dim
    if rope.get("rope_type") == "proportional":  # whole heads, the rest of them turned by 0
        return mixer.key_dim
    part = rope.get("partial_rotary_factor") or c.get("partial_rotary_factor")
    return int(mixer.key_dim * _number(part or c.get("rotary_pct"), 1))


def _rows(c: Fields, rope: Mapping[str, Any], positions: int) -> int:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    factor = _number(rope.get("factor"), 1)
    original = _number(rope.get(_ORIGINAL) or c.get(_ORIGINAL), positions)
    if kind in ("linear", "dynamic"):
        rows = positions * factor
    elif kind in ("yarn", "deepseek_yarn"):
        rows = original * factor
    elif kind in ("longrope", "su"):
        rows = positions + original
    else:
        rows = positions
    return int(rows) * (4 if rope.get("mrope_section") else 1)


def _number(value: object, default: float) -> float:
    """`value` where it is a number over 0, else `default`."""
    sound = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if sound and 0 < value < MAX_SIZE else default  # type: ignore[arg-type,operator] # `sound` has narrowed it
