"""One row of a corpus beside what was predicted of it, and how many agree."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

Figures = Mapping[str, float | None]


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """What sorts a row of timings: its series, GPU, engine and regimes.

    `figure` is the one that is summed up. `ideal_error`: relative error of the time at
    both published peaks, nothing fitted (efficiency 1).
    """

    figure: str
    series: str
    gpu: str
    engine: str
    regimes: tuple[str, ...]
    ideal_error: float | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted and reported figures by name, and which agree.

    `family` and `version` sort rows into the table of agreement. `low` and `high` bound
    a prediction that is a band. `within` has the figures that both sides have; `assumed`
    those of them that rest on a default, for something that the row does not say. `words`
    are predictions that are no numbers.
    """

    id: str
    corpus: str
    family: str
    version: str = ""
    predicted: Figures
    reported: Figures
    relative_error: Figures
    within: Mapping[str, bool]
    low: Mapping[str, float] = {}
    high: Mapping[str, float] = {}
    why: tuple[str, ...] = ()
    words: Mapping[str, str] = {}
    timing: Timing | None = None
    assumed: tuple[str, ...] = ()


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the rows that can be compared agree in one figure.

    `stated` of them say every input of it, and `stated_within` of those agree.
    """

    figure: str
    compared: int
    within: int
    worst: float | None
    stated: int = 0
    stated_within: int = 0

    @property
    def share(self) -> float:
        """The part that agrees; 1 where nothing was compared."""
        return self.within / self.compared if self.compared else 1.0


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """When a prediction counts as agreeing: a relative error, or a figure's printed rounding.

    `band`: it must lie between the row's low and high, and nothing else counts.
    """

    relative: float = 0.0
    rounding: float = 0.0
    band: bool = False


def compare(
    predicted: Figures,
    reported: Figures,
    limits: Mapping[str, Limit],
    low: Mapping[str, float],
    high: Mapping[str, float],
) -> tuple[dict[str, float | None], dict[str, bool]]:
    """The relative error of each figure that both sides have, and whether it is in its limit.

    error = predicted / reported - 1; None where the reported figure is 0.
    """
    errors: dict[str, float | None] = {}
    within: dict[str, bool] = {}
    for key, limit in limits.items():
        told, said = reported.get(key), predicted.get(key)
        if told is None or said is None:
            continue
        error = said / told - 1 if told else None
        errors[key] = None if error is None else round(error, 6)
        least = low.get(key, said) - limit.rounding
        most = high.get(key, said) + limit.rounding
        near = error is not None and abs(error) <= limit.relative
        within[key] = least <= told <= most or (near and not limit.band)
    return errors, within


def agreement(rows: Iterable[Row]) -> tuple[Agreement, ...]:
    """The agreement of each figure over `rows`, in order of first appearance."""
    counts: dict[str, list[tuple[bool, float | None, bool]]] = {}
    for row in rows:
        for key, good in row.within.items():
            seen = (good, row.relative_error.get(key), key not in row.assumed)
            counts.setdefault(key, []).append(seen)
    return tuple(
        Agreement(
            figure=key,
            compared=len(seen),
            within=sum(good for good, _, _ in seen),
            worst=max((abs(e) for _, e, _ in seen if e is not None), default=None),
            stated=sum(stated for _, _, stated in seen),
            stated_within=sum(good and stated for good, _, stated in seen),
        )
        for key, seen in counts.items()
    )


def grouped(rows: Sequence[Row]) -> dict[tuple[str, str, str], tuple[Agreement, ...]]:
    """The agreement by corpus, family and version, sorted."""
    parts: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        parts.setdefault((row.corpus, row.family, row.version), []).append(row)
    return {key: agreement(parts[key]) for key in sorted(parts, key=_order)}


def _order(key: tuple[str, str, str]) -> tuple[str, str, list[int]]:
    return key[0], key[1], [int(part) for part in key[2].split(".") if part.isdigit()]
