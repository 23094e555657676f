"""`attnbench roofline` and `complexity`: rows, ranking, settings, bad input."""

import csv
import json
from collections.abc import Callable
from typing import Any

import pytest

from attnbench.catalog.hardware import gpu_names, load_gpu
from attnbench.measure.environment import Device
from attnbench.measure.plan import Group, Point
from attnbench.measure.preset import load_preset
from attnbench.measure.rows import Bench, group_rows
from attnbench.measure.sweep import _roofs
from attnbench.measure.worker import Outcome
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.spec.hardware import HardwareSpec
from attnbench.spec.result import ResultRow

KEYS = {
    "variant", "gpu", "mode", "flops", "bytes", "intensity", "time_s", "time_s_low",
    "time_s_high", "bound", "fraction_of_peak",
}  # fmt: skip


def test_a_row_has_what_the_contract_says(attnbench: Callable[..., Any]) -> None:
    made = attnbench("roofline", "--seq-len", "4k", "--json").json
    assert made["schema"] == "attnbench.roofline/1"
    (row,) = made["rows"]
    assert set(row) >= KEYS
    assert row["flops"] == 4 * 32 * 4096 * 4097 // 2 * 128
    # Q and O at 32 heads, K and V at 8, in 16 bits.
    assert row["bytes"] == 2 * 128 * 4096 * (2 * 32 + 2 * 8)
    assert row["intensity"] == row["flops"] / row["bytes"]
    assert row["time_s_low"] < row["time_s"] < row["time_s_high"]
    assert row["bytes_tiled"] > row["bytes_ideal"]


def test_all_gpus_are_ranked(attnbench: Callable[..., Any]) -> None:
    table = attnbench("roofline", "--gpu", "all", "--dtype", "fp16", "--format", "csv").out
    rows = list(csv.DictReader(table.splitlines()))
    assert len(rows) == len(gpu_names())
    times = [float(row["time_s"]) for row in rows]
    assert times == sorted(times)


def test_naive_moves_the_scores_and_flash_does_not(attnbench: Callable[..., Any]) -> None:
    made = attnbench(
        "roofline", "--variant", "naive,flash", "--seq-len", "1024", "--batch", "64", "--heads",
        "16", "--kv-heads", "16", "--head-dim", "64", "--dtype", "fp16", "--no-causal", "--mode",
        "fwd_bwd", "--gpu", "a100-40gb-sxm", "--json",
    ).json  # fmt: skip
    naive, flash = made["rows"]
    assert naive["bytes"] / 1e9 == pytest.approx(25.2, abs=0.05)
    assert 4.1 <= flash["bytes_tiled"] / 1e9 <= 5.25
    assert naive["flops"] == flash["flops"]
    # Dao et al. 2022, figure 2: 41.7 ms and 7.3 ms, on an A100 with mask and dropout.
    assert 2 < naive["time_s"] / flash["time_s"] < 12


def test_every_variant_and_mode_that_it_has(attnbench: Callable[..., Any]) -> None:
    made = attnbench(
        "roofline", "--variant", "all", "--mode", "fwd,bwd,fwd_bwd,decode",
        "--seq-len", "8k", "--json",
    ).json  # fmt: skip
    seen = {(row["variant"], row["mode"]) for row in made["rows"]}
    assert len({variant for variant, _ in seen}) >= 10
    assert ("paged_decode", "decode") in seen
    assert any("paged_decode has no fwd" in why for why in made["left_out"])
    times = {(row["variant"], row["mode"]): row["time_s"] for row in made["rows"]}
    for variant in ("flash", "naive", "sliding_window"):
        assert times[variant, "fwd_bwd"] > times[variant, "bwd"] > 0
    assert times["sliding_window", "fwd"] < times["flash", "fwd"] < times["naive", "fwd"]


def test_a_window_and_fp8_keys_make_decoding_faster(attnbench: Callable[..., Any]) -> None:
    def decode(*arguments: str) -> Any:
        made = attnbench(
            "roofline",
            "--mode",
            "decode",
            "--seq-len",
            "32k",
            "--batch",
            "32",
            *arguments,
            "--json",
        )
        return made.json["rows"][0]

    full = decode()
    assert full["bound"] == "HBM"
    fp8 = decode("--kv-dtype", "fp8")
    assert fp8["bytes"] == full["bytes"] - 32 * 8 * 32768 * 256
    assert 0.4 < fp8["time_s"] / full["time_s"] < 0.7
    narrow = decode("--variant", "sliding_window", "--window", "1k")
    assert narrow["params"]["window"] == 1024
    assert narrow["time_s"] < full["time_s"] / 5
    paged = decode("--variant", "paged_decode")
    assert paged["time_s"] == pytest.approx(full["time_s"], rel=0.05)


