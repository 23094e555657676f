"""Rows that constants are fitted to or scored on, sorted by what they can tell."""

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from attnbench.calc.attention_work import Chip, Work, chip_of
from attnbench.calc.decode_time import DecodeTerms, decode_terms
from attnbench.calc.prefill_time import PrefillTerms, prefill_terms
from attnbench.catalog.calibration import family_of
from attnbench.catalog.timing_rows import TimingRow
from attnbench.engines.attention import USUAL_STEP, AttentionEngine
from attnbench.spec.attention import Mode
from attnbench.spec.dtype import Dtype
from attnbench.spec.hardware import HardwareSpec

_HALF = (Dtype.FP16, Dtype.BF16)
LARGE_S = 50e-6  # FLOPs over the dense peak, from where a prefill counts as large
_SHIPPED_OF_256 = 32
STREAMING = 2  # times the L2, from where a cache streams from memory


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One timed row with what it asks of its chip."""

    series: str
    gpu: HardwareSpec
    engine: AttentionEngine | None
    work: Work
    chip: Chip
    time_s: float
    held_back: bool
    shipped: bool
    prefill: PrefillTerms | None = None
    decode: DecodeTerms | None = None

    @property
    def family(self) -> str:
        """The GPU's family."""
        return family_of(self.gpu)

    @property
    def scored(self) -> bool:
        """Whether the row is of the kind that figures are quoted for: 16-bit, forward."""
        halves = self.work.dtype in _HALF and self.work.kv_dtype in _HALF
        return halves and self.work.mode in (Mode.FWD, Mode.DECODE) and not self.work.latent

    @property
    def demanding(self) -> bool:
        """Large prefill (FLOPs over the peak) or streaming decode (cache over the L2)."""
        if self.decode is not None:
            return self.work.cache_bytes > STREAMING * self.chip.l2_bytes
        return self.work.flops / self.chip.peak(self.work.dtype) >= LARGE_S


def held_back(identity: str) -> bool:
    """Whether a row is kept from fitting while the form is chosen: one in two, by hash.

    The last bit of the first byte of SHA-256 of the row's identity (series, shape,
    dtypes, direction, joined by "|").
    """
    return bool(hashlib.sha256(identity.encode()).digest()[0] & 1)


def shipped(identity: str) -> bool:
    """Whether a row belongs to the corpus that attnbench ships: one in eight, never fitted."""
    return hashlib.sha256(identity.encode()).digest()[1] < _SHIPPED_OF_256


def point(
    *,
    series: str,
    gpu: HardwareSpec,
    engine: AttentionEngine | None,
    work: Work,
    time_s: float,
    identity: str,
    cold: bool = False,
) -> Point:
    """A timed run with its terms; without them where it is both directions at once.

    `cold`: caches were flushed before each run, so nothing is found in the L2.
    """
    chip = chip_of(gpu)
    if cold:
        chip = msgspec.structs.replace(chip, l2_bytes=1)
    single = work.mode in (Mode.FWD, Mode.BWD)
    step = engine.step if engine else USUAL_STEP
    return Point(
        series=series,
        gpu=gpu,
        engine=engine,
        work=work,
        chip=chip,
        time_s=time_s,
        held_back=held_back(identity),
        shipped=shipped(identity),
        prefill=prefill_terms(work, chip, step=step) if single else None,
        decode=decode_terms(work, chip) if work.mode is Mode.DECODE else None,
    )


def points(rows: Iterable[TimingRow]) -> list[Point]:
    """The rows that say what was run, on a GPU that is known, in a kernel that is tiled."""
    return [
        point(
            series=row.series,
            gpu=row.gpu,
            engine=row.engine,
            work=row.work,
            time_s=row.time_ms / 1e3,
            identity=row.identity,
        )
        for row in rows
        if row.gpu is not None
        and row.work is not None
        and row.time_ms is not None
        and not (row.engine and row.engine.kernel == "naive")
    ]


def by_series(of: Sequence[Point]) -> dict[str, list[Point]]:
    """Points by series, in order of first appearance."""
    made: dict[str, list[Point]] = {}
    for each in of:
        made.setdefault(each.series, []).append(each)
    return made
