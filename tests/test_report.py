"""`attnbench report`: a page that stands alone, charts of what was measured, errors."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from _gate_runs import make_rows, write_run

from attnbench.report.chart import Chart, Mark, specification, svg_of
from attnbench.report.run_charts import run_charts
from attnbench.report.sweep_document import sweep_document

VOID = {"meta", "br", "path", "rect", "line"}


class Page(HTMLParser):
    """Tags of a page, whether each is closed, what it loads, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = make_rows(24)
    wrong = replace(
        rows[1], status="incorrect", time_ms=None, note="kernel_error 0.1 <b>over</b> | 1e-6"
    )
    return write_run(tmp_path / "first", [rows[0], wrong, *rows[2:]])


def test_a_page_stands_alone_and_is_well_formed(
    folder: Path, tmp_path: Path, attnbench: Callable[..., Any]
) -> None:
    ran = attnbench("report", str(folder), "--output", str(tmp_path / "page.html"))
    assert (ran.code, ran.out) == (0, "")
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert "script" not in page.tags
    assert not re.search(r"url\((?!#)", text)
    assert page.tags.count("figure") == 3, "time, workspace, error; no rate is known"
    assert page.tags.count("h1") == 1
    assert "<b>over</b>" in page.text, "a note's text is text"
    assert "CPU X, 2 cores" in page.text


def test_charts_hold_the_figures_of_the_rows() -> None:
    rows = [replace(r, time_ms_ci_low=r.time_ms * 0.9, time_ms_ci_high=r.time_ms * 1.1,
                    roofline_ms=r.time_ms / 2, achieved_flops_per_s=2e12)
            for r in make_rows(12)]  # fmt: skip
    time, rate, workspace, error = run_charts({"a": rows})
    measured = [mark for mark in time.marks if not mark.predicted]
    assert [(m.x, m.y, m.low, m.high) for m in measured] == [
        (r.seq_kv, r.time_ms, r.time_ms_ci_low, r.time_ms_ci_high) for r in rows
    ]
    assert [m.y for m in time.marks if m.predicted] == [r.roofline_ms for r in rows]
    assert {mark.y for mark in rate.marks} == {2.0}
    assert {mark.y for mark in workspace.marks} == {1e6 / 2**20}
    assert {mark.x for mark in error.marks} == {r.time_ms for r in rows if r.seq_kv == 320}


def test_one_length_has_no_line_and_untimed_points_no_mark() -> None:
    rows = make_rows(6)
    assert [chart.joined for chart in run_charts({"a": rows})] == [False]
    failed = [replace(row, status="error", time_ms=None) for row in rows]
    assert run_charts({"a": failed}) == ()


def test_series_of_several_runs_are_told_apart() -> None:
    time = run_charts({"a": make_rows(12), "b": make_rows(12)})[0]
    assert {mark.series for mark in time.marks} >= {"naive/eager, a", "naive/eager, b"}


def test_a_drawn_chart_has_its_axes_series_and_every_mark() -> None:
    marks = tuple(
        Mark(series=s, x=x, y=y, low=y / 2, high=y * 2)
        for s, y in (("one", 1.0), ("two", 5.0))
        for x in (1024, 2048, 1500)
    )
    svg = svg_of([Chart(title="A title", x="tokens", y="ms", marks=marks)])[0]
    for word in ("A title", "tokens", "ms", "one", "two", "1k", "2k", "1,500"):
        assert f">{word}<" in svg
    assert svg.count('aria-roledescription="point"') == 6
    assert svg.count('aria-roledescription="rule mark"') >= 6


def test_a_specification_is_plain_json() -> None:
    chart = Chart(title="t", x="x", y="y", marks=(Mark(series="s", x=1, y=1e-9),), joined=False)
    assert json.loads(json.dumps(specification(chart), allow_nan=False))["data"]["values"]


def test_several_runs_are_compared(
    folder: Path, tmp_path: Path, attnbench: Callable[..., Any]
) -> None:
    rows = [replace(row, time_ms=row.time_ms * 2) for row in make_rows(24)]
    other = write_run(tmp_path / "second", rows)
    ran = attnbench("report", str(folder), str(other))
    assert ran.code == 0
    assert "Time, run by run" in ran.out
    assert "2.000" in ran.out
    found = attnbench("report", str(folder), str(other), "--json").json
    assert found["schema"] == "attnbench.report/1"
    assert [run["run"] for run in found["runs"]] == [str(folder), str(other)]
    assert len(found["runs"][1]["rows"]) == 24
    assert found["runs"][1]["frontier"]


def test_plots_are_png(folder: Path, tmp_path: Path, attnbench: Callable[..., Any]) -> None:
    ran = attnbench("report", str(folder), "--plots", str(tmp_path / "plots"), "--format", "csv")
    assert ran.code == 0
    assert ran.out.startswith("run,variant,backend,")
    drawn = sorted((tmp_path / "plots").iterdir())
    assert len(drawn) == 3
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    assert any(path.name.startswith("time-fwd-fp32") for path in drawn)


def test_the_format_is_the_endings(
    folder: Path, tmp_path: Path, attnbench: Callable[..., Any]
) -> None:
    attnbench("report", str(folder), "--output", str(tmp_path / "a.md"))
    assert (tmp_path / "a.md").read_text().startswith("### What was run")
    attnbench("report", str(folder), "--output", str(tmp_path / "a.json"))
    assert json.loads((tmp_path / "a.json").read_text())["runs"]
    ran = attnbench("report", str(folder), "--output", str(tmp_path / "a.pdf"))
    assert ran.code == 2
    assert "a.pdf" in ran.err
    assert ".html" in ran.err


def test_what_cannot_be_reported_is_said(
    folder: Path, tmp_path: Path, attnbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attnbench("report", str(tmp_path / "none")).code == 2
    failed = [replace(row, status="error", time_ms=None, note="broke") for row in make_rows(2)]
    untimed = write_run(tmp_path / "untimed", failed)
    ran = attnbench("report", str(untimed))
    assert ran.code == 0
    assert "Points without figures" in ran.out
    assert attnbench("report", str(untimed), "--plots", str(tmp_path / "p")).code == 5
    assert not (tmp_path / "p").exists()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    ran = attnbench("report", str(folder), "--format", "html")
    assert ran.code == 3
    assert "attnbench[report]" in ran.err


def test_a_length_that_a_variant_was_not_asked_is_an_empty_cell() -> None:
    long, short = (replace(make_rows(1)[0], seq_q=n, seq_kv=n) for n in (2048, 1024))
    checked = replace(short, backend="triton", status="interpreted", time_ms=None)
    (table,) = sweep_document([short, long, checked], Path("run"), slopes={}).tables
    assert [row[0:3] for row in table.rows][1] == ["naive/triton", "checked", None]


def test_times_of_a_disturbed_machine_are_counted() -> None:
    quiet, busy = make_rows(1)[0], make_rows(2)[1]
    busy = replace(busy, note="disturbed: its threads waited 43% of their time for a core")
    assert sweep_document([quiet], Path("run"), slopes={}).warnings == ()
    (warning,) = sweep_document([quiet, busy], Path("run"), slopes={}).warnings
    assert warning.startswith("1 of 2 times")
