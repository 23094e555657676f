"""From which length on a variant is faster than exact attention: interpolated, never beyond.

Between two measured lengths the ratio of times is taken as a power of the length: a
straight line in its logarithm over the logarithm of the length.
"""

import enum
import math
from collections.abc import Collection, Iterable, Mapping

import msgspec

from attnbench.spec.result import ResultRow, Status


class Reached(enum.StrEnum):
    """How a variant stands to exact attention over the lengths measured."""

    CROSSED = "crossed"
    FASTER_THROUGHOUT = "faster throughout"
    NOT_REACHED = "not reached within measured lengths"
    NOT_MEASURED = "no length measured beside exact"


class Crossover(msgspec.Struct, frozen=True, kw_only=True):
    """One variant against the fastest exact backend at each length.

    `tokens` only where `reached` is "crossed": from there to the longest length measured
    it is faster. `ratios`: its time over exact's, by measured length.
    """

    problem: str
    variant: str
    backend: str
    params: str
    reached: Reached
    tokens: float | None
    against: str
    ratios: Mapping[int, float]


def crossovers(
    rows: Iterable[ResultRow], exact: Collection[str], *, against: str = "flash"
) -> list[Crossover]:
    """One a variant, backend and problem less its length; `exact` are exact variants.

    Settings that change with the length (a stride of √n) make one series; else each
    setting makes its own.
    """
    groups: dict[tuple[object, ...], list[ResultRow]] = {}
    for row in rows:
        if row.status == Status.OK and row.time_ms is not None:
            groups.setdefault(_problem(row), []).append(row)
    found = []
    for group in groups.values():
        base: dict[int, float] = {}
        for row in group:
            if row.variant == against and row.time_ms is not None:
                base[row.seq_kv] = min(row.time_ms, base.get(row.seq_kv, math.inf))
        series: dict[tuple[str, str], list[ResultRow]] = {}
        for row in group:
            if row.variant not in exact:
                series.setdefault((row.variant, row.backend), []).append(row)
        for mine in series.values():
            found += [_crossover(part, base, against) for part in _one_a_length(mine)]
    return found


def crossing(ratios: Mapping[int, float]) -> tuple[Reached, float | None]:
    """Where the ratio of times falls under 1 for good, over the lengths measured.

    >>> crossing({1024: 2.0, 4096: 0.5})
    (<Reached.CROSSED: 'crossed'>, 2048.0)
    >>> crossing({1024: 0.5, 4096: 2.0})
    (<Reached.NOT_REACHED: 'not reached within measured lengths'>, None)
    """
    lengths = sorted(ratios)
    if not lengths:
        return Reached.NOT_MEASURED, None
    if ratios[lengths[-1]] >= 1:
        return Reached.NOT_REACHED, None
    slow = [n for n in lengths if ratios[n] >= 1]
    if not slow:
        return Reached.FASTER_THROUGHOUT, None
    low, high = slow[-1], lengths[lengths.index(slow[-1]) + 1]
    start, stop = math.log2(ratios[low]), math.log2(ratios[high])
    share = start / (start - stop)
    return Reached.CROSSED, 2 ** (math.log2(low) + share * (math.log2(high) - math.log2(low)))


def _problem(row: ResultRow) -> tuple[object, ...]:
    return (
        row.mode, row.dtype, row.batch, row.heads, row.kv_heads, row.head_dim, row.causal,
        row.seq_q == row.seq_kv,
    )  # fmt: skip


def _one_a_length(rows: list[ResultRow]) -> list[list[ResultRow]]:
    """All rows as one series where each length has one; else a series a setting."""
    if len({row.seq_kv for row in rows}) == len(rows):
        return [rows]
    by_params: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_params.setdefault(row.params, []).append(row)
    return list(by_params.values())


def _crossover(rows: list[ResultRow], base: Mapping[int, float], against: str) -> Crossover:
    ratios = {
        row.seq_kv: row.time_ms / base[row.seq_kv]
        for row in rows
        if row.time_ms is not None and row.seq_kv in base
    }
    reached, tokens = crossing(ratios)
    first = rows[0]
    heads = f"{first.heads}" + (f"/{first.kv_heads}" if first.kv_heads != first.heads else "")
    return Crossover(
        problem=f"{first.mode} {first.dtype} B{first.batch} H{heads} D{first.head_dim}"
        + (" causal" if first.causal else ""),
        variant=first.variant,
        backend=first.backend,
        params=first.params,
        reached=reached,
        tokens=tokens,
        against=against,
        ratios=dict(sorted(ratios.items())),
    )
