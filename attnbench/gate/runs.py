"""Reads a run folder as the gate needs it: rows by point, and each round's median.

`results.csv` decides which points there are, and their status and figures;
`samples.jsonl` gives the spread over rounds alone, and `run.json` the schema, the
machine, and the record of a `selfcheck` where one was made.
"""

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from attnbench.errors import NotComparableError, NothingToDoError, UserError
from attnbench.gate.verdict import Key
from attnbench.measure.journal import RESULTS, RUN, SCHEMA, read_samples
from attnbench.spec.result import ResultRow
from attnbench.spec.results_csv import read_rows


class Selfcheck(msgspec.Struct, frozen=True, kw_only=True):
    """A machine's noise floor: standard deviation of log time between runs of one code."""

    log_sd: float
    dof: int

    def __post_init__(self) -> None:
        if not (0 <= self.log_sd < math.inf and self.dof >= 1):
            raise ValueError("log_sd must be 0 or more, dof 1 or more")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run: its machine, its rows, and the median of each round, in ms."""

    label: str
    device: str
    threads: int | None = None
    started: str | None = None
    selfcheck: Selfcheck | None = None
    rows: dict[Key, ResultRow]
    rounds_ms: dict[Key, dict[int, float]]


class _RunFile(msgspec.Struct, kw_only=True):
    schema: str
    environment: dict[str, Any] = {}
    started: str | None = None
    selfcheck: Selfcheck | None = None


def read_run(folder: Path) -> Run:
    """The run in `folder`.

    Raises:
        UserError: no run folder, or a file in it that is malformed; file, line and
            column are named.
        NotComparableError: the run is of another schema.
        NothingToDoError: it has no point.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    about = _read_about(folder / RUN)
    return build_run(
        label=str(folder),
        rows=read_rows(folder / RESULTS),
        rounds_ms=_read_rounds(folder),
        threads=_threads(about.environment),
        started=about.started,
        selfcheck=about.selfcheck,
    )


def build_run(
    *,
    label: str,
    rows: list[ResultRow],
    rounds_ms: Mapping[Key, dict[int, float]],
    threads: int | None = None,
    started: str | None = None,
    selfcheck: Selfcheck | None = None,
) -> Run:
    """A run from its parts, checked: one device, and no time of zero or less.

    Raises:
        UserError: rows of several devices, or a time that is not positive.
        NothingToDoError: there is no row.
    """
    devices = sorted({row.device for row in rows})
    if not devices:
        raise NothingToDoError(f"{label}: the run has no point")
    if len(devices) > 1:
        raise UserError(f"{label}: rows of several devices: {', '.join(devices)}")
    for row in rows:
        for name in ("time_ms", "time_ms_ci_low", "time_ms_ci_high"):
            value = getattr(row, name)
            if value is not None and value <= 0:
                raise UserError(f"{label}: {row.label}: {name}: {value} is not over 0")
    for key, medians in rounds_ms.items():
        if min(medians.values(), default=1.0) <= 0:
            raise UserError(f"{label}: {key}: a round's time is not over 0")
    return Run(
        label=label,
        device=devices[0],
        threads=threads,
        started=started,
        selfcheck=selfcheck,
        rows={row.key: row for row in rows},
        rounds_ms={row.key: rounds_ms[row.key] for row in rows if row.key in rounds_ms},
    )


def point_labels(rows: Mapping[Key, ResultRow]) -> dict[Key, str]:
    """A label a point, settings added where two points would share one."""
    plain = {key: row.label for key, row in rows.items()}
    seen: dict[str, int] = {}
    for text in plain.values():
        seen[text] = seen.get(text, 0) + 1
    return {k: t if seen[t] == 1 else f"{t} {rows[k].params}" for k, t in plain.items()}


def _read_about(path: Path) -> _RunFile:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; that is no run folder") from None
    try:
        schema = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
        if schema != SCHEMA:
            raise NotComparableError(f"{path}: schema is {schema!r}, not {SCHEMA!r}")
        return msgspec.json.decode(data, type=_RunFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from None


def _threads(environment: Mapping[str, Any]) -> int | None:
    found: Any = environment
    for name in ("device", "details", "threads"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, int) else None


def _read_rounds(folder: Path) -> dict[Key, dict[int, float]]:
    """The median of each round."""
    return {
        key: {number: statistics.median(samples) for number, samples in rounds.items()}
        for key, rounds in read_samples(folder).items()
    }
