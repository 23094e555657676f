"""What `patterns` shows: pictures in characters, a row a pattern, receptive fields."""

from collections.abc import Mapping
from typing import Any

import msgspec

from attnbench.calc.pattern_answer import PatternAnswer
from attnbench.calc.pattern_picture import Grid
from attnbench.report.document import Column, Document, Figure, Table
from attnbench.report.png import Panel
from attnbench.spec.attention import AttentionShape
from attnbench.units import format_gib, format_rate

_SHADES = "░▒▓█"
_ACROSS = 3
_SUMMARY = (
    Column(key="pattern", heading="pattern"),
    Column(key="pairs", heading="pairs a head", show="{:,}".format, right=True),
    Column(key="density", heading="density", show="{:.2%}".format, right=True),
    Column(key="share_of_full", heading="of full", show="{:.2%}".format, right=True),
    Column(key="flops", heading="forward", show=lambda n: format_rate(n, "FLOP"), right=True),
    Column(
        key="flops_backward", heading="backward", show=lambda n: format_rate(n, "FLOP"), right=True
    ),
    Column(key="bytes_min", heading="bytes fwd", show=format_gib, right=True),
    Column(key="layers_to_all", heading="layers to all", right=True),
    Column(key="pairs_formula", heading="pairs ="),
)


def document(
    answers: Mapping[str, PatternAnswer], shape: AttentionShape, settings: Mapping[str, Any]
) -> Document:
    """The document of the patterns at `shape`; `settings` are each one's own."""
    data = [_record(name, a, settings[name]) for name, a in answers.items()]
    rows = [[record[c.key] for c in _SUMMARY] for record in data]
    token = next(iter(answers.values())).token
    exact = all(a.grid_exact for a in answers.values())
    return Document(
        schema="attnbench.patterns/1",
        data={
            "seq_len": shape.seq_kv, "causal": shape.causal, "batch": shape.batch,
            "heads": shape.heads, "kv_heads": shape.kv_heads, "head_dim": shape.head_dim,
            "dtype": shape.dtype, "token": token, "patterns": data,
        },
        figures=_figures(answers),
        tables=(
            Table(columns=_SUMMARY, rows=rows, title=shape.label),
            _field_table(answers, token),
        ),
        notes=(
            "Queries run down, keys to the right; · none, ░ ▒ ▓ █ up to 25, 50, 75, 100% attended"
            + ("." if exact else ", from 64 queries a cell."),
            "forward 4 · pairs · head_dim, backward 2.5 × that, of all heads and sequences;"
            " bytes: Q and O, and the K and V attended, once each.",
            "layers to all: after which that token sees every key it may, at any depth; - never.",
        ),
    )  # fmt: skip


def panels(answers: Mapping[str, PatternAnswer]) -> list[Panel]:
    """A panel a pattern, for a PNG; densities by their root, so that single stripes show."""
    return [
        Panel(
            title=f"{name}  {answer.density:.2%} of pairs",
            grid=[[value**0.5 for value in row] for row in answer.grid],
        )
        for name, answer in answers.items()
    ]


def _record(name: str, answer: PatternAnswer, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pattern": name,
        "params": dict(settings),
        "pairs": answer.pairs,
        "density": answer.density,
        "share_of_full": answer.share_of_full,
        "flops": answer.cost_forward.flops,
        "flops_backward": answer.cost_backward.flops,
        "bytes_min": answer.cost_forward.bytes_min,
        "bytes_min_backward": answer.cost_backward.bytes_min,
        "layers_to_all": answer.layers_to_all,
        "pairs_formula": answer.words.pairs,
        "field_formula": answer.words.field,
        "fields": [msgspec.to_builtins(field) for field in answer.fields],
    }


def _field_table(answers: Mapping[str, PatternAnswer], token: int) -> Table:
    layers = max(len(answer.fields) for answer in answers.values())
    rows = []
    for name, answer in answers.items():
        cells = [_field(f.keys, f.back, f.ahead) for f in answer.fields]
        # A field that has stopped growing stays as it is.
        rows.append([name, *cells, *[cells[-1]] * (layers - len(cells)), answer.words.field])
    return Table(
        title=f"what token {token:,} sees: keys (how far back, ahead)",
        columns=(
            Column(key="pattern", heading="pattern"),
            *(Column(key=str(n), heading=f"L = {n}", right=True) for n in range(1, layers + 1)),
            Column(key="formula", heading="after L layers"),
        ),
        rows=rows,
    )


def _field(keys: int, back: int, ahead: int) -> str:
    far = f"{back:,}" + (f", {ahead:,}" if ahead else "")
    return f"{keys:,} ({far})"


def _figures(answers: Mapping[str, PatternAnswer]) -> tuple[Figure, ...]:
    """Pictures side by side, three to a row."""
    drawn = [(f"{name} {a.density:.1%}", _draw(a.grid)) for name, a in answers.items()]
    figures = []
    for start in range(0, len(drawn), _ACROSS):
        beside = drawn[start : start + _ACROSS]
        widths = [max(len(title), len(lines[0])) for title, lines in beside]
        padded = [
            "  ".join(line.ljust(width) for line, width in zip(row, widths, strict=True)).rstrip()
            for row in zip(*(lines for _, lines in beside), strict=True)
        ]
        titles = [title.ljust(width) for (title, _), width in zip(beside, widths, strict=True)]
        figures.append(Figure(title="  ".join(titles).rstrip(), lines=tuple(padded)))
    return tuple(figures)


def _draw(grid: Grid) -> list[str]:
    return ["".join(map(_shade, row)) for row in grid]


def _shade(density: float) -> str:
    return "·" if density == 0 else _SHADES[min(3, int(density * 4))]
