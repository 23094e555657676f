"""The baseline: a run folder, or a file of blessed runs, one set a device.

A file keeps the newest `MAX_RUNS` runs of each device, newest last. Only runs with a
point's newest recipe count for that point: after an intended change of the code the
older times are no measure of the new.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from attnbench.errors import NotComparableError, UserError
from attnbench.files import plain
from attnbench.gate.exact import COUNTS, ERRORS, MEMORY
from attnbench.gate.runs import Run, Selfcheck, build_run, read_run
from attnbench.gate.verdict import Tolerance
from attnbench.spec.result import KEY_COLUMNS, ResultRow, Status
from attnbench.spec.results_csv import parse_rows, rows_to_csv

SCHEMA = "attnbench.baseline/1"
MAX_RUNS = 8
MAX_BYTES = 256 << 20

_KEPT = (
    *KEY_COLUMNS, "device", "status", "note", "time_ms", "time_ms_ci_low", "time_ms_ci_high",
    "rounds", "timer", "cache_regime", *COUNTS, *MEMORY, *ERRORS, "recipe",
)  # fmt: skip


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The runs to judge by, oldest first, all of one device, and tolerances by point."""

    label: str
    runs: tuple[Run, ...]
    tolerances: tuple[Tolerance, ...] = ()

    @property
    def newest(self) -> Run:
        """The run that says which points there are."""
        return self.runs[-1]


class _Point(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    row: ResultRow
    rounds_ms: dict[int, float] = {}


class _Blessed(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    digest: str
    points: list[_Point]
    started: str | None = None
    threads: int | None = None
    selfcheck: Selfcheck | None = None


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    schema: str = SCHEMA
    tolerances: list[Tolerance] = []
    devices: dict[str, list[_Blessed]] = {}


def read_baseline(path: Path, current: Run, *, any_device: bool) -> Baseline:
    """The baseline at `path` for the device of `current`.

    `any_device` takes another device's runs where there are none of this one.

    Raises:
        NotComparableError: there is none, of another schema, or of other devices.
        UserError: the file or run folder is malformed.
    """
    if not path.exists():
        raise NotComparableError(
            f"{path}: no such baseline", hint=f"Make one: attnbench check --update RUN {_TAKES}"
        )
    if path.is_dir():
        runs, tolerances = [read_run(path)], []
    else:
        file = _read_file(path)
        runs, tolerances = _choose(file, current, path), file.tolerances
    same = [run for run in runs if same_machine(run, current)]
    if not same and not any_device:
        there = sorted({machine(run) for run in runs})
        raise NotComparableError(
            f"{path}: the baseline is of {', '.join(there)}; the run is of {machine(current)}",
            hint="Times of two machines do not compare; --relative-to naive compares ratios.",
        )
    return Baseline(label=str(path), runs=tuple(same or runs), tolerances=tuple(tolerances))


def same_machine(a: Run, b: Run) -> bool:
    """Whether two runs are of one device, with as many threads where both say."""
    same_threads = a.threads == b.threads or None in (a.threads, b.threads)
    return a.device == b.device and same_threads


def machine(run: Run) -> str:
    """The device of `run`, and its threads where known."""
    return run.device + (f" ({run.threads} threads)" if run.threads is not None else "")


_TAKES = "--baseline FILE"


def bless(path: Path, run: Run) -> tuple[str, int]:
    """The text of the baseline file `path` with `run` added; how many runs its device has.

    A run that is there already takes its place again, so that none counts twice.

    Raises:
        UserError: `path` is a folder, is malformed, or the run has no point that is ok.
        NotComparableError: `path` is of another schema.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; a baseline to update is a file")
    if not any(row.status == Status.OK for row in run.rows.values()):
        raise UserError(f"{run.label}: no point ended ok; that is no baseline")
    file = _read_file(path) if path.exists() else _File()
    made = _Blessed(
        digest=_digest(run),
        started=run.started,
        threads=run.threads,
        selfcheck=run.selfcheck,
        points=[
            _Point(row=row, rounds_ms=run.rounds_ms.get(key, {})) for key, row in run.rows.items()
        ],
    )
    others = [b for b in file.devices.get(run.device, []) if b.digest != made.digest]
    kept = [*others, made][-MAX_RUNS:]
    file.devices[run.device] = kept
    return _text(file), len(kept)


def _choose(file: _File, current: Run, path: Path) -> list[Run]:
    """The runs of the current device; where it has none, of the device blessed last."""
    if not file.devices:
        raise NotComparableError(f"{path}: the baseline holds no run")
    name = current.device if current.device in file.devices else list(file.devices)[-1]
    return [_run(blessed, f"{path}: {name}") for blessed in file.devices[name]]


def _run(blessed: _Blessed, label: str) -> Run:
    rows = [point.row for point in blessed.points]
    return build_run(
        label=label,
        rows=parse_rows(rows_to_csv(rows), label=label),  # the same checks as of a run
        rounds_ms={point.row.key: point.rounds_ms for point in blessed.points},
        threads=blessed.threads,
        started=blessed.started,
        selfcheck=blessed.selfcheck,
    )


def _read_file(path: Path) -> _File:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: over {MAX_BYTES >> 20} MiB; that is no baseline")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    try:
        schema = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
        if schema != SCHEMA:
            raise NotComparableError(f"{path}: schema is {schema!r}, not {SCHEMA!r}")
        return msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from None


def _digest(run: Run) -> str:
    import hashlib

    return hashlib.sha256(rows_to_csv(run.rows.values()).encode()).hexdigest()[:16]


def _text(file: _File) -> str:
    """JSON with a point a line, so that a change of the baseline can be read in a diff."""
    devices = [
        f"  {json.dumps(name)}: [\n" + ",\n".join(_blessed_text(b) for b in runs) + "\n  ]"
        for name, runs in file.devices.items()
    ]
    tolerances = _dump(msgspec.to_builtins(file.tolerances))
    return (
        f'{{\n "schema": "{SCHEMA}",\n "tolerances": {tolerances},\n'
        ' "devices": {\n' + ",\n".join(devices) + "\n }\n}\n"
    )


def _blessed_text(blessed: _Blessed) -> str:
    about = {
        "digest": blessed.digest, "started": blessed.started, "threads": blessed.threads,
        "selfcheck": msgspec.to_builtins(blessed.selfcheck),
    }  # fmt: skip
    points = ",\n".join("    " + _dump(_point(p)) for p in blessed.points)
    return f'   {_dump(about)[:-1]}, "points": [\n{points}\n   ]}}'


def _point(point: _Point) -> dict[str, Any]:
    kept = {name: getattr(point.row, name) for name in _KEPT}
    row = {name: value for name, value in kept.items() if value not in (None, "")}
    return {"row": row, "rounds_ms": {str(k): v for k, v in point.rounds_ms.items()}}


def _dump(value: Any) -> str:
    return json.dumps(plain(value), allow_nan=False, ensure_ascii=False)
