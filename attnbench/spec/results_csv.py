"""Result rows as `results.csv`, and back: one definition, `spec.result.ResultRow`.

None is written empty, booleans as true and false, floats so that they read back as
the same number. Reading checks the header and every value.
"""

import csv
import dataclasses
import enum
import io
import math
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path

from attnbench.errors import UserError
from attnbench.spec.attention import Mode
from attnbench.spec.dtype import Dtype
from attnbench.spec.result import COLUMNS, ResultRow, Status

Value = str | int | float | bool | None

_ONE_OF: dict[str, type[enum.StrEnum]] = {"status": Status, "mode": Mode, "dtype": Dtype}


def header_line() -> str:
    """The first line of `results.csv`, newline included."""
    return _line(COLUMNS)


def row_line(row: ResultRow) -> str:
    """One row as CSV text, newline included; a value that holds a newline is quoted."""
    return _line([_text(getattr(row, name)) for name in COLUMNS])


def rows_to_csv(rows: Iterable[ResultRow]) -> str:
    """The whole file: header and rows."""
    return header_line() + "".join(row_line(row) for row in rows)


def read_rows(path: Path) -> list[ResultRow]:
    """The rows of the `results.csv` at `path`, values converted to the fields' types.

    Raises:
        UserError: no such file, another header, or a value that does not fit its
            column; the message names file, line and column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    return parse_rows(text, label=str(path))


def parse_rows(text: str, *, label: str) -> list[ResultRow]:
    """Rows from CSV `text`; `label` names it in errors. See `read_rows`."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[ResultRow] = []
    try:
        _check_header(next(reader, []), label)
        for cells in reader:
            rows.append(_row(cells, f"{label}:{reader.line_num}"))
    except csv.Error as error:
        raise UserError(f"{label}:{reader.line_num}: not valid CSV: {error}") from None
    return rows


def _line(cells: Iterable[str]) -> str:
    cells = list(cells)
    # Python before 3.13 leaves a lone carriage return unquoted, and cannot read it back.
    hidden_return = any("\r" in cell for cell in cells)
    out = io.StringIO()
    writer = csv.writer(
        out,
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if hidden_return else csv.QUOTE_MINIMAL,
    )
    writer.writerow(cells)
    return out.getvalue()


def _text(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _check_header(cells: list[str], label: str) -> None:
    if tuple(cells) == COLUMNS:
        return
    if not cells:
        raise UserError(f"{label}:1: empty; the first line must be the header of results.csv")
    pairs = zip(cells, COLUMNS, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(cells), len(COLUMNS)))
    found = repr(cells[at]) if at < len(cells) else "nothing"
    wanted = repr(COLUMNS[at]) if at < len(COLUMNS) else "nothing"
    raise UserError(
        f"{label}:1: column {at + 1} is {found}, where {wanted} should be",
        hint="The file was written by another version of attnbench, or by hand.",
    )


def _row(cells: list[str], where: str) -> ResultRow:
    if len(cells) != len(COLUMNS):
        raise UserError(f"{where}: {len(cells)} values, where {len(COLUMNS)} should be")
    values = {name: _value(name, cell, where) for name, cell in zip(COLUMNS, cells, strict=True)}
    return ResultRow(**values)  # type: ignore[arg-type]  # `_value` gave each its field's type


def _value(name: str, cell: str, where: str) -> Value:
    base, optional = _TYPES[name]
    if cell == "" and optional:
        return None
    try:
        value = _CONVERT[base](cell)
    except ValueError:
        raise UserError(f"{where}: {name}: {cell!r} is not {_NOUN[base]}") from None
    if name in _ONE_OF and cell not in list(_ONE_OF[name]):
        raise UserError(f"{where}: {name}: {cell!r} is not one of {', '.join(_ONE_OF[name])}")
    return value


def _float(cell: str) -> float:
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError
    return value


def _bool(cell: str) -> bool:
    if cell not in ("true", "false"):
        raise ValueError
    return cell == "true"


_CONVERT: dict[type, Callable[[str], Value]] = {
    str: str, int: int, float: _float, bool: _bool,
}  # fmt: skip
_NOUN = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}


def _field_types() -> dict[str, tuple[type, bool]]:
    """Each column's plain type, and whether it may be empty, from the class's hints."""
    hints = typing.get_type_hints(ResultRow)
    found = {}
    for field in dataclasses.fields(ResultRow):
        hint = hints[field.name]
        union = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        (base,) = [part for part in union if part is not type(None)]
        found[field.name] = (base, len(union) > 1)
    return found


_TYPES = _field_types()
