"""Made-up runs for the gate's tests: a machine with known noise, on known times."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attnbench.gate.runs import Run, build_run
from attnbench.spec.result import ResultRow
from attnbench.spec.results_csv import rows_to_csv

Change = Callable[[ResultRow], ResultRow]
VARIANTS = ("naive", "flash", "sliding_window", "strided", "longformer", "linear")


def make_rows(count: int = 12, *, device: str = "CPU X, 2 cores") -> list[ResultRow]:
    """`count` points over the variants and lengths, their true times and figures."""
    rows = []
    for number in range(count):
        length = 256 + 64 * (number // len(VARIANTS))
        pairs = 8 * length * (length + 1) // 2
        rows.append(
            ResultRow(
                variant=VARIANTS[number % len(VARIANTS)], backend="eager", mode="fwd",
                device=device, dtype="fp32", batch=1, heads=8, kv_heads=8, seq_q=length,
                seq_kv=length, head_dim=64, causal=True, params="{}", status="ok",
                time_ms=0.5 + 0.1 * number, rounds=5, samples=50, timer="host_clock",
                cache_regime="warm", pairs=pairs, flops=4 * pairs * 64,
                bytes_min=4 * 8 * length * 64 * 4, peak_memory_bytes=40_000_000 + 4096 * number,
                workspace_bytes=1_000_000, rel_error=4e-7, kernel_error=4e-7, recipe="abc",
            )
        )  # fmt: skip
    return rows


def make_run(
    rows: list[ResultRow],
    seed: int,
    *,
    between: float = 0.02,
    shared: float = 0.0,
    within: float = 0.01,
    slower: dict[int, float] | None = None,
    label: str = "run",
    **about: Any,
) -> Run:
    """A run of `rows`: each point's noise `between` runs, and a shift they all share."""
    timed, rounds = simulate(rows, seed, between, shared, within, slower or {})
    medians = {key: {r: x[0] for r, x in enumerate(found)} for key, found in rounds.items()}
    return build_run(label=label, rows=timed, rounds_ms=medians, **about)


def simulate(
    rows: list[ResultRow],
    seed: int,
    between: float,
    shared: float,
    within: float,
    slower: dict[int, float],
) -> tuple[list[ResultRow], dict[Any, list[list[float]]]]:
    """Rows with their simulated times, and five rounds of three equal samples each."""
    rng = np.random.default_rng(seed)
    own = shared * rng.standard_normal() + between * rng.standard_normal(len(rows))
    noise = np.exp(own[:, None] + within * rng.standard_normal((len(rows), 5)))
    timed, rounds = [], {}
    for number, (row, factors) in enumerate(zip(rows, noise.tolist(), strict=True)):
        if row.time_ms is None:
            timed.append(row)
            continue
        samples = [row.time_ms * slower.get(number, 1.0) * factor for factor in factors]
        timed.append(replace(row, time_ms=sorted(samples)[2]))
        rounds[row.key] = [[sample] * 3 for sample in samples]
    return timed, rounds


def write_run(
    folder: Path,
    rows: list[ResultRow],
    seed: int = 0,
    *,
    slower: dict[int, float] | None = None,
    schema: str = "attnbench.run/1",
    selfcheck: dict[str, float] | None = None,
    threads: int = 2,
) -> Path:
    """A run folder, as a sweep leaves it."""
    folder.mkdir()
    timed, rounds = simulate(rows, seed, 0.005, 0.0, 0.005, slower or {})
    (folder / "results.csv").write_text(rows_to_csv(timed), encoding="utf-8")
    lines = [
        json.dumps({"key": list(key), "round": number, "samples_ms": samples}) + "\n"
        for key, found in rounds.items()
        for number, samples in enumerate(found)
    ]
    (folder / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
    about: dict[str, Any] = {
        "schema": schema,
        "configuration": {},
        "environment": {"device": {"details": {"threads": threads}}},
        "started": f"2026-01-01T00:00:{seed % 60:02d}Z",
    }
    if selfcheck is not None:
        about["selfcheck"] = selfcheck
    (folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    return folder
