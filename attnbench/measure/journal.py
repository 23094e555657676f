"""What a sweep leaves on disk, so that a kill at any byte loses one group at most.

results.csv decides which points there are. A group's samples are written first, then
its rows, each file flushed to disk; on resume a torn last line is dropped, and so are
samples of points that have no row.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from attnbench.errors import UserError
from attnbench.files import cannot_write, plain, write_atomically
from attnbench.spec.result import ResultRow
from attnbench.spec.results_csv import header_line, read_rows, row_line

SCHEMA = "attnbench.run/1"
RESULTS, SAMPLES, RUN, SUMMARY = "results.csv", "samples.jsonl", "run.json", "summary.md"

Key = tuple[str | int | bool, ...]


class _Samples(msgspec.Struct, kw_only=True):
    """A line of samples.jsonl."""

    key: list[str | int | bool]
    round: int
    samples_ms: list[float]


class Journal:
    """A run folder that this process alone writes. Use `open_journal`."""

    def __init__(self, folder: Path, run: dict[str, Any], rows: list[ResultRow]) -> None:
        self.folder = folder
        self.run = run
        self.rows = rows

    def finished(self) -> set[Key]:
        """Keys of the points that have a row."""
        return {row.key for row in self.rows}

    def append(self, rows: Sequence[ResultRow], samples: Mapping[Key, list[list[float]]]) -> None:
        """Add a finished group: its samples, then its rows, each flushed to disk.

        Raises:
            MachineError: the disk is full.
            UserError: the folder cannot be written.
        """
        try:
            _append(self.folder / SAMPLES, _sample_lines(samples))
            _append(self.folder / RESULTS, "".join(row_line(row) for row in rows))
        except OSError as error:
            hint = "What had ended is kept; free some space and run again with --resume."
            raise cannot_write(self.folder, error, hint=hint) from None
        self.rows += rows

    def write_run(self, **changes: Any) -> None:
        """Write run.json with `changes`, atomically."""
        self.run = {**self.run, **changes}
        write_atomically(self.folder / RUN, _run_text(self.run))


@contextlib.contextmanager
def open_journal(
    folder: Path, configuration: Mapping[str, Any], *, resume: bool
) -> Iterator[Journal]:
    """The run folder `folder`, locked for this process until the context ends.

    `configuration` is what must not change between a run and its resumption.

    Raises:
        UserError: the folder cannot be written, holds a run already (and `resume` is
            not asked for), is of a run with other options, or is in use.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a", encoding="ascii")  # noqa: SIM115 - held open below
    except OSError as error:
        raise UserError(f"run folder {folder}: {error.strerror}") from None
    with lock:
        _lock(lock, folder)
        yield _open(folder, dict(plain(configuration)), resume)


def _open(folder: Path, configuration: dict[str, Any], resume: bool) -> Journal:
    if not (folder / RUN).exists():
        if (folder / RESULTS).exists():
            raise UserError(f"{folder / RESULTS} has no {RUN} beside it; that is no run folder")
        journal = Journal(folder, {"schema": SCHEMA, "configuration": configuration}, [])
        journal.write_run()
    elif not resume:
        raise UserError(
            f"run folder {folder} holds a run already",
            hint="Continue it with --resume, or name another with --run-dir.",
        )
    run = read_run(folder)
    _require_same(run.get("configuration"), configuration, folder)
    if not (folder / RESULTS).exists():
        write_atomically(folder / RESULTS, header_line())
    _drop_torn_line(folder / RESULTS)
    rows = read_rows(folder / RESULTS)
    _keep_samples_of({row.key for row in rows}, folder / SAMPLES)
    return Journal(folder, run, rows)


def read_run(folder: Path) -> dict[str, Any]:
    """The run.json of a run folder.

    Raises:
        UserError: there is none, it is no JSON, or of another schema.
    """
    path = folder / RUN
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(run, dict) or run.get("schema") != SCHEMA:
        raise UserError(f"{path}: schema is not {SCHEMA!r}")
    return run


def require_run(folder: Path) -> None:
    """Refuse a folder that holds no run.

    Raises:
        UserError: it holds none, or one of another schema.
    """
    read_run(folder)


def record_selfcheck(folder: Path, *, log_sd: float, dof: int) -> None:
    """Write a machine's noise floor into the run of `folder`, for `check` to take."""
    run = {**read_run(folder), "selfcheck": {"log_sd": log_sd, "dof": dof}}
    write_atomically(folder / RUN, _run_text(run))


def read_samples(folder: Path) -> dict[Key, dict[int, list[float]]]:
    """Samples of each point by round, in ms; a torn last line, left by a kill, is passed over.

    Raises:
        UserError: a line is no sample, or holds a time that is not over 0.
    """
    path = folder / SAMPLES
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    samples: dict[Key, dict[int, list[float]]] = {}
    decode = msgspec.json.Decoder(_Samples).decode
    for number, line in enumerate(lines[:-1], start=1):
        try:
            found = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}:{number}: {error}") from None
        if not found.samples_ms or min(found.samples_ms) <= 0:
            raise UserError(f"{path}:{number}: samples_ms: every round has samples, all over 0")
        samples.setdefault(tuple(found.key), {})[found.round] = found.samples_ms
    return samples


def _run_text(run: Mapping[str, Any]) -> str:
    return json.dumps(plain(run), indent=2, allow_nan=False) + "\n"


def _require_same(before: Any, now: dict[str, Any], folder: Path) -> None:
    if before == now:
        return
    before = before if isinstance(before, dict) else {}
    changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
    raise UserError(
        f"run folder {folder} was made with other options: {', '.join(changed)}",
        hint="Resume with the options it was made with, or name another with --run-dir.",
    )


def _drop_torn_line(path: Path) -> None:
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        write_atomically(path, whole.decode("utf-8"))


def _keep_samples_of(keys: set[Key], path: Path) -> None:
    samples = read_samples(path.parent)
    kept = {key: list(rounds.values()) for key, rounds in samples.items() if key in keys}
    write_atomically(path, _sample_lines(kept))


def _sample_lines(samples: Mapping[Key, list[list[float]]]) -> str:
    return "".join(
        json.dumps({"key": list(key), "round": number, "samples_ms": values}) + "\n"
        for key, rounds in samples.items()
        for number, values in enumerate(rounds)
    )


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _lock(file: IO[str], folder: Path) -> None:
    """Take the folder's lock; the system frees it when this process dies."""
    try:
        import fcntl
    except ImportError:  # Windows: no advisory lock; one sweep a folder is on the user
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(
            f"run folder {folder} is in use by another sweep",
            hint="Wait for it, or name another folder with --run-dir.",
        ) from None
