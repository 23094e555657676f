"""Exact counts over positions: how many (query, key) pairs lie in a band or a comb.

Queries stand at positions first..last, keys at 0..keys-1; the distance of a pair is
key - query. A band is the distances low..high, a comb those that are multiples of
`step` too. Everything is integer arithmetic: closed form, or a short sum.
"""


def sum_clamped(first: int, last: int, shift: int, top: int) -> int:
    """Sum over x in first..last of min(max(x + shift, 0), top).

    >>> sum_clamped(0, 3, 1, 3)
    9
    """
    low, high = max(first, 1 - shift), min(last, top - shift)
    rising = (low + high + 2 * shift) * (high - low + 1) // 2 if low <= high else 0
    flat = last - max(first, top - shift + 1) + 1
    return rising + top * max(0, flat)


def comb_pairs(first: int, last: int, keys: int, low: int, high: int, step: int) -> int:
    """Pairs whose distance lies in low..high and is a multiple of `step`."""
    low, high = max(low, -last), min(high, keys - 1 - first)
    if low > high:
        return 0
    if step == 1:
        below = sum_clamped(first, last, low, keys)
        return sum_clamped(first, last, high + 1, keys) - below
    low, high = -(-low // step) * step, high // step * step
    count = (high - low) // step + 1
    # At distance d the queries run from max(first, -d) to min(last, keys - 1 - d).
    starts = -_sum_capped(low, step, count, -first)
    stops = _sum_capped(keys - 1 - high, step, count, last)
    return stops - starts + count if count > 0 else 0


def _sum_capped(start: int, step: int, count: int, cap: int) -> int:
    """Sum over t in 0..count-1 of min(start + step·t, cap)."""
    rising = min(max((cap - start) // step + 1, 0), max(count, 0))
    return rising * start + step * rising * (rising - 1) // 2 + (count - rising) * cap


def column_pairs(
    columns: int, first: int, last: int, low: int, high: int, step: int, *, causal: bool
) -> int:
    """Pairs of the keys under `columns` that are not in the comb low..high of `step`.

    Every query is taken to see these keys (causal: from their own position on).
    """
    total = 0
    for key in range(columns):
        total += max(0, last - (max(first, key) if causal else first) + 1)
        start, stop = max(first, key - high), min(last, key - low)
        total -= len(range(start + (key - start) % step, stop + 1, step))
    return total


def comb_keys(first: int, queries: int, low: int, step: int, start: int, stop: int) -> int:
    """Keys in start..stop-1, all before `first`, that a comb of some query reaches.

    The queries first, first + 1, ... of one step reach different keys, and each
    reaches at least as far back as those a step later.
    """
    total = 0
    for query in range(first, first + min(queries, step)):
        lowest = max(start, query + low)
        total += len(range(lowest + (query - lowest) % step, stop, step))
    return total
