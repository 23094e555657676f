"""What `validate` shows: agreement of each figure, by family and version, then the misses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from attnbench.report.document import Column, Document, Table
from attnbench.validation.row import Agreement, Row, agreement, grouped
from attnbench.validation.spread import Spread, spreads

_SUMMARY = (
    Column(key="figure", heading="figure"),
    Column(key="compared", heading="compared", right=True),
    Column(key="within", heading="within limit", right=True),
    Column(key="share", heading="share", show=lambda v: f"{v:.1%}", right=True),
    Column(key="worst", heading="worst error", show=lambda v: f"{v:.2%}", right=True),
    Column(key="stated", heading="every input stated", right=True),
)
_GROUPS = (
    Column(key="corpus", heading="corpus"),
    Column(key="family", heading="family"),
    Column(key="version", heading="version"),
    Column(key="rows", heading="rows", right=True),
    Column(key="compared", heading="figures", right=True),
    Column(key="within", heading="within limit", right=True),
    Column(key="worst", heading="worst miss"),
)
_MISSES = (
    Column(key="id", heading="row"),
    Column(key="figure", heading="figure"),
    Column(key="predicted", heading="predicted", show=lambda v: f"{v:,.10g}", right=True),
    Column(key="reported", heading="reported", show=lambda v: f"{v:,.10g}", right=True),
    Column(key="error", heading="error", show=lambda v: f"{v:+.2%}", right=True),
)
_RECORDS = tuple(
    Column(key=key, heading=key)
    for key in ("corpus", "id", "family", "version", "figure", "predicted", "reported", "within")
)


def _percent(value: float) -> str:
    return f"{value:.1%}"


_SPREAD = (
    Column(key="by", heading="by"),
    Column(key="name", heading="name"),
    Column(key="regime", heading="regime"),
    Column(key="series", heading="series", right=True),
    Column(key="rows", heading="rows", right=True),
    Column(key="median", heading="median error", show=_percent, right=True),
    Column(key="p90", heading="90th percentile", show=_percent, right=True),
    Column(key="ideal_median", heading="efficiency 1: median", show=_percent, right=True),
    Column(key="ideal_p90", heading="90th percentile", show=_percent, right=True),
)
_MADE_BY = "Made by `attnbench validate --format markdown --output docs/validation.md`."
_LIMITS = (
    "Blocks, tokens and concurrency: 0.3%, or one rounding of the printed GiB they follow from. "
    "Weights: 2%. KV cache: inside the stated band. Models: exact.",
    "Every prediction is made from a row's inputs; kv_cache_gib is an input to blocks, tokens "
    "and concurrency.",
    "Times: inside their band, which nine of ten rows should be. Constants were fixed before "
    "these rows were scored (docs/roofline.md); efficiency 1 is the time at both published peaks.",
    "Every input stated: of one rank, or with every rank's size (blocks follow from the least, "
    "and ranks differ by up to 0.5 GiB); no recurrent states (prefix caching, which no row "
    "states, decides what a request takes of them); for the budget a share of memory and "
    "max_num_seqs. In the others a default stands for what is not said.",
    "No figure: weights in a format that neither the log nor the checkpoint's name settles; a "
    "budget where the log lost its flags, or states no share of memory and no release.",
)


def document(rows: Sequence[Row], corpus: Path | None) -> Document:
    """The rows as the contract's JSON object and its tables."""
    overall = agreement(_merged(rows))
    times = spreads(rows)
    data = {
        "corpus": "shipped" if corpus is None else corpus.absolute(),
        "rows": [_plain(row) for row in rows],
        "summary": {a.figure: {**msgspec.to_builtins(a), "share": a.share} for a in overall},
    }
    if times:
        data["timings"] = [msgspec.to_builtins(each) for each in times]
    tables = (
        Table(columns=_SUMMARY, rows=[_line(a) for a in overall], title="Agreement"),
        Table(columns=_GROUPS, rows=_groups(rows), title="By family and version"),
        *_spread_tables(times),
        Table(columns=_MISSES, rows=_misses(rows), title="Outside their limit"),
    )
    records = [
        [row.corpus, row.id, row.family, row.version, key, value, row.reported.get(key),
         row.within.get(key)]
        for row in rows
        for key, value in row.predicted.items()
    ]  # fmt: skip
    return Document(
        schema="attnbench.validate/1",
        data=data,
        tables=tables,
        notes=() if corpus else (_MADE_BY,),
        records=Table(columns=_RECORDS, rows=records),
        assumptions=_LIMITS,
    )


def _plain(row: Row) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(row)
    made["predicted"] |= made.pop("words")
    if row.timing is None:
        del made["timing"]
    return made


def _spread_tables(times: Sequence[Spread]) -> tuple[Table, ...]:
    shown = (
        ("regime", "Predicted times, by regime: median over series", ("by", "name")),
        ("GPU", "Predicted times, by GPU", ("by",)),
        ("engine", "Predicted times, by engine", ("by",)),
    )
    return tuple(
        Table(
            columns=tuple(c for c in _SPREAD if c.key not in hidden),
            rows=[_spread_line(each, hidden) for each in times if each.by == by],
            title=title,
        )
        for by, title, hidden in shown
        if any(each.by == by for each in times)
    )


def _spread_line(each: Spread, hidden: tuple[str, ...]) -> list[Any]:
    return [getattr(each, c.key) for c in _SPREAD if c.key not in hidden]


def _merged(rows: Sequence[Row]) -> list[Row]:
    """Rows whose cases of one convention count as one figure: cache_bytes.ideal."""

    def short(key: str) -> str:
        return key.rpartition(".")[0] if key.count(".") == 2 else key

    merged = []
    for row in rows:
        within: dict[str, bool] = {}
        error: dict[str, float | None] = {}
        for key, good in row.within.items():
            name = short(key)
            within[name] = within.get(name, True) and good
            error[name] = max(abs(error.get(name) or 0.0), abs(row.relative_error.get(key) or 0.0))
        merged.append(msgspec.structs.replace(row, within=within, relative_error=error))
    return merged


def _line(a: Agreement) -> list[Any]:
    stated = f"{a.stated_within} of {a.stated}"
    return [a.figure, a.compared, a.within, a.share, a.worst, stated]


def _groups(rows: Sequence[Row]) -> list[list[Any]]:
    merged = _merged(rows)
    sizes: dict[tuple[str, str, str], int] = {}
    for row in merged:
        key = (row.corpus, row.family, row.version)
        sizes[key] = sizes.get(key, 0) + 1
    lines: list[list[Any]] = []
    for key, figures in grouped(merged).items():
        missed = [a for a in figures if a.within < a.compared]
        worst = max(missed, key=lambda a: a.worst or 0.0, default=None)
        compared, within = (sum(getattr(a, n) for a in figures) for n in ("compared", "within"))
        said = None if worst is None else f"{worst.figure} {worst.worst or 0:.1%}"
        lines.append([*key[:2], key[2] or None, sizes[key], compared, within, said])
    return lines


def _misses(rows: Sequence[Row]) -> list[list[Any]]:
    return [
        [row.id, key, row.predicted.get(key), row.reported.get(key), row.relative_error.get(key)]
        for row in rows
        if row.timing is None  # of thousands of times one in ten lies outside its band
        for key, good in row.within.items()
        if not good
    ]
