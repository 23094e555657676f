"""Constants from a user's own sweep: its timed points, fitted near what is shipped."""

from pathlib import Path
from typing import Any

import msgspec

from attnbench.calc.attention_time import attention_time
from attnbench.calc.attention_work import work_of
from attnbench.calibration.points import Point, point
from attnbench.catalog.calibration import constants_for
from attnbench.catalog.hardware import find_by_device_name
from attnbench.engines.attention import AttentionEngine, attention_engine
from attnbench.errors import MachineError, NotComparableError, UserError
from attnbench.gate.runs import read_run
from attnbench.measure.journal import RUN
from attnbench.spec.attention import Mode
from attnbench.spec.calibration import Calibration
from attnbench.spec.hardware import HardwareSpec
from attnbench.spec.result import ResultRow, Status
from attnbench.validation.spread import sizes
from attnbench.variants import load_variant, variant_names
from attnbench.variants._predict import kernel_of

LEAST_POINTS = 8
_BAND_LEAST = 1.1


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """One engine's constants and how far predictions were before and are after.

    Errors are median sizes of relative errors over the points that were fitted.
    """

    engine: str
    phase: str
    points: int
    error_before: float
    error_after: float
    constants: dict[str, Any]


class OwnCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's points say of its GPU: sets by engine, and the profile with them."""

    run: str
    gpu: HardwareSpec
    fitted: tuple[Fitted, ...]
    too_few: tuple[str, ...]


class _Machine(msgspec.Struct, kw_only=True):
    type: str = "cpu"
    name: str = ""
    memory_bytes: int = 0


class _About(msgspec.Struct, kw_only=True):
    environment: dict[str, Any] = {}
    ended: str | None = None


def calibrate(folder: Path, gpu: HardwareSpec | None) -> OwnCalibration:
    """Fits constants to the timed points of the run in `folder`, for `gpu` or its own.

    Raises:
        UserError: no run folder, or no engine with enough points.
        NotComparableError: the run's device has no profile, so no known roof.
        MachineError: numpy or scipy is missing.
    """
    try:
        from attnbench.calibration.fit import fit_decode, fit_prefill
    except ImportError as error:
        raise MachineError(
            f"calibrate needs {error.name}, which is not installed",
            hint="pip install 'attnbench[bench]'",
        ) from None
    rows = list(read_run(folder).rows.values())
    about = msgspec.json.decode((folder / RUN).read_bytes(), type=_About)
    spec = gpu or _device(about, folder)
    timed = [p for row in rows if (p := _point(row, spec)) is not None]
    sets: dict[str, Calibration] = {}
    fitted, few = [], []
    for key, engine in _engines(timed).items():
        mine = [p for p in timed if p.engine == engine]
        prefills = [p for p in mine if p.prefill is not None]
        decodes = [p for p in mine if p.decode is not None]
        near = constants_for(spec, engine)
        made = Calibration(
            source=f"the sweep in {folder.name}", rows=0, fitted=(about.ended or "")[:10],
            script="attnbench calibrate",
        )  # fmt: skip
        if len(prefills) >= LEAST_POINTS:
            made = msgspec.structs.replace(made, prefill=fit_prefill(prefills, near.prefill))
        elif prefills:
            few.append(f"{key}: {len(prefills)} forward points, {LEAST_POINTS} are needed")
        if len(decodes) >= LEAST_POINTS:
            made = msgspec.structs.replace(made, decode=fit_decode(decodes, near.decode))
        elif decodes:
            few.append(f"{key}: {len(decodes)} decode points, {LEAST_POINTS} are needed")
        if made.prefill is None and made.decode is None:
            continue
        own = msgspec.structs.replace(spec, calibration={**spec.calibration, key: made})
        for phase, some, found in (
            ("prefill", prefills, made.prefill), ("decode", decodes, made.decode),
        ):  # fmt: skip
            if found is None:
                continue
            before, _ = sizes(_errors(some, spec, engine))
            after, p90 = sizes(_errors(some, own, engine))
            made = msgspec.structs.replace(
                made,
                rows=made.rows + len(some),
                **{f"{phase}_band": max(_BAND_LEAST, round(1 + p90, 2))},
            )
            fitted.append(
                Fitted(
                    engine=key, phase=phase, points=len(some), error_before=before,
                    error_after=after, constants=msgspec.to_builtins(found),
                )
            )  # fmt: skip
        sets[key] = made
    if not sets:
        raise UserError(
            f"{folder}: too few timed points to fit: "
            + ("; ".join(few) or "none of a tiled kernel"),
            hint="Sweep flash over more lengths and batches: --variants flash --seq-lens 256..16k.",
        )
    whole = msgspec.structs.replace(spec, calibration={**spec.calibration, **sets})
    return OwnCalibration(
        run=str(folder.absolute()), gpu=whole, fitted=tuple(fitted), too_few=tuple(few)
    )


def _device(about: _About, folder: Path) -> HardwareSpec:
    machine = msgspec.convert(about.environment.get("device", {}), _Machine)
    found = None
    if machine.type == "cuda":
        found = find_by_device_name(machine.name, machine.memory_bytes)
    if found is None:
        raise NotComparableError(
            f"{folder}: {machine.name or 'its device'} has no hardware profile, so no known roof",
            hint="Name the profile to fit with --gpu (see `attnbench gpus`).",
        )
    return found


def _point(row: ResultRow, spec: HardwareSpec) -> Point | None:
    """A row's point, where a tiled kernel was timed in one direction; else None."""
    kernel = kernel_of(row.backend)
    mode = Mode(row.mode)
    known = row.status == Status.OK and row.time_ms and kernel and row.variant in variant_names()
    if not known or row.time_ms is None or mode is Mode.FWD_BWD:
        return None
    variant = load_variant(row.variant)
    if variant.pattern is None:
        return None
    params = msgspec.json.decode(row.params, type=dict[str, Any])
    pattern = None if variant.exact else variant.pattern(row.shape, params)
    work = msgspec.structs.replace(work_of(row.shape, mode, pattern=pattern), cached=False)
    engine = attention_engine(kernel, architecture=spec.architecture)
    return point(
        series=row.backend, gpu=spec, engine=engine, work=work,
        time_s=row.time_ms / 1e3, identity="", cold=row.cache_regime == "cold",
    )  # fmt: skip


def _engines(points: list[Point]) -> dict[str, AttentionEngine]:
    return {p.engine.key: p.engine for p in points if p.engine}


def _errors(points: list[Point], gpu: HardwareSpec, engine: AttentionEngine) -> list[float]:
    constants = constants_for(gpu, engine)
    return [attention_time(p.work, p.chip, constants).time_s / p.time_s - 1 for p in points]
