"""Fifty kills at random moments of real sweeps: nothing lost that had ended, nothing twice."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from attnbench.measure.journal import read_run, read_samples
from attnbench.spec.result import ResultRow
from attnbench.spec.results_csv import read_rows

KILLS = 50
POINTS_A_GROUP = 2
PRESET = """
summary: Many small groups.
grids:
  - variants: [naive, flash]
    backends: [eager, sdpa]
    modes: [fwd]
    seq_lens: 16,17,32,48,64,80,96,112
    batches: 1
    heads: 1,2
    head_dims: 32
    dtypes: [fp32]
    causal: auto
timing: {rounds: 3, max_rounds: 3, round_ms: 1, warmup_ms: 1, point_s: 1, target_ci: 0.1,
         cache: warm}
time_limit_s: 60
"""


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_fifty_kills(tmp_path: Path) -> None:
    config = tmp_path / "many.yaml"
    config.write_text(PRESET)
    moments = random.Random(7)
    killed = finished = 0
    while killed < KILLS:
        folder = tmp_path / f"run-{finished}"
        killed += _one_sweep(config, folder, moments, KILLS - killed)
        finished += 1
    assert finished >= 2


def _one_sweep(config: Path, folder: Path, moments: random.Random, most: int) -> int:
    """Kill and resume a sweep until it ends, `most` times; how many kills hit it."""
    command = [
        sys.executable, "-m", "attnbench", "sweep", "--config", str(config), "--run-dir",
        str(folder), "--resume", "--device", "cpu", "--no-memory", "--format", "csv",
    ]  # fmt: skip
    hits = 0
    while True:
        ended_before = _rows(folder)
        samples_before = read_samples(folder) if folder.exists() else {}
        sweep = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if hits < most:
            _wait_for(sweep, folder, groups=moments.choice([0, 0, 1, 1, 2, 3]))
        try:
            # A group takes seconds: the moment is anywhere in one, and in what ends it.
            sweep.wait(timeout=moments.uniform(0, 3) if hits < most else None)
        except subprocess.TimeoutExpired:
            sweep.send_signal(signal.SIGKILL)
            sweep.wait()
            hits += 1
            _unchanged(folder, ended_before, samples_before)
            continue
        assert sweep.returncode == 0
        rows = _rows(folder)
        assert rows[: len(ended_before)] == ended_before
        assert len(rows) == len({row.key for row in rows}) == 32
        assert read_samples(folder).keys() == {row.key for row in rows}
        assert read_run(folder)["ended"]
        return hits


def _wait_for(sweep: subprocess.Popen[bytes], folder: Path, groups: int) -> None:
    """Until `groups` more have ended, or the sweep has: however fast the machine is."""
    wanted = len(_rows(folder)) + POINTS_A_GROUP * groups
    while sweep.poll() is None and len(_rows(folder)) < wanted:
        time.sleep(0.01)


def _unchanged(folder: Path, ended_before: list[ResultRow], samples_before: dict[Any, Any]) -> None:
    """After a kill every file parses, and what had ended is as it was."""
    if not folder.exists():
        assert not ended_before
        return
    time.sleep(0.05)  # its children end with it
    if (folder / "run.json").exists():
        json.loads((folder / "run.json").read_text())
    samples = read_samples(folder)
    rows = _rows(folder)
    assert rows[: len(ended_before)] == ended_before
    for key, before in samples_before.items():
        assert samples[key] == before


def _rows(folder: Path) -> list[ResultRow]:
    """The rows whose line is whole: a torn last one is dropped by the next resume."""
    path = folder / "results.csv"
    if not path.exists():
        return []
    text = path.read_text()
    whole = folder / "whole.csv"
    whole.write_text(text[: text.rfind("\n") + 1])
    try:
        return read_rows(whole)
    finally:
        whole.unlink()
