"""How wide each set's band is: from rows that it, or a set like it, was not fitted to."""

import math
from collections.abc import Iterable, Sequence

import msgspec

from attnbench.calibration.score import Scored, Table

_SHARE = 0.9
_LEAST_ROWS = 10
_NARROWEST = 1.1


def with_bands(table: Table, held: Sequence[Scored], unseen: Sequence[Scored]) -> Table:
    """`table` with the factor that nine of ten rows fall within.

    Of a GPU's own set, from the held-back rows that it predicted. Of a set that stands in
    for others, from the rows of engines and GPUs that were left out when it was fitted.
    """
    bands: dict[tuple[str, bool], float] = {}
    for rows in (unseen, held):
        for decode in (False, True):
            mine = [r for r in rows if (r.point.decode is not None) == decode and r.point.scored]
            bands["", decode] = max(bands.get(("", decode), 0.0), band(mine))
            for origin in {r.origin for r in mine}:
                its = [r for r in mine if r.origin == origin]
                if len(its) >= _LEAST_ROWS:
                    bands[origin, decode] = band(its)
    made: Table = {}
    for where, sets in table.items():
        for engine, found in sets.items():
            name = f"{where}.{engine}"
            usual = {decode: bands["", decode] for decode in (False, True)}
            made.setdefault(where, {})[engine] = msgspec.structs.replace(
                found,
                prefill_band=bands.get((name, False), usual[False]),
                decode_band=bands.get((name, True), usual[True]),
            )
    return made


def band(rows: Iterable[Scored]) -> float:
    """The factor within which nine of ten of `rows` were predicted."""
    off = sorted(abs(math.log(r.time_s / r.point.time_s)) for r in rows)
    if not off:
        return 1.0
    return max(_NARROWEST, round(math.exp(off[min(int(_SHARE * len(off)), len(off) - 1)]), 2))
