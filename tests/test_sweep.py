"""`attnbench sweep` as a user runs it: files, columns, statuses, resume, bad input."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.measure.journal import read_samples
from attnbench.spec.result import COLUMNS, Status
from attnbench.spec.results_csv import read_rows

TINY = """
summary: A test's sweep.
grids:
  - variants: [naive, flash, linformer]
    backends: [eager, sdpa]
    modes: [fwd]
    seq_lens: 64,128
    batches: 1
    heads: 4
    kv_heads: 2
    head_dims: 32
    dtypes: [fp32]
    causal: auto
timing:
  rounds: 5
  max_rounds: 5
  round_ms: 1
  warmup_ms: 1
  point_s: 0.1
  target_ci: 0.03
  cache: warm
time_limit_s: 60
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_a_sweep_writes_what_the_contract_says(
    attnbench: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    ran = attnbench("sweep", "--config", tiny, "--run-dir", folder, "--json")
    assert ran.code == 0, ran.err
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == [
        "results.csv", "run.json", "samples.jsonl", "summary.md",
    ]  # fmt: skip
    with (folder / "results.csv").open() as file:
        assert tuple(next(csv.reader(file))) == COLUMNS
    rows = read_rows(folder / "results.csv")
    assert len(rows) == 10  # causal: naive, flash; not causal: both and linformer; two lengths
    for row in rows:
        assert row.status == Status.OK
        assert row.time_ms is not None
        assert row.time_ms_ci_low is not None
        assert row.time_ms_ci_high is not None
        assert 0 < row.time_ms_ci_low <= row.time_ms <= row.time_ms_ci_high
        assert (row.rounds, row.timer, row.cache_regime) == (5, "host_clock", "warm")
        pairs = row.seq_q * (row.seq_q + 1) // 2 if row.causal else row.seq_q * row.seq_kv
        assert row.pairs == row.batch * row.heads * pairs
        assert row.kernel_error is not None
        assert row.kernel_error < 1e-5
        assert row.peak_memory_bytes is not None
        assert row.grad_error is None
        assert row.roofline_ms is None, "a CPU has no known roof"
        assert row.recipe is not None
        assert len(row.recipe) == 12
        assert (row.variant == "linformer") <= (not row.causal)
    naive = [row for row in rows if row.variant == "naive"]
    assert [row.speedup_vs_naive for row in naive] == [1.0] * 4
    samples = read_samples(folder)
    assert samples.keys() == {row.key for row in rows}
    assert all(len(rounds) == 5 for rounds in samples.values())
    run = json.loads((folder / "run.json").read_text())
    assert run["schema"] == "attnbench.run/1"
    assert run["started"] <= run["ended"]
    phases = [run[name] for name in ("check_s", "setup_s", "memory_s", "calls_s")]
    assert min(phases) > 0
    assert sum(phases) < run["wall_s"]
    assert len(run["telemetry"]) == len({row.shape for row in rows})
    assert ran.json["schema"] == "attnbench.sweep/1"
    assert ran.json["rows"][0].keys() == set(COLUMNS)
    assert Path(ran.json["run_dir"]).is_absolute()


def test_backward_modes_hold_gradients_against_float64(
    attnbench: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    ran = attnbench(
        "sweep", "--config", tiny, "--run-dir", tmp_path / "run", "--json",
        "--modes", "bwd,fwd_bwd",
        "--seq-lens", "64", "--variants", "flash,linear,sliding_window",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert {(r["variant"], r["mode"]) for r in ran.json["rows"]} == {
        (v, m) for v in ("flash", "linear", "sliding_window") for m in ("bwd", "fwd_bwd")
    }
    for row in ran.json["rows"]:
        assert row["status"] == "ok", row["note"]
        assert row["grad_error"] < 1e-4


def test_a_point_that_cannot_fit_is_skipped_with_its_prediction(
    attnbench: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    ran = attnbench(
        "sweep", "--config", tiny, "--run-dir", tmp_path / "run", "--json",
        "--seq-lens", "2k", "--memory-limit", "100MB", "--variants", "naive,sliding_window",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    status = {row["variant"]: (row["status"], row["note"]) for row in ran.json["rows"]}
    assert status["sliding_window"][0] == "ok"
    assert status["naive"][0] == "skipped"
    assert "predicted to need" in status["naive"][1]
    assert all(row["time_ms"] is None for row in ran.json["rows"] if row["variant"] == "naive")


def test_everything_skipped_is_nothing_attempted(
    attnbench: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    ran = attnbench(
        "sweep", "--config", tiny, "--run-dir", tmp_path / "run", "--memory-limit", "1KB"
    )
    assert ran.code == 5
    assert len(read_rows(tmp_path / "run" / "results.csv")) == 10


def test_the_triton_kernel_is_checked_and_never_timed_without_a_gpu(
    attnbench: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    ran = attnbench(
        "sweep", "--config", tiny, "--run-dir", tmp_path / "run", "--json", "--device", "cpu",
        "--variants", "flash", "--backends", "triton", "--seq-lens", "64",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    (row,) = ran.json["rows"]
    assert row["status"] == "interpreted"
    assert row["time_ms"] is None
    assert "kernel_error" in row["note"]


def test_a_killed_sweep_resumes_and_times_no_finished_point_again(
    tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = [
        sys.executable, "-m", "attnbench", "sweep", "--config", str(tiny),
        "--run-dir", str(folder), "--resume", "--seq-lens", "64,128,256",
    ]  # fmt: skip
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        results = folder / "results.csv"
        if results.exists() and len(results.read_text().splitlines()) > 1:
            break
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = read_rows(folder / "results.csv")
    samples_before = read_samples(folder)
    assert 0 < len(before) < 15
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = read_rows(folder / "results.csv")
    assert after[: len(before)] == before, "a finished point was timed again"
    assert len(after) == len({row.key for row in after}) == 15
    samples = read_samples(folder)
    assert samples.keys() == {row.key for row in after}
    for row in before:
        assert samples[row.key] == samples_before[row.key]


def test_points_timed_with_other_code_are_not_mixed_with_new_ones(
    attnbench: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    swept = ("sweep", "--config", tiny, "--variants", "flash", "--backends", "sdpa", "--no-memory")
    assert attnbench(*swept, "--run-dir", folder).code == 0
    timed = [row for row in read_rows(folder / "results.csv") if row.recipe]
    files = {path: path.read_bytes() for path in folder.iterdir() if path.suffix != ".csv"}
    # As another revision of the variant would have left it.
    results = (folder / "results.csv").read_text().replace(str(timed[0].recipe), "0123456789ab")
    (folder / "results.csv").write_text(results)
    resumed = attnbench(*swept, "--run-dir", folder, "--resume")
    assert resumed.code == 2
    assert f"{len(timed)} of {len(timed)} points were timed with other code" in resumed.err
    assert "--run-dir" in resumed.err
    assert (folder / "results.csv").read_text() == results
    assert {path: path.read_bytes() for path in files} == files


def test_a_plan_is_printed_and_nothing_written(
    attnbench: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    ran = attnbench("sweep", "--config", tiny, "--run-dir", tmp_path / "run", "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["points"]) == 10
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--variants", "flsh"], "unknown variant 'flsh'"),
        (["--backends", "tritn"], "unknown backend 'tritn'"),
        (["--modes", "forward"], "unknown mode 'forward'"),
        (["--dtypes", "bf61"], "unknown dtype 'bf61'"),
        (["--dtypes", "int4"], "not in int4"),
        (["--seq-lens", "-4"], "'-4' is not a size"),
        (["--seq-lens", "0"], "'0' is under 1"),
        (["--kv-heads", "3"], "kv_heads: 3 does not divide heads: 4"),
        (["--memory-limit", "lots"], "'lots' is not a size"),
        (["--time-limit", "0"], "not over 0"),
        (["--preset", "defualt", "--config", ""], "defualt"),
        (["--model", "lama-3-8b"], "lama-3-8b"),
        (["--device", "tpu"], "tpu"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_2(
    attnbench: Callable[..., Any], tiny: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    words = ["--config", tiny, *arguments]
    if "--preset" in arguments:
        words = arguments[:2]
    ran = attnbench("sweep", "--run-dir", tmp_path / "run", *words)
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert len(ran.err.splitlines()) <= 2
    assert ran.out == ""
    assert not (tmp_path / "run").exists()


def test_cuda_where_there_is_none_is_exit_3(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    ran = attnbench("sweep", "--device", "cuda", "--run-dir", tmp_path / "run")
    assert ran.code == 3
    assert "no CUDA or ROCm device" in ran.err
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_made_is_exit_2(
    attnbench: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    ran = attnbench("sweep", "--config", tiny, "--run-dir", tiny / "run")
    assert ran.code == 2
    assert "Not a directory" in ran.err


def test_a_bad_config_names_file_line_and_key(
    attnbench: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    tiny.write_text(TINY.replace("head_dims", "head_dim"))
    ran = attnbench("sweep", "--config", tiny, "--run-dir", tmp_path / "run")
    assert ran.code == 2
    assert "tiny.yaml:11: unknown key 'head_dim'. Did you mean 'head_dims'?" in ran.err
