"""`attnbench quality`: made inputs, a run's frontier, and what it refuses."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

Attnbench = Callable[..., Ran]
RUN = Path(__file__).parent.parent / "results" / "xeon-2-cores" / "default"
SMALL = ("--seq-len", "96", "--heads", "2", "--head-dim", "16", "--window", "24")


def test_made_inputs(attnbench: Attnbench) -> None:
    data = attnbench("quality", *SMALL, "--json").json
    assert data["schema"] == "attnbench.quality/1"
    assert data["model"] is data["run"] is data["frontier"] is data["crossovers"] is None
    errors = {e["variant"]: e for e in data["gaussian"]["errors"]}
    assert errors["sliding_window"]["params"]["window"] == 24
    assert errors["linformer"]["causal"] is False
    assert errors["performer"]["mass_kept"] is None
    assert 0 < errors["longformer"]["rel_error"] < errors["linformer"]["rel_error"]
    needle = data["needle"]
    assert needle["distances"] == [1, 4, 16, 64, 95]
    lost = {
        (p["variant"], p["distance"]) for p in needle["points"] if p["mass"] == 0
    }  # fmt: skip
    assert ("sliding_window", 64) in lost
    assert ("sliding_window", 16) not in lost
    assert ("longformer", 95) not in lost, "the first token is global"
    assert any("float64" in a for a in data["assumptions"])


def test_tables_and_settings(attnbench: Attnbench) -> None:
    ran = attnbench(
        "quality", *SMALL, "--variants", "bigbird,strided", "--params", "bigbird:block=8,seed=3",
        "--inputs", "gaussian", "--format", "csv",
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert [row["variant"] for row in rows] == ["bigbird", "strided"]
    assert 0 < float(rows[0]["mass_kept"]) < 1
    shown = attnbench("quality", *SMALL, "--variants", "strided", "--no-causal").out
    assert "A needle so many keys before the last token" in shown


def test_a_run_gives_its_frontier_and_loads_no_torch(attnbench: Attnbench) -> None:
    data = attnbench("quality", "--run", RUN, "--json").json
    assert data["gaussian"] is data["needle"] is data["model"] is None
    by_point = {(r["variant"], r["backend"], r["seq_kv"], r["mode"]): r for r in data["frontier"]}
    naive = by_point["naive", "eager", 16384, "fwd"]
    assert naive["exact"] is True
    assert naive["dominated_by"] == "flash/sdpa", "1 GiB and 6 times the time, as exact"
    crossed = {c["variant"]: c for c in data["crossovers"] if c["reached"] == "crossed"}
    for found in crossed.values():
        slower = max(int(n) for n, ratio in found["ratios"].items() if ratio >= 1)
        faster = min(int(n) for n, ratio in found["ratios"].items() if int(n) > slower)
        assert slower <= found["tokens"] <= faster, "beyond what was measured"
    shown = attnbench("quality", "--run", RUN).out
    assert "Time × memory × error" in shown
    assert "Faster than exact flash from" in shown


def test_needles_as_png(attnbench: Attnbench, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    png = tmp_path / "needles.png"
    ran = attnbench("quality", *SMALL, "--inputs", "needle", "--variants", "strided", "--png", png)
    assert ran.code == 0
    assert png.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--variants", "flash"], "is exact"),
        (["--variants", "perfomer"], "Did you mean performer"),
        (["--inputs", "needles"], "Did you mean needle"),
        (["--inputs", "model"], "of which model"),
        (["--params", "window=3"], "names no variant"),
        (["--params", "strided:windw=3"], "Did you mean window"),
        (["--inputs", "gaussian", "--png", "x.png"], "--png draws needles"),
        (["--run", "nowhere"], "no such run folder"),
        (["--seq-len", "1"], "under 2"),
    ],
)
def test_bad_input(attnbench: Attnbench, arguments: list[str], says: str) -> None:
    ran = attnbench("quality", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
