"""`attnbench compare`: the same points side by side."""

import csv
import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from _gate_runs import make_rows, write_run
from conftest import Ran

Attnbench = Callable[..., Ran]
ROWS = make_rows(12)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    changed = [replace(r, status="oom", time_ms=None, note="x") if i == 2 else r
               for i, r in enumerate(ROWS[:-1])]  # fmt: skip
    return [
        write_run(tmp_path / "a", ROWS, 1),
        write_run(tmp_path / "b", changed, 2, slower={4: 1.5}),
        write_run(tmp_path / "c", [*ROWS, make_rows(13)[-1]], 3),
    ]


def test_side_by_side(attnbench: Attnbench, runs: list[Path]) -> None:
    found = attnbench("compare", *runs, "--json")
    assert found.code == 0
    assert found.json["schema"] == "attnbench.compare/1"
    assert [Path(r["run"]).name for r in found.json["runs"]] == ["a", "b", "c"]
    points = found.json["points"]
    assert len(points) == 13
    slow = points[4]
    assert slow["ratio_2"] == pytest.approx(slow["value_2"] / slow["value_1"])
    assert 1.4 < slow["ratio_low_2"] < slow["ratio_2"] < slow["ratio_high_2"] < 1.6
    oom, lost, new = points[2], points[11], points[12]
    assert (oom["status_2"], oom["value_2"], oom["ratio_2"]) == ("oom", None, None)
    assert lost["status_2"] is None
    assert (new["status_1"], new["status_3"], new["ratio_3"]) == (None, "ok", None)


def test_formats_and_another_metric(attnbench: Attnbench, runs: list[Path]) -> None:
    table = attnbench("compare", *runs)
    assert "2 / 1" in table.out
    assert "oom" in table.out
    text = attnbench("compare", *runs, "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert float(rows[4]["ratio_low_2"]) > 1.4
    memory = attnbench("compare", *runs, "--metric", "peak_memory_bytes", "--json").json
    assert memory["points"][0]["value_1"] == ROWS[0].peak_memory_bytes
    assert isinstance(memory["points"][0]["value_1"], int)
    assert memory["points"][0]["ratio_2"] == 1.0
    assert memory["points"][0]["ratio_low_2"] is None
    assert "MiB" in attnbench("compare", *runs, "--metric", "peak_memory_bytes").out


def test_bad_input(attnbench: Attnbench, runs: list[Path], tmp_path: Path) -> None:
    assert attnbench("compare", runs[0]).code == 2
    assert attnbench("compare").code == 2
    assert attnbench("compare", runs[0], tmp_path / "none").code == 2
    assert attnbench("compare", *runs, "--metric", "time_ms,rel_error").code == 2
    other = write_run(tmp_path / "other", [replace(r, batch=9) for r in ROWS])
    assert attnbench("compare", runs[0], other).code == 5


def test_without_pandas_the_one_line_that_installs_it(
    attnbench: Attnbench, runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    found = attnbench("compare", *runs)
    assert found.code == 3
    assert "pip install 'attnbench[bench]'" in found.err
