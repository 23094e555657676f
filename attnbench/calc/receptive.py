"""What a token sees after some layers: the composition of a pattern with itself.

After one layer a token holds the keys that its row attends; after L layers, all that
those held after L - 1, and what it held itself (the residual connection). Exact, on
positions, for self-attention: key j reaches query i after L layers where the boolean
matrix (A + I)^L has that entry.
"""

from collections.abc import Iterable, Iterator

import msgspec

from attnbench.calc.patterns import ReachPattern

Runs = list[tuple[int, int]]  # disjoint half-open runs, ascending
Classes = dict[int, Runs]  # positions r + unit·t by residue r, as runs of t


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """What one token sees after `layers`: keys in all, and how far back and ahead."""

    layers: int
    keys: int
    back: int
    ahead: int


def fields(pattern: ReachPattern, *, tokens: int, token: int) -> Iterator[Field]:
    """The field of position `token` among `tokens` after 1, 2, ... layers, while it grows.

    The first is always given. The last is what the token sees after any number more.
    """
    unit, everything = pattern.unit, token + 1 if pattern.causal else tokens
    new = by_residue([range(token, token + 1)], unit)
    seen, keys, layers = dict(new), 1, 0
    while new and (keys < everything or not layers):
        reached = by_residue(_reached(pattern, new, tokens), unit)
        new = {}
        for residue, runs in reached.items():
            before = seen.get(residue, [])
            seen[residue] = merged([*runs, *before])
            if added := _less(seen[residue], before):
                new[residue] = added
                keys += sum(stop - start for start, stop in added)
        layers += 1
        if new or layers == 1:
            yield Field(
                layers=layers,
                keys=keys,
                back=token - min(r + unit * runs[0][0] for r, runs in seen.items()),
                ahead=max(r + unit * (runs[-1][1] - 1) for r, runs in seen.items()) - token,
            )


def _reached(pattern: ReachPattern, queries: Classes, tokens: int) -> Iterator[range]:
    unit = pattern.unit
    for residue, runs in queries.items():
        for start, stop in runs:
            run = range(residue + unit * start, residue + unit * stop, unit)
            yield from pattern.reach_of(run, tokens)


def by_residue(ranges: Iterable[range], unit: int) -> Classes:
    """The positions of `ranges`, each of step 1 or `unit`, as runs a residue.

    >>> by_residue([range(0, 5), range(7, 12, 2)], 2)
    {1: [(0, 2), (3, 6)], 0: [(0, 3)]}
    """
    classes: Classes = {}
    plain: Runs = []
    for r in ranges:
        if r.step == 1 and r:
            plain.append((r.start, r.stop))
        elif r:
            classes.setdefault(r.start % unit, []).append((r.start // unit, r[-1] // unit + 1))
    for start, stop in merged(plain):
        for first in range(start, min(start + unit, stop)):
            last = first + (stop - 1 - first) // unit * unit
            classes.setdefault(first % unit, []).append((first // unit, last // unit + 1))
    return {residue: merged(runs) for residue, runs in classes.items()}


def merged(runs: Iterable[tuple[int, int]]) -> Runs:
    """The positions of all `runs`, disjoint and ascending.

    >>> merged([(4, 8), (0, 2), (2, 3)])
    [(0, 3), (4, 8)]
    """
    found: Runs = []
    for start, stop in sorted(runs):
        if found and start <= found[-1][1]:
            if stop > found[-1][1]:
                found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def _less(whole: Runs, part: Runs) -> Runs:
    """The positions of `whole` that are not in `part`, each of whose runs lies in one of it."""
    left: Runs = []
    inner = iter(part)
    gap = next(inner, None)
    for start, stop in whole:
        while gap is not None and gap[0] < stop:
            if gap[0] > start:
                left.append((start, gap[0]))
            start, gap = gap[1], next(inner, None)
        if start < stop:
            left.append((start, stop))
    return left
