"""What `quality` shows: a table a part; pictures of attention or of needles as PNG."""

from typing import Any

import msgspec

from attnbench.quality.answer import Gaussian, Model, Needle, Quality
from attnbench.quality.synthetic import NEEDLE_MASS
from attnbench.report.document import Column, Document, Table
from attnbench.report.frontier import joined_data, joined_notes, joined_tables
from attnbench.report.png import Panel

_ERROR = "{:.2e}".format
_SHARE = "{:.1%}".format


def document(found: Quality) -> Document:
    """The document: tables of the parts that there are, all of them in JSON."""
    tables: list[Table] = []
    notes: list[str] = []
    if found.joined is not None:
        tables += joined_tables(found.joined)
        notes += joined_notes(found.joined)
    if found.gaussian is not None:
        tables.append(_gaussian_table(found.gaussian))
    if found.needle is not None:
        tables += _needle_tables(found.needle)
    if found.model is not None:
        tables += [_model_table(found.model), _heads_table(found.model)]
        notes += _model_notes(found.model)
    return Document(
        schema="attnbench.quality/1",
        data={
            "gaussian": _builtins(found.gaussian),
            "needle": _builtins(found.needle),
            "model": _model_data(found.model),
            **joined_data(found.joined),
        },
        tables=tuple(tables),
        notes=tuple(notes),
        assumptions=_assumptions(found),
    )


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """Panels for a PNG: how many side by side, and their size in pixels."""

    title: str
    panels: tuple[Panel, ...]
    across: int
    size: int


def picture(found: Quality) -> Picture:
    """A panel a head of a model, by the root of the mass; else the needles' mass."""
    if found.model is not None:
        drawn = tuple(
            Panel(title=title, grid=[[value**0.5 for value in row] for row in grid])
            for title, grid in found.model.maps
        )
        return Picture(
            title=f"{found.model.name}: mean attention, queries down, keys to the right, by root",
            panels=drawn,
            across=len(drawn) // found.model.layers,
            size=128,
        )
    needle = found.needle
    assert needle is not None  # the command asks for one of the two
    by_variant = _by_variant(needle, "mass")
    grid = [[mass / NEEDLE_MASS for mass in row] for row in by_variant.values()]
    columns = [f"{d:,}" for d in needle.distances]
    panel = Panel(title="tokens before", grid=grid, rows=list(by_variant), columns=columns)
    title = f"a needle's mass kept, {needle.shape.label}"
    return Picture(title=title, panels=(panel,), across=1, size=480)


def _gaussian_table(part: Gaussian) -> Table:
    return Table(
        title=f"Gaussian inputs, {part.shape.label}: error against exact attention",
        columns=(
            Column(key="variant", heading="variant"),
            Column(key="rel_error", heading="rel_error", show=_ERROR, right=True),
            Column(key="row_error_median", heading="median row", show=_ERROR, right=True),
            Column(key="row_error_p95", heading="p95 row", show=_ERROR, right=True),
            Column(key="density", heading="pairs", show=_SHARE, right=True),
            Column(key="mass_kept", heading="mass kept", show=_SHARE, right=True),
        ),
        rows=[
            [
                e.variant + ("" if e.causal is part.shape.causal else " (not causal)"),
                e.rel_error, e.row_error_median, e.row_error_p95, e.density, e.mass_kept,
            ]
            for e in part.errors
        ],
    )  # fmt: skip


def _needle_tables(part: Needle) -> list[Table]:
    made = []
    for name, what, show in (
        ("mass", f"weight put on it (exact: {NEEDLE_MASS:g})", "{:.3f}".format),
        ("error", "error of the output", _ERROR),
    ):
        made.append(
            Table(
                title=f"A needle so many keys before the last token, {part.shape.label}: {what}",
                columns=(
                    Column(key="variant", heading="variant"),
                    *(
                        Column(key=str(d), heading=f"{d:,}", show=show, right=True)
                        for d in part.distances
                    ),
                ),
                rows=[[variant, *row] for variant, row in _by_variant(part, name).items()],
            )
        )
    return made


def _by_variant(part: Needle, figure: str) -> dict[str, list[float]]:
    rows: dict[str, list[float]] = {}
    for point in part.points:  # by distance, then variant
        rows.setdefault(point.variant, []).append(getattr(point, figure))
    return rows


def _model_table(part: Model) -> Table:
    layers = max(len(e.by_layer) for e in part.errors) if part.errors else 0
    return Table(
        title=(
            f"{part.name}: {part.layers} layers, {part.sequences} × {part.tokens} tokens,"
            f" {'causal' if part.causal else 'bidirectional'}:"
            " error against the model's own attention"
        ),
        columns=(
            Column(key="variant", heading="variant"),
            Column(key="rel_error", heading="mean layer", show=_ERROR, right=True),
            Column(key="worst_head", heading="worst head", show=_ERROR, right=True),
            Column(key="density", heading="pairs", show=_SHARE, right=True),
            Column(key="mass_kept", heading="mass kept", show=_SHARE, right=True),
            *(
                Column(key=f"layer_{n}", heading=f"layer {n}", show=_ERROR, right=True)
                for n in range(layers)
            ),
        ),
        rows=[
            [
                e.variant, e.rel_error, e.worst_head, e.density, e.mass_kept, *e.by_layer,
                *[None] * (layers - len(e.by_layer)),
            ]
            for e in part.errors
        ],
    )  # fmt: skip


def _heads_table(part: Model) -> Table:
    first = part.heads[0]
    columns = [
        Column(key="head", heading="layer.head"),
        Column(key="entropy", heading="entropy", show="{:.2f}".format, right=True),
        Column(key="sink_mass", heading=f"first {part.sinks}", show=_SHARE, right=True),
    ]
    if not part.causal:
        columns.append(Column(key="last_mass", heading="last", show=_SHARE, right=True))
    columns += [Column(key=f"window_{s}", heading=f"{s} in", right=True) for s in first.smallest]
    columns += [
        Column(key=f"mass_{w}", heading=f"w {w}", show=_SHARE, right=True) for w in first.windows
    ]
    columns += [Column(key=p, heading=p, show=_SHARE, right=True) for p in first.patterns]
    rows = []
    for head in part.heads:
        last = [] if part.causal else [head.last_mass]
        rows.append([
            f"{head.layer}.{head.head}", head.entropy, head.sink_mass, *last,
            *head.smallest.values(), *head.windows.values(), *head.patterns.values(),
        ])  # fmt: skip
    return Table(title="What each head looks at", columns=tuple(columns), rows=rows)


def _model_notes(part: Model) -> list[str]:
    notes = [
        "entropy in nats; first, last: mass on those tokens; 90% in: the smallest window that"
        " keeps it; w 16 and the patterns: mass kept.",
    ]
    if not part.causal:
        notes.append("Bidirectional: a window of w reaches w // 2 tokens each way.")
    if part.left_out:
        notes.append(f"Left out, as they have no such form: {', '.join(part.left_out)}.")
    return notes


def _assumptions(found: Quality) -> tuple[str, ...]:
    said = ["Errors are of each variant's mathematics in float64; kernels' rounding is apart."]
    names = {e.variant for part in (found.gaussian, found.model) if part for e in part.errors}
    if "linformer" in names:
        said.append("linformer: E and F are random, not trained: a trained model errs less.")
    return tuple(said) if names else ()


def _model_data(part: Model | None) -> Any:
    if part is None:
        return None
    data = msgspec.to_builtins(part)
    del data["maps"]
    return data


def _builtins(part: Any) -> Any:
    return None if part is None else msgspec.to_builtins(part)
