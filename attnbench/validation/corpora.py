"""Finds a corpus, knows its form, and predicts its rows."""

from pathlib import Path

from attnbench import profiles
from attnbench.errors import UserError
from attnbench.validation import engine_logs, models
from attnbench.validation.row import Row

_SHIPPED = Path(next(iter(profiles.__path__))) / "corpora"
_FORMS = (
    "a YAML file of engine logs (a list of rows with id, engine, model), or a folder of models "
    "(configs/*.json and expected.json)"
)


def shipped() -> tuple[Path, ...]:
    """The corpora that come with attnbench."""
    found = (p for p in _SHIPPED.iterdir() if p.suffix in (".yaml", ".json"))
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
    raise UserError(f"{path}: not a form of corpus that is known", hint=f"A corpus is {_FORMS}.")
