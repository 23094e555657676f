"""Prefill and decode of a model for people: a row a phase and length, totals beneath."""

from typing import Any

import msgspec

from attnbench.files import plain
from attnbench.phases.answer import DECODE, PhaseRow, PhasesAnswer
from attnbench.report.chart import Chart, Mark
from attnbench.report.document import Column, Document, Table
from attnbench.units import format_gib, format_ms, format_rate

_SHOWN_STEPS = 5
_COLUMNS = (
    Column(key="phase", heading="phase"),
    Column(key="tokens", heading="tokens", show="{:,}".format, right=True),
    Column(key="time_ms", heading="ms", show=format_ms, right=True),
    Column(key="time_ms_p20", heading="p20", show=format_ms, right=True),
    Column(key="time_ms_p80", heading="p80", show=format_ms, right=True),
    Column(key="tokens_per_s", heading="tokens/s", show="{:,.1f}".format, right=True),
    Column(
        key="flops_per_s", heading="FLOP/s", show=lambda x: format_rate(x, "FLOP/s"), right=True
    ),
    Column(
        key="weight_bytes_per_s", heading="weights", show=lambda x: format_rate(x, "B/s"),
        right=True,
    ),
    Column(key="cache_bytes", heading="cache", show=format_gib, right=True),
    Column(key="predicted_cache_bytes", heading="predicted", show=format_gib, right=True),
)  # fmt: skip


def phases_document(answer: PhasesAnswer) -> Document:
    """The document: some steps for people, each in JSON and CSV."""
    rows = [msgspec.structs.asdict(row) for row in answer.rows]
    return Document(
        schema="attnbench.phases/1",
        title=f"{answer.model}: prefill and decode on {answer.device.name}",
        data={**_data(answer), "rows": rows},
        tables=(
            Table(
                columns=_COLUMNS,
                rows=[[getattr(row, c.key) for c in _COLUMNS] for row in _some(answer.rows)],
            ),
        ),
        records=Table(
            columns=tuple(Column(key=name, heading=name) for name in PhaseRow.__struct_fields__),
            rows=[list(row.values()) for row in rows],
        ),
        notes=tuple(_notes(answer)),
        assumptions=tuple(_assumptions(answer)),
        charts=_charts(answer),
    )


def _some(rows: tuple[PhaseRow, ...]) -> list[PhaseRow]:
    """All but the steps in between: first, last and a few."""
    steps = [row for row in rows if row.phase == DECODE]
    count = min(_SHOWN_STEPS, len(steps))
    places = {round(i * (len(steps) - 1) / max(count - 1, 1)) for i in range(count)}
    kept = {id(steps[place]) for place in places}
    return [row for row in rows if row.phase != DECODE or id(row) in kept]


def _data(answer: PhasesAnswer) -> dict[str, Any]:
    whole = {name: getattr(answer, name) for name in answer.__struct_fields__}
    del whole["rows"]
    traffic = msgspec.structs.asdict(whole.pop("traffic"))
    device = msgspec.structs.asdict(whole.pop("device"))
    return dict(plain({**whole, "dtype": str(answer.dtype), **traffic, "device": device}))


def _notes(answer: PhasesAnswer) -> list[str]:
    notes = [
        f"TTFT {format_ms(answer.ttft_ms)} ms, ITL {format_ms(answer.itl_ms)} ms,"
        f" {answer.traffic.new_tokens} tokens in {format_ms(answer.total_ms)} ms"
        f" (first call {format_ms(answer.first_call_ms)} ms)."
    ]
    if answer.total_ms_without_cache is not None and answer.itl_ms_without_cache is not None:
        times = answer.total_ms_without_cache / answer.total_ms
        notes.append(
            f"Without a cache: ITL {format_ms(answer.itl_ms_without_cache)} ms,"
            f" {format_ms(answer.total_ms_without_cache)} ms in all, {times:.1f} times as long."
        )
    if answer.cache_bytes_per_token is not None:
        notes.append(
            f"The cache grows by {answer.cache_bytes_per_token:,.0f} bytes a token of a sequence;"
            f" the calculator says {answer.predicted_bytes_per_token:,}."
        )
    return notes


def _assumptions(answer: PhasesAnswer) -> list[str]:
    made = [
        "FLOP/s: two operations a visited weight and new token, attention's own left out",
        "weights: every weight read once a pass; a mixture of experts reads fewer at small batches",
        "tokens are drawn at random; the next is chosen greedily and thrown away",
    ]
    if answer.drawn:
        made.insert(0, "weights are drawn: times do not depend on them, what is said does")
    if answer.total_ms_without_cache is not None:
        made.append("without a cache some lengths were timed; those between are interpolated")
    return made


def _charts(answer: PhasesAnswer) -> tuple[Chart, ...]:
    marks = tuple(
        Mark(
            series=row.phase, x=row.tokens, y=row.time_ms,
            low=row.time_ms_ci_low or None, high=row.time_ms_ci_high,
        )
        for row in answer.rows
    )  # fmt: skip
    return (Chart(title="Time of a pass", x="tokens", y="ms", marks=marks, doubling=False),)