def test_grouped_heads_read_less(attnbench: Callable[..., Any]) -> None:
    rows = [
        attnbench(
            "roofline", "--mode", "decode", "--seq-len", "32k", "--batch", "16",
            "--kv-heads", n, "--json",
        ).json["rows"][0]
        for n in ("32", "8", "1")
    ]  # fmt: skip
    assert rows[0]["time_s"] > rows[1]["time_s"] > rows[2]["time_s"]
    assert rows[0]["intensity"] < rows[1]["intensity"] < rows[2]["intensity"]


def test_a_models_heads(attnbench: Callable[..., Any]) -> None:
    (row,) = attnbench("roofline", "--model", "llama-3-8b", "--json").json["rows"]
    assert (row["heads"], row["kv_heads"], row["head_dim"]) == (32, 8, 128)


def test_the_quadratic_wall(attnbench: Callable[..., Any]) -> None:
    ran = attnbench(
        "complexity", "--seq-lens", "64k,1m", "--variant", "naive,flash,linear", "--json"
    )
    scores = {row["seq_kv"]: row["score_bytes"] / 2**30 for row in ran.json["rows"]}
    assert scores == {65536: 8.0, 1 << 20: 2048.0}
    time = {(row["variant"], row["seq_kv"]): row["time_s"] for row in ran.json["rows"]}
    # Sixteen times the tokens: 256 times the work, or 16 times where it is linear.
    assert 200 < time["flash", 1 << 20] / time["flash", 65536] < 280
    assert 8 < time["linear", 1 << 20] / time["linear", 65536] < 24
    table = attnbench("complexity", "--seq-lens", "64k,1m", "--variant", "flash").out
    assert "8.00 GiB" in table
    assert "2,048.00 GiB" in table


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--variant", "flesh"], "flash"),
        (["--gpu", "h100"], "h100-sxm"),
        (["--mode", "forward"], "fwd"),
        (["--seq-len", "0"], "under 1"),
        (["--engine", "mine"], "vllm"),
        (["--params", "windows=3"], "window"),
        (["--params", "window"], "key=value"),
        (["--heads", "7", "--kv-heads", "2"], "divide"),
        (["--dtype", "int7"], "int8"),
        (["--seq-len", "64", "--seq-q", "-1"], "size"),
    ],
)
def test_bad_input(attnbench: Callable[..., Any], arguments: list[str], word: str) -> None:
    ran = attnbench("roofline", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert word in ran.err


def test_json_has_no_nan(attnbench: Callable[..., Any]) -> None:
    out = attnbench("roofline", "--gpu", "all", "--variant", "all", "--json").out
    json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def timed_row(seq: int, time_ms: float, *, gpu: HardwareSpec | None) -> ResultRow:
    shape = AttentionShape(
        batch=4, heads=32, kv_heads=8, seq_q=seq, seq_kv=seq, head_dim=128, causal=True,
        dtype=Dtype.BF16,
    )  # fmt: skip
    point = Point(variant="flash", backend="sdpa.flash", mode=Mode.FWD, shape=shape, params={})
    device = Device(
        type="cuda", name="NVIDIA H100 80GB HBM3", memory_bytes=85_017_755_648, free_bytes=1 << 36,
        cache_bytes=50 << 20, details={},
    )  # fmt: skip
    bench = Bench(
        device=device,
        timing=load_preset("default", "cuda").timing,
        versions={},
        roofs=_roofs(gpu),
        gpu=gpu,
    )
    outcome = Outcome(rounds_ms=[[time_ms] * 5] * 5)
    group = Group(mode=Mode.FWD, shape=shape, points=(point,))
    return group_rows(group, {0: outcome}, "device_events", bench)[0]


def test_a_sweeps_row_has_the_prediction_beside_it() -> None:
    h100 = load_gpu("h100-sxm")
    row = timed_row(4096, 1.2, gpu=h100)
    assert row.status == "ok"
    assert row.roofline_ms is not None
    # FlashAttention-2 reaches 300 to 400 TFLOP/s on an H100 (Shah et al. 2024, figure 5).
    assert row.flops is not None
    assert 300e9 < row.flops / row.roofline_ms < 400e9
    assert row.roofline_fraction == pytest.approx(row.roofline_ms / 1.2)
    assert timed_row(4096, 1.2, gpu=None).roofline_ms is None


def test_impossible_judges_against_the_peak_and_not_the_prediction() -> None:
    h100 = load_gpu("h100-sxm")
    row = timed_row(4096, 1.2, gpu=h100)
    assert row.flops is not None
    at_peak_ms = row.flops / 989.4e12 * 1e3
    assert timed_row(4096, at_peak_ms * 1.01, gpu=h100).status == "ok"
    assert timed_row(4096, at_peak_ms * 0.9, gpu=h100).status == "impossible"
