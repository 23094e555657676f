"""`attnbench kernels check`: budgets of compiled kernels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

pytest.importorskip("torch")
triton = pytest.importorskip("triton")

from attnbench.aot import budgets, survey  # noqa: E402
from attnbench.aot.facts import KernelFacts  # noqa: E402
from attnbench.aot.survey import Failed  # noqa: E402
from attnbench.errors import UserError  # noqa: E402

SOUND: dict[str, Any] = {
    "kernel": "flash_fwd", "entry": "_flash_fwd", "target": "sm_90", "head_dim": 64,
    "dtype": "bfloat16", "features": "plain", "config": {"block_m": 128}, "registers": 128,
    "spill_bytes": 0, "shared_bytes": 1 << 16, "shared_limit_bytes": 227 << 10,
    "ctas_per_sm": 2, "ctas_limit": "registers", "mma": "HGMMA", "mma_redundancy": 1.0,
    "load_bits": 128, "exp2_overlap": 0.95, "loop_instructions": 500,
    "loop_instructions_per_mma_flop": 1e-4, "barriers": 2, "bulk_loads": True,
}  # fmt: skip


def facts(**changes: Any) -> KernelFacts:
    return KernelFacts(**SOUND | changes)


def failed(**changes: Any) -> Failed:
    about = {name: SOUND[name] for name in ("kernel", "entry", "target", "head_dim", "features")}
    return Failed(**about | {"why": "timeout"} | changes)


BUDGET = budgets.budget_of(facts())


@pytest.mark.parametrize(
    ("changes", "metric", "says"),
    [
        ({"spill_bytes": 8}, "spill_bytes", "spills 8 B a thread"),
        ({"shared_bytes": 300_000, "ctas_per_sm": 0}, "shared_bytes", "over the 232448 B"),
        ({"ctas_per_sm": 0}, "ctas_per_sm", "no program fits"),
        ({"ctas_per_sm": 1}, "ctas_per_sm", "1 programs an SM, were 2"),
        ({"mma": "HMMA"}, "mma", "by HMMA, were by HGMMA"),
        ({"bulk_loads": False}, "bulk_loads", "no TMA any more"),
        ({"mma_redundancy": 1.5}, "mma_redundancy", "1.50, was 1.00"),
        ({"mma_redundancy": None}, "mma_redundancy", "none, was 1.00"),
        ({"load_bits": 32}, "load_bits", "of 32 bits, were of 128"),
        ({"exp2_overlap": 0.0}, "exp2_overlap", "0.00, were 0.95"),
        ({"loop_instructions": 526}, "loop_instructions", "526 instructions, was of 500"),
    ],
)
def test_each_limit_is_held(changes: dict[str, Any], metric: str, says: str) -> None:
    (verdict,) = budgets.judge([facts(**changes)], [BUDGET])
    assert verdict.failed
    assert verdict.metric == metric
    assert says in verdict.reason


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loop_instructions": 525},
        {"exp2_overlap": 0.94},
        {"registers": 255},
        {"config": {"block_m": 64}},
        {"ctas_per_sm": 3, "loop_instructions": 300, "exp2_overlap": 1.0},
    ],
)
def test_what_is_as_good_passes(changes: dict[str, Any]) -> None:
    (verdict,) = budgets.judge([facts(**changes)], [BUDGET])
    assert not verdict.failed
    assert verdict.verdict == "SAME"


def test_a_budget_may_allow_a_spill() -> None:
    allowed = budgets.budget_of(facts(spill_bytes=24))
    assert not budgets.judge([facts(spill_bytes=24)], [allowed])[0].failed
    assert budgets.judge([facts(spill_bytes=32)], [allowed])[0].failed


def test_a_kernel_without_a_budget_is_held_to_the_absolute_limits() -> None:
    (missing,) = budgets.judge([facts()], [])
    assert (missing.verdict, missing.failed) == ("MISSING", False)
    spilled, _ = budgets.judge([facts(spill_bytes=8)], [])
    assert spilled.failed


def test_a_kernel_that_does_not_compile_fails() -> None:
    (verdict,) = budgets.judge([failed()], [BUDGET])
    assert (verdict.failed, verdict.metric, verdict.reason) == (True, "compile", "timeout")


def test_update_keeps_the_rest_of_this_triton_alone(tmp_path: Path) -> None:
    other = budgets.budget_of(facts(target="sm_80"))
    before = budgets.Budgets(triton="3.7.1", kernels=[BUDGET, other])
    path = tmp_path / "b.json"
    text, count = budgets.update(before, [facts(loop_instructions=400)], "3.7.1")
    path.write_text(text)
    assert count == 2
    kept = {b.target: b.loop_instructions for b in budgets.read_budgets(path).kernels}
    assert kept == {"sm_80": 500, "sm_90": 400}
    _, count = budgets.update(before, [facts()], "3.9.0")
    assert count == 1
    with pytest.raises(UserError, match="no budget for _flash_fwd sm_90 D64"):
        budgets.update(before, [failed()], "3.7.1")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the compiler is to make of whatever is asked."""
    made: list[Any] = [facts()]
    monkeypatch.setattr(survey, "survey", lambda jobs, **options: iter(made))
    return made


