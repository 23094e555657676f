"""What a cache takes in pages, and in one piece a sequence: waste, block sizes, sharing.

Source: Kwon et al. 2023, arXiv:2309.06180 (PagedAttention), sections 3.1 and 4: reserving
the longest sequence possible left 20 to 38% of the cache in use, pages over 96%.
"""

from collections.abc import Sequence

import msgspec

from attnbench.calc.kv_cache import Rules, mixer_bytes, token_elements
from attnbench.spec.model import Chunked, Cross, ModelSpec, Recurrent, Shared, Sliding

_TABLE_ENTRY_BYTES = 4  # a block's number, int32


class PagedKind(msgspec.Struct, frozen=True, kw_only=True):
    """Layers that keep the same tokens: bytes of one token in all of them together.

    `window` None keeps every token; else the last `window`, or those since the last
    multiple of it where `chunked`.
    """

    token_bytes: int
    window: int | None = None
    chunked: bool = False

    def start(self, tokens: int) -> int:
        """The first token still needed by a sequence of `tokens` that goes on."""
        if self.window is None:
            return 0
        if self.chunked:
            return (tokens - 1) // self.window * self.window
        return max(0, tokens - self.window + 1)

    def room(self, longest: int) -> int:
        """Tokens that one piece must have room for, up to sequences of `longest`."""
        return longest if self.window is None else min(longest, self.window)


class Paged(msgspec.Struct, frozen=True, kw_only=True):
    """What some sequences take in pages of `block` tokens.

    `waste_fraction` is the share of `paged_bytes` that holds no token; `shared_bytes`
    what sequences would have held again of their common prefix; `table_bytes` the
    block tables, which stand beside.
    """

    block: int
    paged_bytes: int
    waste_fraction: float
    shared_bytes: int
    blocks: int
    table_bytes: int


def kinds_of(model: ModelSpec, rules: Rules) -> tuple[PagedKind, ...]:
    """The kinds of layer of `model` that a cache of tokens is kept for."""
    found: dict[tuple[int | None, bool], int] = {}
    for layer in model.layers:
        for mixer in layer.mixers:
            if isinstance(mixer, Recurrent | Shared | Cross):
                continue
            window = None
            if isinstance(mixer, Sliding | Chunked):
                window = mixer.window if isinstance(mixer, Sliding) else mixer.chunk
            key = (window, isinstance(mixer, Chunked))
            each = rules.dtype.bytes_of(token_elements(mixer, rules))
            found[key] = found.get(key, 0) + each * layer.count
    return tuple(
        PagedKind(token_bytes=n, window=window, chunked=chunked)
        for (window, chunked), n in found.items()
    )


def fixed_bytes(model: ModelSpec, rules: Rules) -> int:
    """Bytes that a sequence holds whatever its length: recurrent states."""
    return sum(
        mixer_bytes(model, mixer, 1, rules).total * layer.count
        for layer in model.layers
        for mixer in layer.mixers
        if isinstance(mixer, Recurrent)
    )


def used_bytes(kinds: Sequence[PagedKind], lengths: Sequence[int]) -> int:
    """Bytes of the tokens that sequences of `lengths`, which go on, must hold."""
    return sum(kind.token_bytes * (n - kind.start(n)) for kind in kinds for n in lengths)


def contiguous_bytes(kinds: Sequence[PagedKind], sequences: int, longest: int) -> int:
    """Bytes where each sequence gets room for `longest` tokens in one piece.

        Σ_kinds token_bytes · min(longest, window) · sequences

    >>> contiguous_bytes([PagedKind(token_bytes=131072)], 4, 8192) == 4 << 30
    True
    """
    return sum(kind.token_bytes * kind.room(longest) for kind in kinds) * sequences


def paged(
    kinds: Sequence[PagedKind], lengths: Sequence[int], block: int, *, prefix: int = 0
) -> Paged:
    """What sequences of `lengths`, the first `prefix` tokens of all alike, take in pages.

    A sequence holds the blocks from the first token it needs to its last; whole blocks
    of the prefix are held once:

        ceil(tokens / block) - floor(first needed / block)        blocks of a kind

    >>> paged([PagedKind(token_bytes=100)], [17, 33], 16).waste_fraction
    0.375
    """
    total = blocks = alone = kept = 0
    common = prefix // block
    for kind in kinds:
        starts = [kind.start(n) // block for n in lengths]
        spans = [-(-n // block) - start for n, start in zip(lengths, starts, strict=True)]
        again = [max(0, common - start) for start in starts]
        once = max(again, default=0)
        held = sum(spans) - sum(again) + once
        blocks += held
        alone += sum(spans)
        total += held * block * kind.token_bytes
        kept += (sum(again) - once) * block * kind.token_bytes
    needed = used_bytes(kinds, lengths) - _shared_tokens(kinds, lengths, common * block)
    return Paged(
        block=block,
        paged_bytes=total,
        waste_fraction=1 - needed / total if total else 0.0,
        shared_bytes=kept,
        blocks=blocks,
        table_bytes=alone * _TABLE_ENTRY_BYTES,
    )


def _shared_tokens(kinds: Sequence[PagedKind], lengths: Sequence[int], common: int) -> int:
    """Bytes of needed tokens under `common` that are counted more than once."""
    total = 0
    for kind in kinds:
        needed = [max(0, common - kind.start(n)) for n in lengths]
        total += (sum(needed) - max(needed, default=0)) * kind.token_bytes
    return total
