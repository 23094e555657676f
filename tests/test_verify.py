"""`attnbench verify`: what is right passes, and each planted fault is caught by name."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.cli import run
from attnbench.spec.dtype import Dtype
from attnbench.verification.checks import ORDER, check_names
from attnbench.verification.finding import Reading, Subject, finding_of

MUTANTS = Path(__file__).parent / "_mutants.py"
EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"

# Which check must catch each planted fault; others may as well.
CAUGHT_BY = {
    "mask_off_by_one": {"output", "causal_leakage", "gradients"},
    "missing_scale": {"output", "logit_scale", "gradients"},
    "future_leak": {"causal_leakage"},
    "edge_leak": {"causal_leakage"},
    "scaled_by_the_tile": {"output", "gradients"},
    "diagonal_hidden": {"output", "gradients", "row_sums"},
    "aligned_top_left": {"output", "gradients", "row_sums"},
    "not_normalised": {"output", "row_sums"},
    "unwritten_tail": {"unwritten"},
    "not_deterministic": {"determinism"},
    "wrong_head": {"output", "permutation"},
    "order_matters": {"permutation"},
    "WrongGradient": {"gradients"},
    "WindowOffByOne": {"output"},
    "PaddingSeen": {"padding", "features"},
    "WrongSlope": {"features"},
    "SoftCapDropped": {"features"},
    "SinkLeftOut": {"features"},
    "DocumentLeak": {"features"},
    "raises": {"output"},
    "wrong_shape": {"output"},
    "answers_two": {"output"},
}


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Every mutant's checks, by its name: one command, in fp32."""
    out = tmp_path_factory.mktemp("verify") / "verified.json"
    names = ["right", "EveryFeature", *CAUGHT_BY]
    words = [f"--variant={MUTANTS}:{name}" for name in names]
    code = run(["verify", "--dtypes", "fp32", "--json", f"--output={out}", *words])
    assert code == 1
    found: dict[str, list[dict[str, Any]]] = {}
    document = json.loads(out.read_text())
    assert document["schema"] == "attnbench.verify/1"
    assert document["passed"] is False
    for check in document["checks"]:
        assert check["backend"] == "user"
        found.setdefault(check["variant"], []).append(check)
    return found


def test_what_is_right_passes_every_check(verified: dict[str, Any]) -> None:
    checks = verified["right"]
    assert {c["check"] for c in checks} == set(ORDER) - {"padding"}
    for check in checks:
        assert check["passed"], check
        assert check["value"] <= check["limit"]


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_each_planted_fault_is_caught_by_name(verified: dict[str, Any], name: str) -> None:
    failed = {c["check"] for c in verified[name] if not c["passed"]}
    assert failed >= CAUGHT_BY[name]


def test_a_kernel_that_does_every_feature_itself_passes(verified: dict[str, Any]) -> None:
    checks = verified["EveryFeature"]
    assert {c["check"] for c in checks} == set(ORDER)
    assert [c for c in checks if not c["passed"]] == []


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("WrongSlope", "alibi"), ("SoftCapDropped", "soft_cap"), ("SinkLeftOut", "sink_logit"),
        ("DocumentLeak", "varlen"),
    ],
)  # fmt: skip
def test_a_fault_in_a_feature_is_seen_by_its_check_alone_and_named(
    verified: dict[str, Any], name: str, feature: str
) -> None:
    (failed,) = [c for c in verified[name] if not c["passed"]]
    assert failed["check"] == "features"
    assert f"{feature}=" in failed["at"]


def test_a_leak_of_a_part_in_ten_to_the_fifth_is_seen_by_its_own_check_alone(
    verified: dict[str, Any],
) -> None:
    (leak,) = [c for c in verified["future_leak"] if c["check"] == "causal_leakage"]
    assert leak["limit"] == 0
    assert leak["value"] > 0


def test_an_exception_is_the_findings_note(verified: dict[str, Any]) -> None:
    for check in verified["raises"]:
        assert not check["passed"]
        assert check["value"] is None
        assert check["note"] == "FloatingPointError: cosmic ray"


def test_what_has_no_tensors_form_says_so(verified: dict[str, Any]) -> None:
    notes = {n: verified[n][0]["note"] for n in ("wrong_shape", "answers_two")}
    assert "the output's shape is [2, 4, 67, 31], not [2, 4, 67, 32]" in notes["wrong_shape"]
    assert "the output is tuple, not a tensor" in notes["answers_two"]


def test_a_crash_and_a_hang_cost_one_failed_row_each(attnbench: Callable[..., Any]) -> None:
    ran = attnbench(
        "verify", "--dtypes", "fp32", "--json", "--time-limit", "10",
        "--variant", f"{MUTANTS}:hangs", "--variant", f"{MUTANTS}:crashes",
    )  # fmt: skip
    assert ran.code == 1
    hung = [c for c in ran.json["checks"] if c["variant"] == "hangs"]
    assert [(c["check"], c["passed"], c["note"]) for c in hung] == [
        ("output", False, "silent for 10 s")
    ]
    (rest,) = [s for s in ran.json["skipped"] if s["variant"] == "hangs"]
    assert "not run after output failed so: gradients" in rest["reason"]
    crashed = [c for c in ran.json["checks"] if c["variant"] == "crashes"]
    assert all("SIGSEGV" in c["note"] for c in crashed)
    assert "output" in {c["check"] for c in crashed}


