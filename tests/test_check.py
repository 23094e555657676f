"""`attnbench check` as a user meets it: exit codes, formats, files, bad input."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from _gate_runs import make_rows, write_run
from conftest import Ran

from attnbench.gate.baseline import MAX_RUNS
from attnbench.gate.verdict import Word

Attnbench = Callable[..., Ran]
ROWS = make_rows(18)
CONTRACT = {
    "point", "metric", "verdict", "baseline", "current", "ratio", "ratio_low", "ratio_high",
    "minimum_detectable",
}  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_run(tmp_path / "base", ROWS, 1)


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    return write_run(tmp_path / "slow", ROWS, 2, slower={4: 1.5})


def test_a_run_passes_against_itself_and_its_like(
    attnbench: Attnbench, base: Path, tmp_path: Path
) -> None:
    again = write_run(tmp_path / "again", ROWS, 3)
    for run in (base, again):
        found = attnbench("check", run, "--baseline", base, "--json")
        assert found.code == 0
        assert found.json["schema"] == "attnbench.check/1"
        assert found.json["passed"] is True
        assert set(found.json["counts"]) == {"SAME"}
        assert found.json["verdicts"][0].keys() >= CONTRACT
        assert found.err == ""


def test_a_slow_point_fails_and_stands_first(attnbench: Attnbench, base: Path, slow: Path) -> None:
    found = attnbench("check", slow, "--baseline", base, "--json")
    assert found.code == 1
    first = found.json["verdicts"][0]
    assert (first["metric"], first["verdict"], first["failed"]) == ("time_ms", "SLOWER", True)
    assert first["ratio"] == pytest.approx(first["current"] / first["baseline"])
    assert first["ratio_low"] > 1.05
    assert found.json["failed"] == 1


def test_a_small_slowdown_between_single_runs_is_unsure(
    attnbench: Attnbench, base: Path, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", ROWS, 2, slower={4: 1.15})
    found = attnbench("check", run, "--baseline", base, "--json")
    assert found.code == 0
    assert found.json["counts"]["UNSURE"] == 1
    assert found.json["verdicts"][0]["minimum_detectable"] >= 1.25


def test_a_selfcheck_in_the_run_sees_more(attnbench: Attnbench, base: Path, tmp_path: Path) -> None:
    record = {"log_sd": 0.006, "dof": 60}
    run = write_run(tmp_path / "run", ROWS, 2, slower={4: 1.15}, selfcheck=record)
    found = attnbench("check", run, "--baseline", base, "--json")
    assert found.code == 1
    assert found.json["noise"]["source"] == "a selfcheck"


def test_every_format_and_output(
    attnbench: Attnbench, base: Path, slow: Path, tmp_path: Path
) -> None:
    table = attnbench("check", slow, "--baseline", base)
    assert "SLOWER (failed)" in table.out
    assert "1 FAILED: 18 points" in table.out
    assert "Smallest slowdown that would have been called" in table.out
    markdown = attnbench("check", slow, "--baseline", base, "--format", "markdown")
    assert "| SLOWER (failed) |" in markdown.out
    out = tmp_path / "verdicts.csv"
    written = attnbench("check", slow, "--baseline", base, "--format", "csv", "--output", out)
    assert (written.code, written.out) == (1, "")
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert rows[0].keys() >= CONTRACT
    assert rows[0]["verdict"] == "SLOWER"
    assert len(rows) == len(attnbench("check", slow, "--baseline", base, "--json").json["verdicts"])


def test_junit(attnbench: Attnbench, base: Path, slow: Path, tmp_path: Path) -> None:
    odd = [replace(r, params='{"a":"<&\\u0001"}') for r in ROWS[:2]]
    odd += [replace(r, params='{"b":1}') for r in ROWS[:2]]
    for run, before in ((slow, base), (write_run(tmp_path / "odd", odd), tmp_path / "odd")):
        file = tmp_path / "junit.xml"
        code = attnbench("check", run, "--baseline", before, "--junit", file).code
        suite = ElementTree.parse(file).getroot()[0]
        cases = suite.findall("testcase")
        assert len(cases) == int(suite.attrib["tests"])
        assert len({(c.attrib["classname"], c.attrib["name"]) for c in cases}) == len(cases)
        assert len(suite.findall(".//failure")) == int(suite.attrib["failures"]) == code


def test_github(
    attnbench: Attnbench, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    run = write_run(tmp_path / "run", ROWS, 2, slower=dict.fromkeys(range(18), 2.0) | {3: 4.0})
    found = attnbench("check", run, "--baseline", base, "--github", "--json")
    lines = found.err.splitlines()
    assert found.json["failed"] == 18
    assert len(lines) == 9
    assert all(line.startswith("::error title=time_ms SLOWER::") for line in lines)
    assert "strided/eager" in lines[0]  # the worst
    assert lines[-1].endswith("(and 9 more: see the step's summary)")
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n## attnbench check")
    assert text.count("SLOWER (failed)") == 18


def test_github_without_failures_says_nothing(
    attnbench: Attnbench, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert attnbench("check", base, "--baseline", base, "--github").err == ""


def test_another_device_exits_4_but_ratios_compare(
    attnbench: Attnbench, base: Path, tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", [replace(r, device="GPU Y") for r in ROWS], 2)
    found = attnbench("check", other, "--baseline", base)
    assert found.code == 4
    assert "CPU X" in found.err
    assert "GPU Y" in found.err
    assert "--relative-to naive" in found.err
    assert attnbench("check", other, "--baseline", base, "--relative-to", "naive").code == 0


def test_another_number_of_threads_is_another_machine(
    attnbench: Attnbench, base: Path, tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", ROWS, 2, threads=8)
    found = attnbench("check", other, "--baseline", base)
    assert found.code == 4
    assert "8 threads" in found.err


def test_times_of_another_cache_regime_are_not_comparable(
    attnbench: Attnbench, base: Path, tmp_path: Path
) -> None:
    cold = write_run(tmp_path / "cold", [replace(r, cache_regime="cold") for r in ROWS], 2)
    found = attnbench("check", cold, "--baseline", base)
    assert found.code == 4
    assert "cache_regime was warm, is cold" in found.err
    assert attnbench("check", cold, "--baseline", base, "--metric", "rel_error").code == 0


def test_update_blesses_and_the_file_judges(attnbench: Attnbench, tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    for seed in range(4):
        run = write_run(tmp_path / f"run{seed}", ROWS, seed)
        found = attnbench("check", "--update", run, "--baseline", file, "--json")
        assert found.code == 0
        assert found.json["runs"] == seed + 1
    slow = write_run(tmp_path / "slow", ROWS, 8, slower={4: 1.15})
    found = attnbench("check", slow, "--baseline", file, "--json")
    assert found.code == 1
    assert found.json["noise"]["source"] == "4 runs of the baseline"
    fine = write_run(tmp_path / "fine", ROWS, 9)
    assert attnbench("check", fine, "--baseline", file).code == 0


def test_a_baseline_file_keeps_a_set_a_device_capped_and_no_run_twice(
    attnbench: Attnbench, tmp_path: Path
) -> None:
    file = tmp_path / "baseline.json"
    other = write_run(tmp_path / "gpu", [replace(r, device="GPU Y") for r in ROWS], 77)
    attnbench("check", "--update", other, "--baseline", file)
    runs = [write_run(tmp_path / f"run{seed}", ROWS, seed) for seed in range(MAX_RUNS + 1)]
    for run in (*runs, runs[-1]):
        attnbench("check", "--update", run, "--baseline", file)
    devices = json.loads(file.read_text(encoding="utf-8"))["devices"]
    assert {name: len(held) for name, held in devices.items()} == {
        "GPU Y": 1,
        "CPU X, 2 cores": MAX_RUNS,
    }
    assert attnbench("check", other, "--baseline", file).code == 0
    assert attnbench("check", runs[0], "--baseline", file).code == 0


def test_tolerances_in_the_file_are_kept_and_applied(
    attnbench: Attnbench, base: Path, slow: Path, tmp_path: Path
) -> None:
    file = tmp_path / "baseline.json"
    attnbench("check", "--update", base, "--baseline", file)
    assert attnbench("check", slow, "--baseline", file).code == 1
    text = json.loads(file.read_text(encoding="utf-8"))
    wide = {"match": {"variant": ROWS[4].variant}, "max_slowdown": 3.0}
    file.write_text(json.dumps(text | {"tolerances": [wide]}), encoding="utf-8")
    attnbench("check", "--update", base, "--baseline", file)
    assert attnbench("check", slow, "--baseline", file).code == 0


def test_missing_points(attnbench: Attnbench, base: Path, tmp_path: Path) -> None:
    fewer = write_run(tmp_path / "fewer", ROWS[:-1], 2)
    assert attnbench("check", fewer, "--baseline", base).code == 1
    assert attnbench("check", fewer, "--baseline", base, "--missing", "warn").code == 0
    none = write_run(tmp_path / "none", [replace(r, batch=2) for r in ROWS], 2)
    assert attnbench("check", none, "--baseline", base).code == 5


def _bad_run(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "base"
    results = folder / "results.csv"
    if name == "no run.json":
        (folder / "run.json").unlink()
    elif name == "run.json":
        (folder / "run.json").write_text("{", encoding="utf-8")
    elif name == "run schema":
        (folder / "run.json").write_text('{"schema": "attnbench.run/2"}', encoding="utf-8")
    elif name == "value":
        text = results.read_text(encoding="utf-8").replace(",ok,", ",fine,", 1)
        results.write_text(text, encoding="utf-8")
    elif name == "samples":
        (folder / "samples.jsonl").write_text('{"key": 1}\n', encoding="utf-8")
    elif name == "no samples":
        (folder / "samples.jsonl").write_text(
            '{"key": [], "round": 0, "samples_ms": []}\n', encoding="utf-8"
        )
    elif name == "no rows":
        results.write_text(results.read_text(encoding="utf-8").partition("\n")[0] + "\n")
    elif name == "zero":
        results.write_text(
            results.read_text(encoding="utf-8").replace(",ok,0.", ",ok,-0.", 1), encoding="utf-8"
        )


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("no run.json", 2, "run.json: No such file"),
        ("run.json", 2, "run.json: Input data was truncated"),
        ("run schema", 4, "schema is 'attnbench.run/2', not 'attnbench.run/1'"),
        ("value", 2, "results.csv:2: status: 'fine' is not one of"),
        ("samples", 2, "samples.jsonl:1: "),
        ("no samples", 2, "samples.jsonl:1: samples_ms"),
        ("no rows", 5, "has no point"),
        ("zero", 2, "is not over 0"),
    ],
)
def test_a_broken_run_is_named(
    attnbench: Attnbench, base: Path, tmp_path: Path, name: str, code: int, says: str
) -> None:
    _bad_run(tmp_path, name)
    found = attnbench("check", base, "--baseline", base)
    assert (found.code, found.out) == (code, "")
    assert says in found.err
    assert len(found.err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (None, 4, "no such baseline"),
        ("{", 2, "truncated"),
        ("[]", 2, "Expected `object`"),
        ('{"schema": "attnbench.baseline/2"}', 4, "not 'attnbench.baseline/1'"),
        ('{"schema": "attnbench.baseline/1"}', 4, "holds no run"),
        ('{"schema": "attnbench.baseline/1", "devices": {"x": 1}}', 2, "devices"),
        ('{"schema": "attnbench.baseline/1", "device": {}}', 2, "unknown field `device`"),
    ],
)
def test_a_broken_baseline_is_named(
    attnbench: Attnbench, base: Path, tmp_path: Path, text: str | None, code: int, says: str
) -> None:
    file = tmp_path / "baseline.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    found = attnbench("check", base, "--baseline", file)
    assert (found.code, found.out) == (code, "")
    assert says in found.err
    if text is not None and "devices" not in text and code != 4:
        assert attnbench("check", "--update", base, "--baseline", file).code == code
        assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--metric", "speed", "unknown metric 'speed'"),
        ("--metric", ",", "none is named"),
        ("--max-slowdown", "0.9", "is no factor"),
        ("--max-error-growth", "nan", "is no factor"),
        ("--missing", "maybe", "maybe"),
        ("--relative-to", "naif", "Did you mean naive"),
        ("--junit", "/nowhere/at/all.xml", "/nowhere/at/all.xml"),
    ],
)
def test_bad_options(attnbench: Attnbench, base: Path, option: str, value: str, says: str) -> None:
    found = attnbench("check", base, "--baseline", base, option, value)
    assert found.code == 2
    assert says in found.err


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"status": "ok"', '"status": "fine"'),
        ('"dtype": "fp32"', '"dtype": "fp31"'),
        ('"time_ms": ', '"time_ms": -'),
        ('"rounds_ms": {"0": ', '"rounds_ms": {"0": -'),
    ],
)
def test_a_baseline_is_checked_as_a_run_is(
    attnbench: Attnbench, base: Path, tmp_path: Path, old: str, new: str
) -> None:
    file = tmp_path / "baseline.json"
    attnbench("check", "--update", base, "--baseline", file)
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    found = attnbench("check", base, "--baseline", file)
    assert found.code == 2
    assert "unexpected" not in found.err


def test_wild_rounds_overflow_nothing(attnbench: Attnbench, base: Path, tmp_path: Path) -> None:
    wild = write_run(tmp_path / "wild", ROWS[:6], 2)
    lines = [
        json.dumps({"key": list(row.key), "round": number, "samples_ms": [sample]})
        for row in ROWS[:6]
        for number, sample in enumerate((1e-300, 1e300))
    ]
    (wild / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = attnbench("check", wild, "--baseline", base, "--missing", "warn", "--json")
    assert found.code == 0
    assert attnbench("compare", wild, base, "--json").code == 0


def test_update_refuses_a_folder_and_a_run_with_nothing_ok(
    attnbench: Attnbench, base: Path, tmp_path: Path
) -> None:
    assert attnbench("check", "--update", base, "--baseline", base).code == 2
    bad = [replace(r, status="error", time_ms=None) for r in ROWS]
    run = write_run(tmp_path / "bad", bad)
    file = tmp_path / "baseline.json"
    assert attnbench("check", "--update", run, "--baseline", file).code == 2
    assert not file.exists()


def test_a_torn_last_line_of_samples_is_passed_over(attnbench: Attnbench, base: Path) -> None:
    with (base / "samples.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"key": ["nai')
    assert attnbench("check", base, "--baseline", base).code == 0


def test_check_loads_no_torch_and_no_pandas(base: Path) -> None:
    code = (
        "import sys; from attnbench.cli import run; "
        f"code = run(['check', {str(base)!r}, '--baseline', {str(base)!r}, '--json']); "
        "sys.exit(code or bool({'torch', 'pandas', 'triton'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_word_is_the_contracts() -> None:
    assert {w.value for w in Word} == {
        "SAME", "FASTER", "SLOWER", "UNSURE", "MISSING", "NOT_COMPARABLE",
    }  # fmt: skip
