"""Rows of engines' start-up logs: each figure rebuilt from the row's inputs."""

from pathlib import Path

from attnbench.catalog.engine_rows import LogRow, read_rows
from attnbench.engines import vllm
from attnbench.engines.rebuild import rebuild
from attnbench.validation.row import Limit, Row, compare

LIMITS = {
    "bytes_per_token": Limit(),
    "gpu_blocks": Limit(relative=0.003),
    "kv_tokens": Limit(relative=0.003),
    "max_concurrency": Limit(relative=0.003, rounding=0.005),
    "weights_gib": Limit(relative=0.02),
    "kv_cache_gib": Limit(band=True),
}


def rows(path: Path) -> list[Row]:
    """Every row of the file at `path`, predicted.

    Raises:
        UserError: it is not in the form of `engine_logs.yaml`, or a row makes no sense.
    """
    return [_row(row, path.name) for row in read_rows(path)]


def _row(row: LogRow, corpus: str) -> Row:
    rebuilt = rebuild(row)
    predicted = {key: rebuilt.predicted.get(key) for key in LIMITS}
    reported = {key: getattr(row.reported, key, None) for key in LIMITS}
    errors, within = compare(predicted, reported, LIMITS, rebuilt.low, rebuilt.high)
    return Row(
        id=str(row.id),
        corpus=corpus,
        family=row.engine,
        version=_series(row),
        predicted=predicted,
        reported=reported,
        relative_error=errors,
        within=within,
        low=rebuilt.low,
        high=rebuilt.high,
        why=rebuilt.why,
        assumed=rebuilt.assumed,
    )


def _series(row: LogRow) -> str:
    """The series of releases: 0.12 of 0.12.3; empty where it is not known."""
    if row.engine != vllm.NAME:
        return ""
    version = vllm.version_of(None if row.engine_version is None else str(row.engine_version))
    return "" if version is None else ".".join(map(str, version[:2]))
