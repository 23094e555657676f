"""What a check answers: readings, and from them one finding a variant, backend and dtype."""

import math
from collections.abc import Sequence

import msgspec

from attnbench.spec.dtype import Dtype
from attnbench.variants._user import UserVariant


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is verified: one backend of one variant; `asked` is whether it was named."""

    variant: str
    backend: str
    user: UserVariant | None = None
    asked: bool = False

    @property
    def label(self) -> str:
        """'flash/sdpa'."""
        return f"{self.variant}/{self.backend}"


class NotApplicable(Exception):
    """A check has nothing to hold this case against; the text is the reason."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One figure that must not be over its limit, and where it was read.

    `figures` are further numbers that a check shows beside it.
    """

    value: float
    limit: float
    at: str
    figures: dict[str, float] = {}

    @property
    def passed(self) -> bool:
        """Whether the figure is within its limit; NaN is not."""
        return self.value <= self.limit

    @property
    def badness(self) -> float:
        """How near the limit: over 1 fails."""
        if math.isnan(self.value):
            return math.inf
        if self.limit > 0:
            return self.value / self.limit
        return math.inf if self.value > 0 else 0.0


class Finding(msgspec.Struct, frozen=True, kw_only=True, tag="finding"):
    """How one check of one variant and backend ended, by its worst reading.

    `value` and `limit` are None where no number was read; `note` then says why.
    """

    variant: str
    backend: str
    check: str
    passed: bool
    value: float | None
    limit: float | None
    dtype: Dtype | None = None
    at: str = ""
    note: str = ""
    readings: tuple[Reading, ...] = ()


class Skip(msgspec.Struct, frozen=True, kw_only=True, tag="skip"):
    """What was not checked, and why: a check, or all of them (None)."""

    variant: str
    backend: str
    check: str | None
    dtype: Dtype | None
    reason: str


class Begun(msgspec.Struct, frozen=True, kw_only=True, tag="begun"):
    """A check has begun: what a process that dies was at."""

    check: str


def finding_of(
    subject: Subject, check: str, dtype: Dtype, readings: Sequence[Reading], *, keep: bool
) -> Finding:
    """The finding of a check's readings; `keep` has it hold all of them."""
    worst = max(readings, key=lambda reading: reading.badness)
    finite = math.isfinite(worst.value)
    return Finding(
        variant=subject.variant,
        backend=subject.backend,
        check=check,
        passed=all(reading.passed for reading in readings),
        value=worst.value if finite else None,
        limit=worst.limit if math.isfinite(worst.limit) else None,
        dtype=dtype,
        at=worst.at,
        note="" if finite else f"the figure is {worst.value}",
        readings=tuple(readings) if keep else (),
    )


def broken(subject: Subject, check: str, dtype: Dtype | None, note: str) -> Finding:
    """The finding of a check that did not come to a figure."""
    return Finding(
        variant=subject.variant, backend=subject.backend, check=check, passed=False,
        value=None, limit=None, dtype=dtype, note=" ".join(note.split())[:500],
    )  # fmt: skip