@pytest.fixture
def file(tmp_path: Path, attnbench: Callable[..., Any], found: list[Any]) -> Path:
    path = tmp_path / "budgets.json"
    ran = attnbench("kernels", "check", "--update", "--budgets", path)
    assert ran.code == 0, ran.err
    assert "budgets of 1 kernels" in ran.out
    return path


def test_an_update_says_what_it_lets_spill(
    attnbench: Callable[..., Any], found: list[Any], tmp_path: Path
) -> None:
    found[:] = [facts(spill_bytes=16), facts(target="sm_80")]
    ran = attnbench("kernels", "check", "--update", "--budgets", tmp_path / "budgets.json")
    assert ran.code == 0, ran.err
    assert ran.out.count("may spill") == 1
    assert "_flash_fwd sm_90 D64 bfloat16 plain may spill 16 B a thread" in ran.out


def test_no_shipped_budget_allows_a_spill() -> None:
    assert not [b for b in budgets.read_budgets(budgets.SHIPPED).kernels if b.spill_bytes]


def test_check_passes_then_fails_with_one_line_a_breach(
    attnbench: Callable[..., Any], found: list[Any], file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert attnbench("kernels", "check", "--budgets", file).code == 0
    found[:] = [facts(spill_bytes=96, loop_instructions=600)]
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    junit = tmp_path / "junit.xml"
    ran = attnbench("kernels", "check", "--budgets", file, "--junit", junit, "--github")
    assert ran.code == 1
    lines = [line for line in ran.out.splitlines() if "_flash_fwd sm_90 D64" in line]
    assert len(lines) == 2
    assert "WORSE" in lines[0]
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("name"), suite.get("failures")) == ("attnbench kernels check", "2")
    assert ran.err.count("::error title=") == 2
    assert summary.read_text().startswith("## attnbench kernels check\n")
    data = attnbench("kernels", "check", "--budgets", file, "--json").json
    assert data["schema"] == "attnbench.kernels-check/1"
    assert data["failed"] == 2
    assert [v["metric"] for v in data["verdicts"]] == ["spill_bytes", "loop_instructions"]


def test_budgets_of_another_triton_do_not_compare(
    attnbench: Callable[..., Any], file: Path
) -> None:
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {"triton": "3.0.0"}))
    ran = attnbench("kernels", "check", "--budgets", file)
    assert ran.code == 4
    assert f"the budgets are of Triton 3.0.0; this is {triton.__version__}" in ran.err
    assert "pip install triton==3.0.0" in ran.err


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (None, 4, "no such budgets"),
        ("{", 2, "truncated"),
        ('{"schema": "attnbench.baseline/1"}', 4, "schema is 'attnbench.baseline/1'"),
        ('{"schema": "attnbench.kernel-budgets/1", "kernels": []}', 2, "triton"),
    ],
)
def test_bad_budgets(
    attnbench: Callable[..., Any], tmp_path: Path, text: str | None, code: int, says: str
) -> None:
    path = tmp_path / "b.json"
    if text is not None:
        path.write_text(text)
    ran = attnbench("kernels", "check", "--budgets", path)
    assert ran.code == code
    assert says in ran.err


def test_a_budget_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    one = msgspec.to_builtins(BUDGET)
    path.write_text(json.dumps({"schema": budgets.SCHEMA, "triton": "3", "kernels": [one, one]}))
    with pytest.raises(UserError, match="_flash_fwd sm_90 D64 bfloat16 plain stands there twice"):
        budgets.read_budgets(path)


def test_peer_needs_budgets_of_its_own(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("kernels", "check", "--peer", "x.py:f")
    assert ran.code == 2
    assert "--peer takes --budgets FILE" in ran.err
