"""Finds a corpus, knows its form, and predicts its rows."""

from pathlib import Path

from attnbench import profiles
from attnbench.catalog import serving_rows, timing_rows
from attnbench.errors import UserError
from attnbench.validation import engine_logs, models, serving, timings
from attnbench.validation.row import Row

_SHIPPED = Path(next(iter(profiles.__path__))) / "corpora"
_FORMS = (
    "a YAML file of engine logs (a list of rows with id, engine, model), a CSV of attention "
    "timings (gpu, batch, heads, seqlen, ...) or of serving timings (model, gpu, ttft_ms, "
    "tpot_ms, ...), or a folder of models (configs/*.json and expected.json)"
)


def shipped() -> tuple[Path, ...]:
    """The corpora that come with attnbench."""
    found = (p for p in _SHIPPED.iterdir() if p.suffix in (".yaml", ".json", ".csv"))
    return tuple(sorted(found))


def rows(path: Path | None) -> list[Row]:
    """Predicted rows of the corpus at `path`; of every shipped one where it is None.

    Raises:
        UserError: there is none, or its form is not known.
    """
    if path is None:
        return [row for each in shipped() for row in rows(each)]
    if not path.exists():
        raise UserError(f"{path}: no such corpus", hint=f"A corpus is {_FORMS}.")
    if path.is_dir():
        if (path / "expected.json").is_file():
            return models.rows(path)
        raise UserError(f"{path}: holds no expected.json", hint=f"A corpus is {_FORMS}.")
    if path.suffix in (".yaml", ".yml"):
        return engine_logs.rows(path)
    if path.suffix == ".json":
        return models.rows(path)
    if path.suffix == ".csv":
        header = set(timing_rows.header(path))
        if set(timing_rows.NEEDED) <= header:
            return timings.rows(path)
        if set(serving_rows.NEEDED) <= header:
            return serving.rows(path)
    raise UserError(f"{path}: not a form of corpus that is known", hint=f"A corpus is {_FORMS}.")
