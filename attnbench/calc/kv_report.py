"""The rows and assumptions of a count of cache bytes: one row a kind of mixer."""

from typing import Any

import msgspec

from attnbench.calc.kv_cache import (
    ConvWidth,
    Rules,
    Semantics,
    Window,
    mixer_bytes,
    model_dtype,
    tokens_held,
)
from attnbench.spec.model import (
    Chunked,
    Cross,
    Full,
    Latent,
    Mixer,
    ModelSpec,
    Recurrent,
    Shared,
    Sliding,
    StateKind,
)


class KindRow(msgspec.Struct, frozen=True, kw_only=True):
    """All mixers of one kind and size: how many there are, and what they hold together."""

    kind: str
    count: int
    kv_heads: int | None
    head_dim: int | None
    value_dim: int | None
    window: int | None
    tokens: int | None
    bytes: int


def kind_rows(
    model: ModelSpec, *, seq_len: int, batch: int, rules: Rules, encoder_len: int | None = None
) -> tuple[KindRow, ...]:
    """One row a kind of mixer, in order of first appearance; their bytes sum to the total."""
    counts: dict[Mixer, int] = {}
    for layer in model.layers:
        for mixer in layer.mixers:
            counts[mixer] = counts.get(mixer, 0) + layer.count
    rows = []
    for mixer, count in counts.items():
        held = mixer_bytes(model, mixer, seq_len, rules, encoder_len).total * count * batch
        tokens = tokens_held(model, mixer, seq_len, rules, encoder_len)
        rows.append(_row(mixer, count, tokens, held, rules))
    return tuple(rows)


def _row(mixer: Mixer, count: int, tokens: int, held: int, rules: Rules) -> KindRow:
    common: dict[str, Any] = {"kind": kind_of(mixer), "count": count, "bytes": held}
    if isinstance(mixer, Recurrent):
        return KindRow(
            **common, kv_heads=None, head_dim=None, value_dim=None, window=None, tokens=None
        )
    if isinstance(mixer, Latent):
        heads, key, value = 1, mixer.kv_rank + mixer.rope_dim, mixer.kv_rank
        if rules.decompressed:
            heads, key, value = mixer.heads, mixer.nope_dim + mixer.rope_dim, mixer.value_dim
    else:
        attention = mixer.like if isinstance(mixer, Shared) else mixer
        heads, key, value = attention.kv_heads, attention.key_dim, attention.value_dim
    window = getattr(mixer, "window", None) or getattr(mixer, "chunk", None)
    return KindRow(
        **common, kv_heads=heads, head_dim=key, value_dim=value, window=window, tokens=tokens
    )


def kind_of(mixer: Mixer) -> str:
    """The name of a mixer's kind, as `layers[].kind` has it."""
    return mixer.name if isinstance(mixer, Recurrent) else str(type(mixer).__struct_config__.tag)


def assumptions(model: ModelSpec, rules: Rules, *, tp: int = 1, pp: int = 1) -> tuple[str, ...]:
    """Each convention that the count of this model rests on, in words."""
    mixers = {mixer for layer in model.layers for mixer in layer.mixers}
    said = [f"Keys and values in {rules.dtype}, batch and length as given, no page padding."]
    windows = [m for m in mixers if isinstance(m, Sliding | Chunked)]
    if windows:
        said.append(_about_windows(rules, chunked=any(isinstance(m, Chunked) for m in windows)))
    if any(isinstance(m, Sliding) and m.transformers_keeps_all for m in mixers):
        said.append("transformers keeps local layers at full length; ideal keeps their window.")
    if any(isinstance(m, Latent) for m in mixers):
        said.append(
            "MLA decompressed: K and V of every head, as transformers 4.57 caches (--mla)."
            if rules.decompressed
            else "MLA keeps the latent and the rope key once, for all heads (--mla latent)."
        )
    if any(isinstance(m, Latent) and m.index_dim for m in mixers):
        said.append(f"The sparse indexer's keys are cached beside it, in {rules.dtype}.")
    if any(isinstance(m, Full) and m.transformers_kv_heads for m in mixers):
        said.append("transformers broadcasts K and V to all query heads before it caches them.")
    said += _about_states(mixers, rules)
    if any(isinstance(m, Shared) for m in mixers):
        said.append("Layers that read another layer's cache keep none of their own.")
    if any(isinstance(m, Cross) for m in mixers):
        fixed = model.encoder_length
        length = f"{fixed:,} tokens" if fixed else "as many tokens as seq_len"
        said.append(
            f"Cross-attention holds K and V of the encoder's output: {length} unless --encoder-len."
        )
    if model.decoder_length:
        said.append(f"The decoder holds at most {model.decoder_length:,} tokens.")
    if tp * pp > 1:
        said.append(
            f"Per GPU: ceil(kv_heads / {tp}) KV heads (copied where there are fewer than ranks), "
            "MLA's latent whole, states divided by heads or channels, the fullest pipeline stage."
        )
    return tuple(said)


def _about_windows(rules: Rules, *, chunked: bool) -> str:
    kinds = "Sliding and chunked" if chunked else "Sliding"
    if rules.held is Window.ALL:
        return f"{kinds} layers hold every token (--window all)."
    size = "w" if rules.held is Window.W else "w - 1"
    why = ", as transformers' cache does" if rules.semantics is Semantics.TRANSFORMERS else ""
    return f"{kinds} layers hold min(seq, {size}) tokens{why} (--window {rules.held})."


def _about_states(mixers: set[Mixer], rules: Rules) -> list[str]:
    states = [s for m in mixers if isinstance(m, Recurrent) for s in m.states]
    said = []
    own = model_dtype(rules.dtype)
    recurrent = [s for s in states if s.kind is StateKind.RECURRENT]
    if recurrent and rules.state_dtype is not None:
        said.append(f"Recurrent states in {rules.state_dtype} (--state-dtype).")
    elif recurrent:
        kept = {"fp32" if s.fp32 else str(own) for s in recurrent}
        said.append(
            f"Recurrent states in {' and '.join(sorted(kept))}, as transformers 5.23 keeps them "
            "(--state-dtype)."
        )
    conv = [s for s in states if s.kind is StateKind.CONV]
    if conv:
        kernel = rules.conv is ConvWidth.KERNEL
        width = "as wide as transformers keeps them" if kernel else "kernel - 1 wide"
        said.append(f"Convolution states in {own}, {width} (--conv-width).")
    return said
