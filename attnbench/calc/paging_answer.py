"""Everything that `paging` answers: one piece against pages, block sizes, what fits a pool."""

import statistics
from collections.abc import Iterator, Sequence

import msgspec

from attnbench.calc.kv_cache import Rules
from attnbench.calc.paging import (
    Paged,
    contiguous_bytes,
    fixed_bytes,
    kinds_of,
    paged,
    used_bytes,
)
from attnbench.errors import UserError
from attnbench.spec.model import ModelSpec


class PagingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`used_bytes` hold a token; states of `state_bytes` stand beside in either layout.

    `pool_sequences` are how many such sequences a pool holds: in one piece each, in
    pages at their mean length. None where no pool is named.
    """

    model: str
    sequences: int
    tokens: int
    longest: int
    max_len: int
    prefix: int
    page: Paged
    contiguous_bytes: int
    contiguous_waste_fraction: float
    paged_bytes: int
    waste_fraction: float
    used_bytes: int
    state_bytes: int
    sweep: tuple[Paged, ...]
    pool_bytes: int | None
    contiguous_pool_sequences: int | None
    paged_pool_sequences: int | None
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]


def answer(
    model: ModelSpec,
    lengths: Sequence[int],
    *,
    rules: Rules,
    page_size: int,
    page_sizes: Sequence[int],
    max_len: int | None = None,
    prefix: int = 0,
    pool_bytes: int | None = None,
) -> PagingAnswer:
    """What sequences of `lengths` tokens take, each in one piece of `max_len`, or in pages.

    Raises:
        UserError: no layer keeps a cache of tokens, or a length does not suit.
    """
    kinds = kinds_of(model, rules)
    if not kinds:
        raise UserError(f"{model.name} keeps no keys and values: nothing to page")
    longest = max(lengths)
    room = max_len or model.max_position or longest
    if room < longest:
        raise UserError(f"--max-len: {room:,} is under the longest sequence, {longest:,} tokens")
    if prefix > min(lengths):
        raise UserError(f"--prefix: {prefix:,} is over the shortest sequence, {min(lengths):,}")
    count = len(lengths)
    whole = contiguous_bytes(kinds, count, room)
    used = used_bytes(kinds, lengths)
    chosen = paged(kinds, lengths, page_size, prefix=prefix)
    state = fixed_bytes(model, rules)
    return PagingAnswer(
        model=model.name,
        sequences=count,
        tokens=sum(lengths),
        longest=longest,
        max_len=room,
        prefix=prefix,
        page=chosen,
        contiguous_bytes=whole,
        contiguous_waste_fraction=1 - used / whole,
        paged_bytes=chosen.paged_bytes,
        waste_fraction=chosen.waste_fraction,
        used_bytes=used,
        state_bytes=state * count,
        sweep=tuple(paged(kinds, lengths, size, prefix=prefix) for size in page_sizes),
        pool_bytes=pool_bytes,
        contiguous_pool_sequences=_fit(pool_bytes, whole // count + state),
        paged_pool_sequences=_fit(pool_bytes, -(-chosen.paged_bytes // count) + state),
        assumptions=tuple(_assumptions(model, lengths, room, max_len, prefix, rules)),
        warnings=model.warnings,
    )


def _fit(pool_bytes: int | None, each_bytes: int) -> int | None:
    return None if pool_bytes is None else pool_bytes // max(each_bytes, 1)


def _assumptions(
    model: ModelSpec,
    lengths: Sequence[int],
    room: int,
    max_len: int | None,
    prefix: int,
    rules: Rules,
) -> Iterator[str]:
    mean = statistics.fmean(lengths)
    yield f"{len(lengths):,} sequences at their full length, {mean:,.0f} tokens in the mean"
    if max_len is not None:
        why = "as asked"
    else:
        why = f"what {model.name} states" if model.max_position else "the longest"
    yield f"one piece: room for {room:,} tokens a sequence, {why}"
    yield (
        f"pages: keys and values in {rules.dtype} of every layer of a kind; blocks behind a "
        "window are given back"
    )
    if prefix:
        yield f"the first {prefix:,} tokens are the same in all; whole blocks of them are shared"
