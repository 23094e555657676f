"""`attnbench calibrate`: constants found again from a sweep made with them; what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attnbench.calc.attention_time import Constants, attention_time
from attnbench.calc.attention_work import chip_of, work_of
from attnbench.catalog.calibration import constants_for
from attnbench.catalog.hardware import load_gpu
from attnbench.engines.attention import attention_engine
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.spec.result import ResultRow
from attnbench.spec.results_csv import rows_to_csv

H100 = load_gpu("h100-sxm")


def slower() -> Constants:
    """Shipped constants, but every launch takes twice and products half as fast."""
    near = constants_for(H100, attention_engine("triton"))
    c = near.prefill
    changed = msgspec.structs.replace(
        c,
        launch_s=2 * c.launch_s,
        tensor_efficiency=tuple(v / 2 for v in c.tensor_efficiency),
    )
    return msgspec.structs.replace(near, prefill=changed)


def write_run(
    folder: Path,
    lengths: list[int],
    *,
    device: dict[str, Any],
    modes: tuple[Mode, ...] = (Mode.FWD,),
) -> Path:
    constants, chip = slower(), chip_of(H100)
    rows = []
    for mode in modes:
        for length in lengths:
            shape = AttentionShape(
                batch=2, heads=16, kv_heads=8, seq_q=1 if mode is Mode.DECODE else length,
                seq_kv=length, head_dim=128, causal=True, dtype=Dtype.BF16,
            )  # fmt: skip
            work = msgspec.structs.replace(work_of(shape, mode), cached=False)
            rows.append(
                ResultRow(
                    variant="flash", backend="triton", mode=mode.value, device=device["name"],
                    dtype="bf16", batch=2, heads=16, kv_heads=8, seq_q=shape.seq_q,
                    seq_kv=length, head_dim=128, causal=True, params="{}", status="ok",
                    time_ms=attention_time(work, chip, constants).time_s * 1e3,
                    cache_regime="warm",
                )
            )  # fmt: skip
    folder.mkdir()
    (folder / "results.csv").write_text(rows_to_csv(rows))
    (folder / "samples.jsonl").write_text("")
    about = {"schema": "attnbench.run/1", "environment": {"device": device}, "ended": "2026-11-22"}
    (folder / "run.json").write_text(json.dumps(about))
    return folder


GPU = {"type": "cuda", "name": "NVIDIA H100 80GB HBM3", "memory_bytes": 85_017_755_648}
CPU = {"type": "cpu", "name": "some CPU", "memory_bytes": 1 << 34}
MANY = [64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384]


def test_constants_are_found_again(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", MANY, device=GPU)
    profile = tmp_path / "mine.yaml"
    made = attnbench("calibrate", run, "--output", profile, "--json").json
    assert made["schema"] == "attnbench.calibrate/1"
    assert made["gpu"] == "h100-sxm"
    (fitted,) = made["fitted"]
    assert (fitted["engine"], fitted["phase"], fitted["points"]) == ("triton", "prefill", 13)
    assert fitted["error_before"] > 0.3
    assert fitted["error_after"] < 0.03
    before = attnbench("roofline", "--engine", "triton", "--json").json["rows"][0]
    after = attnbench("roofline", "--engine", "triton", "--gpu", profile, "--json").json["rows"][0]
    assert after["constants"] == "h100-sxm.triton"
    assert after["time_s"] > 1.3 * before["time_s"]


def test_a_cpu_has_no_known_roof(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", MANY, device=CPU)
    ran = attnbench("calibrate", run)
    assert (ran.code, ran.out) == (4, "")
    assert "no known roof" in ran.err
    assert "--gpu" in ran.err


def test_too_few_points(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", MANY[:5], device=GPU)
    ran = attnbench("calibrate", run)
    assert ran.code == 2
    assert "triton: 5 forward points, 8 are needed" in ran.err


def test_a_phase_with_too_few_is_named(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    first = write_run(tmp_path / "run", MANY, device=GPU)
    few = write_run(tmp_path / "few", MANY[:3], device=GPU, modes=(Mode.DECODE,))
    lines = (few / "results.csv").read_text().splitlines(keepends=True)[1:]
    with (first / "results.csv").open("a") as stream:
        stream.writelines(lines)
    made = attnbench("calibrate", first, "--json").json
    assert made["too_few"] == ["triton: 3 decode points, 8 are needed"]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_no_run_folder(attnbench: Callable[..., Any], tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    assert attnbench("calibrate", tmp_path / name).code == 2
