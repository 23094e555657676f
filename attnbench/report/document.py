"""What a command has to say, before a format is chosen."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from attnbench.report.chart import Chart


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column: its key in CSV, its heading for people, and how a value is shown.

    `show` turns a value that is not None into text; `right` aligns numbers.
    """

    key: str
    heading: str
    show: Callable[[Any], str] = str
    right: bool = False


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Columns and rows of raw values, one per column."""

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Any]]
    title: str = ""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A picture in characters, with its title; lines are shown as they are."""

    title: str
    lines: tuple[str, ...]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A command's result: a JSON object, and the tables that people read.

    `data` is the JSON object less its schema. `tables` are shown in order. CSV writes
    the raw values of `records`, or of the first table where there are none. `notes`
    are one-line remarks under the
    tables, `assumptions` what a number rests on (they stand in JSON too). `warnings` are
    no part of the result: a command says them on stderr, in every format, and JSON has
    them too. `figures` stand above the tables, and `charts` where a format can draw
    (HTML), for people alone. `title` heads a page.
    """

    schema: str
    data: Mapping[str, Any]
    tables: tuple[Table, ...]
    records: Table | None = None
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    charts: tuple[Chart, ...] = ()
    title: str = ""


def shown(column: Column, value: Any) -> str:
    """`value` as `column` shows it to people; '-' where there is none."""
    return "-" if value is None else column.show(value)
