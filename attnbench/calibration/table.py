"""All sets of constants from all rows: everyone's first, then narrower ones near it."""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from attnbench.calc.carry import carried_decode, carried_prefill
from attnbench.calibration.fit import DECODE_START, PREFILL_START, fit_decode, fit_prefill
from attnbench.calibration.points import Point
from attnbench.catalog.calibration import ANY, DEFAULT, candidates
from attnbench.engines.attention import AttentionEngine
from attnbench.spec.calibration import REFERENCE, Calibration, DecodeConstants, PrefillConstants
from attnbench.spec.hardware import HardwareSpec

_LEAST_ROWS = 6  # fewer say nothing that the wider set does not
_LEAST_DEFAULT_ROWS = 20  # a default speaks for kernels that it has not seen
Key = tuple[str, str]


class Sets(msgspec.Struct, frozen=True, kw_only=True):
    """Fitted sets by (where, engine): where is a GPU, a family or `any`."""

    prefill: dict[Key, PrefillConstants]
    decode: dict[Key, DecodeConstants]
    decode_fp8: dict[Key, DecodeConstants] = {}
    rows: dict[Key, int]


def fit_all(points: Sequence[Point], wanted: Callable[[Key], bool] = lambda _: True) -> Sets:
    """Every set that `points` have rows for and that is `wanted`, the widest first.

    Each is held near the next wider one that there is.
    """
    sets = Sets(prefill={}, decode={}, rows={})
    useful = [p for p in points if _useful(p)]
    everyone = (ANY, DEFAULT)

    def fit(key: Key, rows: Sequence[Point], *wider: Key) -> None:
        if wanted(key) and key not in sets.rows:
            _fit(sets, key, rows, wider)

    fit(everyone, useful)
    kernels = sorted({p.engine.kernel for p in useful if p.engine})
    # Another maker's build of a kernel shares its name alone: Arc's launches take 60 us.
    cuda = [p for p in useful if p.gpu.vendor == "nvidia"]
    for kernel in kernels:
        fit((ANY, kernel), _of(cuda, kernel=kernel), everyone)
    for family in sorted({p.family for p in useful}):
        near = [p for p in useful if p.family == family]
        fit((family, DEFAULT), near, everyone)
        for kernel in kernels:
            fit((family, kernel), _of(near, kernel=kernel), (ANY, kernel), (family, DEFAULT))
        for engine in _engines(near):
            kernel = engine.kernel
            wider = ((family, kernel), (ANY, kernel), (family, DEFAULT))
            fit((family, engine.key), _of(near, key=engine.key), *wider)
    for gpu in sorted({p.gpu.name for p in useful}):
        mine = [p for p in useful if p.gpu.name == gpu]
        family = mine[0].family
        fit((gpu, DEFAULT), mine, (family, DEFAULT), everyone)
        for engine in _engines(mine):
            kernel = engine.kernel
            wider = ((family, engine.key), (family, kernel), (ANY, kernel))
            fit((gpu, engine.key), _of(mine, key=engine.key), *wider, (gpu, DEFAULT), everyone)
    fit_fp8(sets, points)
    return sets


def fit_fp8(sets: Sets, points: Sequence[Point]) -> None:
    """Adds, to every set that decodes, constants of 8-bit caches near those of 16 bits."""
    eight = [p for p in points if p.decode is not None and p.work.kv_dtype.bits == 8]
    eight = [p for p in eight if p.work.dtype.bits == 16 and p.engine is not None]
    for (where, name), near in sets.decode.items():
        mine = [
            p
            for p in eight
            if p.engine is not None
            and where in (ANY, p.family, p.gpu.name)
            and name in (DEFAULT, p.engine.kernel, p.engine.key)
        ]
        if len(mine) >= _LEAST_ROWS:
            at = None if where == mine[0].gpu.name else REFERENCE
            sets.decode_fp8[where, name] = fit_decode(
                mine, near, traits=False, tightness=4.0, at=at
            )


def _useful(p: Point) -> bool:
    half = p.work.dtype.bits == 16 and p.work.kv_dtype.bits == 16
    return half and (p.prefill is not None or p.decode is not None)


def _engines(points: Sequence[Point]) -> list[AttentionEngine]:
    found = {p.engine.key: p.engine for p in points if p.engine}
    return [found[key] for key in sorted(found)]


def _of(points: Sequence[Point], *, kernel: str = "", key: str = "") -> list[Point]:
    named = [(p, p.engine) for p in points if p.engine]
    return [p for p, e in named if e.kernel == (kernel or e.kernel) and e.key == (key or e.key)]


def _fit(sets: Sets, key: Key, points: Sequence[Point], wider: tuple[Key, ...]) -> None:
    prefills = [p for p in points if p.prefill is not None]
    decodes = [p for p in points if p.decode is not None]
    rows = 0
    # A default is nobody's kernel; a GPU's own set keeps the traits of its family's.
    traits = key[1] != DEFAULT and not any(name == key[1] for _, name in wider)
    # A GPU's own set is in its own units, any other for the reference chip.
    chip = points[0].chip if points and key[0] == points[0].gpu.name else None
    at = None if chip else REFERENCE
    least = _LEAST_DEFAULT_ROWS if key[1] == DEFAULT else _LEAST_ROWS
    if len(prefills) >= least:
        found = next((w for w in wider if w in sets.prefill), None)
        near = sets.prefill[found] if found else PREFILL_START
        if chip and found and found[0] != key[0]:
            near = carried_prefill(near, chip, REFERENCE)
        sets.prefill[key] = fit_prefill(prefills, near, at=at)
        rows += len(prefills)
    if len(decodes) >= least:
        found = next((w for w in wider if w in sets.decode), None)
        begin = sets.decode[found] if found else DECODE_START
        if chip and found and found[0] != key[0]:
            begin = carried_decode(begin, chip, REFERENCE)
        sets.decode[key] = fit_decode(decodes, begin, traits=traits, at=at)
        rows += len(decodes)
    if rows:
        sets.rows[key] = rows


def as_calibrations(
    sets: Sets, *, source: str, fitted: str, script: str
) -> dict[str, dict[str, Calibration]]:
    """The sets as profiles hold them: by where, then by engine."""
    made: dict[str, dict[str, Calibration]] = {}
    for (where, engine), rows in sets.rows.items():
        made.setdefault(where, {})[engine] = Calibration(
            source=source,
            rows=rows,
            fitted=fitted,
            script=script,
            prefill=sets.prefill.get((where, engine)),
            decode=sets.decode.get((where, engine)),
            decode_fp8=sets.decode_fp8.get((where, engine)),
        )
    return made


def lookup(
    table: dict[str, dict[str, Calibration]], gpu: HardwareSpec, engine: AttentionEngine | None
) -> Iterator[tuple[str, Calibration]]:
    """What `catalog.calibration` would answer, were `table` shipped."""
    own = table.get(gpu.name, {})
    return candidates(msgspec.structs.replace(gpu, calibration=own), engine, lambda: table)