@pytest.fixture(scope="module")
def built_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("verify") / "built_in.json"
    code = run([
        "verify", "--device", "cpu", "--variants", "flash,sliding_window", "--json",
        "--backends", "sdpa,sdpa.flash,eager", "--dtypes", "fp32,bf16,fp8", f"--output={out}",
    ])  # fmt: skip
    assert code == 0
    document: dict[str, Any] = json.loads(out.read_text())
    return document


def test_built_in_backends_pass_and_those_that_cannot_run_are_listed(
    built_in: dict[str, Any],
) -> None:
    assert {(c["variant"], c["backend"]) for c in built_in["checks"]} == {
        ("flash", "sdpa"), ("sliding_window", "eager"),
    }  # fmt: skip
    assert {c["check"] for c in built_in["checks"]} == set(ORDER)
    refused = [s for s in built_in["skipped"] if s["check"] is None]
    assert [(s["backend"], s["reason"]) for s in refused] == [
        ("sdpa.flash", "torch's flash kernel runs on CUDA and ROCm alone")
    ]
    # A coarser number format has a larger error: 2⁻²⁴, 2⁻⁸ and 2⁻⁴ are their roundings.
    ladder = {c["dtype"]: c["value"] for c in built_in["checks"]
              if c["check"] == "precision" and c["variant"] == "flash"}  # fmt: skip
    assert ladder["fp32"] < 2.0**-20 < ladder["bf16"] < 2.0**-6 < ladder["fp8_e4m3"] < 2.0**-3


def test_without_the_scale_softmax_saturates_as_heads_widen(built_in: dict[str, Any]) -> None:
    rows = built_in["logit_scale"]
    assert [row["head_dim"] for row in rows] == [16, 32, 64, 128, 256]
    # Logits x ~ N(0, 1) over 64 keys: the entropy is log Σ eˣ − Σ x eˣ / Σ eˣ, near
    # (log 64 + 1/2) − 1, whatever the width.
    for row in rows:
        assert abs(row["entropy_scaled"] - (math.log(64) - 0.5)) < 0.15
    bare = [row["entropy_unscaled"] for row in rows]
    assert bare == sorted(bare, reverse=True)
    assert bare[-1] < 0.5
    assert rows[-1]["gradient_norm_unscaled"] < rows[-1]["gradient_norm_scaled"]


def test_a_finding_is_the_worst_reading() -> None:
    subject = Subject(variant="naive", backend="eager")
    readings = [
        Reading(value=0.5, limit=1.0, at="a"),
        Reading(value=float("nan"), limit=1.0, at="b"),
    ]
    found = finding_of(subject, "output", Dtype.FP32, readings, keep=False)
    assert (found.passed, found.value, found.at, found.note) == (
        False, None, "b", "the figure is nan",
    )  # fmt: skip
    fine = finding_of(subject, "output", Dtype.FP32, readings[:1], keep=True)
    assert (fine.passed, fine.value, fine.limit, len(fine.readings)) == (True, 0.5, 1.0, 1)
    over = Reading(value=1e-9, limit=0.0, at="c")
    assert not finding_of(subject, "output", Dtype.FP32, [*readings[:1], over], keep=False).passed


def test_every_check_has_its_place() -> None:
    assert check_names() == ORDER


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--variants", "naiv"], 2, "unknown variant 'naiv'"),
        (["--backends", "egaer"], 2, "unknown backend 'egaer'"),
        (["--dtypes", "bf61"], 2, "unknown dtype 'bf61'"),
        (["--dtypes", "nvfp4"], 2, "nvfp4 is not verified"),
        (["--variants", "naive", "--backends", "triton"], 5, "no variant asked for runs"),
        (["--variant", f"{MUTANTS}:RunsNowhere"], 5, "no variant asked for runs"),
        (["--time-limit", "0"], 2, "--time-limit"),
    ],
    ids=lambda v: " ".join(v)[-40:] if isinstance(v, list) else "",
)
def test_bad_input(
    attnbench: Callable[..., Any], arguments: list[str], code: int, said: str
) -> None:
    ran = attnbench("verify", *arguments)
    assert ran.code == code, ran.err
    assert said in ran.err


def test_the_worked_example_passes(attnbench: Callable[..., Any]) -> None:
    ran = attnbench(
        "verify", "--json", "--dtypes", "fp32,bf16",
        "--variant", f"{EXAMPLES / 'windowed.py'}:Banded",
        "--variant", f"{EXAMPLES / 'windowed.py'}:plain",
    )  # fmt: skip
    assert ran.code == 0, ran.json["checks"]
    assert {c["variant"] for c in ran.json["checks"]} == {"Banded", "plain"}


@pytest.mark.slow
def test_the_worked_triton_example_passes(attnbench: Callable[..., Any]) -> None:
    pytest.importorskip("triton")
    ran = attnbench("verify", "--json", "--variant", f"{EXAMPLES / 'triton_attention.py'}:Tiled")
    assert ran.code == 0, ran.json["checks"]
    assert any(c["passed"] for c in ran.json["checks"] if c["check"] == "causal_leakage")


@pytest.mark.slow
@pytest.mark.timeout(1800)  # three minutes on two quiet cores
def test_every_variant_and_backend_is_right_here(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("verify", "--json")
    assert ran.code == 0, [c for c in ran.json["checks"] if not c["passed"]]
