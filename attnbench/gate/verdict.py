"""What the gate says of one point and metric, and the limits that it says it by."""

import enum

import msgspec

from attnbench.spec.result import KEY_COLUMNS

Key = tuple[str | int | bool, ...]
Number = int | float


class Word(enum.StrEnum):
    """The verdicts there are. On memory, error and status SLOWER means worse than allowed."""

    SLOWER = "SLOWER"
    MISSING = "MISSING"
    NOT_COMPARABLE = "NOT_COMPARABLE"
    UNSURE = "UNSURE"
    FASTER = "FASTER"
    SAME = "SAME"


class Missing(enum.StrEnum):
    """What a point or figure does that the baseline has and the run has not."""

    FAIL = "fail"
    WARN = "warn"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One point and metric, judged.

    `baseline` and `current` carry the metric's unit (a ratio with `--relative-to`; a
    word for status). `ratio` is current / baseline, `ratio_low` and `ratio_high` its
    95% interval, `minimum_detectable` the smallest slowdown that would have been
    called; None where a metric has none. `failed` is what the exit code follows.
    """

    point: str
    metric: str
    verdict: Word
    failed: bool = False
    baseline: Number | str | None = None
    current: Number | str | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    minimum_detectable: float | None = None
    reason: str = ""
    key: dict[str, str | int | bool]


class Tolerance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the points whose identifying columns are those of `match`."""

    match: dict[str, str | int | bool]
    max_slowdown: float | None = None
    max_memory_growth: float | None = None
    max_error_growth: float | None = None

    def fits(self, key: Key) -> bool:
        """Whether the point `key` has every value that `match` names."""
        values = dict(zip(KEY_COLUMNS, key, strict=True))
        return all(values.get(name) == value for name, value in self.match.items())


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much worse a point may be: factors of at least 1.

    `relative_to` names the variant ('naive', 'flash/triton') whose time in the same
    run is the unit of time. `missing` decides whether a lost point fails.
    """

    metrics: tuple[str, ...] = ("time_ms", "peak_memory_bytes", "rel_error")
    max_slowdown: float = 1.05
    max_memory_growth: float = 1.05
    max_error_growth: float = 2.0
    relative_to: str | None = None
    missing: Missing = Missing.FAIL

    def at(self, key: Key, tolerances: tuple[Tolerance, ...]) -> "Limits":
        """These limits, with the tolerances that fit the point `key`; the last one wins."""
        changed = self
        for tolerance in tolerances:
            if tolerance.fits(key):
                names = ("max_slowdown", "max_memory_growth", "max_error_growth")
                given = {name: getattr(tolerance, name) for name in names}
                changed = msgspec.structs.replace(
                    changed, **{name: value for name, value in given.items() if value is not None}
                )
        return changed
