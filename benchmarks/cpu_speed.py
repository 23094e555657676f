"""The speed that sparse and linear attention are to have on a CPU, held against a run.

    attnbench sweep --preset cpu-speed --run-dir RUN && python benchmarks/cpu_speed.py RUN

Exit 1 where a figure falls short or its point is not there.
"""

import math
import sys
from pathlib import Path

from attnbench.spec.result import ResultRow
from attnbench.spec.results_csv import read_rows

# Variant, tokens, times faster than: SDPA's causal attention, H8; naive, H2.
FASTER_THAN_SDPA = (
    ("sliding_window", 8192, 3.5),
    ("sliding_window", 32768, 13.0),
    ("longformer", 16384, 3.5),
    ("bigbird", 16384, 3.5),
    ("strided", 16384, 1.0),
)
FASTER_THAN_NAIVE = (("performer", 10.0), ("linear", 10.0), ("linformer", 10.0))
WORKSPACE_BYTES = 100_000_000
SLOPE = 1.10
SLOPES = {"strided": 1.40}
SETUP_SHARE = 0.10


def find(rows: list[ResultRow], variant: str, tokens: int, causal: bool = True) -> ResultRow | None:
    """The row of `variant` at `tokens`, of those that ended ok."""
    exact = [r for r in rows if (r.variant, r.seq_kv, r.causal) == (variant, tokens, causal)]
    return next((r for r in exact if r.time_ms), None)


def figures(rows: list[ResultRow]) -> list[tuple[str, float | None, float, bool]]:
    """What is asked: its name, what was measured, the bound, and whether more is better."""
    wide = [r for r in rows if r.heads == 8]
    narrow = [r for r in rows if r.heads == 2]
    found: list[tuple[str, float | None, float, bool]] = []
    for variant, tokens, wanted in FASTER_THAN_SDPA:
        ratio = _ratio(find(wide, "flash", tokens), find(wide, variant, tokens))
        found.append((f"{variant} n={tokens}: times SDPA", ratio, wanted, True))
    for variant, wanted in FASTER_THAN_NAIVE:
        causal = variant != "linformer"
        mine = find(narrow, variant, 16384, causal)
        ratio = _ratio(find(narrow, "naive", 16384, causal), mine)
        found.append((f"{variant} n=16384: times naive", ratio, wanted, True))
        held = None if mine is None else mine.workspace_bytes
        found.append((f"{variant} n=16384: workspace bytes", held, WORKSPACE_BYTES, False))
    for variant in ("sliding_window", "longformer", "bigbird", "strided"):
        found.append(
            (f"{variant}: slope", _slope(wide, variant), SLOPES.get(variant, SLOPE), False)
        )
        row = find(wide, variant, 16384)
        share = None
        if row is not None and row.time_ms and row.setup_ms is not None:
            share = row.setup_ms / row.time_ms
        found.append((f"{variant} n=16384: set-up / forward", share, SETUP_SHARE, False))
    for variant, causal in (("performer", True), ("linear", True), ("linformer", False)):
        found.append((f"{variant}: slope", _slope(narrow, variant, causal), SLOPE, False))
    return found


def _ratio(slow: ResultRow | None, fast: ResultRow | None) -> float | None:
    if slow is None or fast is None or not slow.time_ms or not fast.time_ms:
        return None
    return slow.time_ms / fast.time_ms


def _slope(rows: list[ResultRow], variant: str, causal: bool = True) -> float | None:
    """Log-log slope of time between 4k and 32k tokens."""
    short, long = (find(rows, variant, n, causal) for n in (4096, 32768))
    ratio = _ratio(long, short)
    return None if ratio is None else math.log2(ratio) / 3


def main(run: str) -> int:
    """Print each figure beside its bound."""
    missed = 0
    for name, value, bound, more in figures(list(read_rows(Path(run) / "results.csv"))):
        good = value is not None and (value >= bound if more else value <= bound)
        missed += not good
        shown = "not there" if value is None else f"{value:.4g}"
        sign = "at least" if more else "at most"
        print(f"{'ok  ' if good else 'MISS'} {name}: {shown} ({sign} {bound:.4g})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
