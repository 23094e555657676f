"""Fits every shipped constant: `python -m attnbench.calibration ATTENTION.csv SERVING.csv`.

Prints how far constants fitted to half of the rows (`points.held_back` says which) are
from the other half; with `--leave-out`, how far every pair of GPU and engine, and every
GPU, is when none of its rows were fitted. With `--write DATE` constants are fitted to all
rows but the corpus that attnbench ships (`points.shipped`: one row in eight), and written
into `profiles/hardware/*.yaml`, `profiles/calibration/*.yaml` and `profiles/corpora/*.csv`.
"""

import argparse
import sys
from pathlib import Path

from attnbench import profiles
from attnbench.calibration.bands import with_bands
from attnbench.calibration.points import Point, points, shipped
from attnbench.calibration.sample import sample
from attnbench.calibration.score import Score, Scored, leave_out, predicted, scores
from attnbench.calibration.serving import (
    as_engines,
    fit_engines,
    serving_points,
    tpot_errors,
    ttft_errors,
)
from attnbench.calibration.table import as_calibrations, fit_all
from attnbench.calibration.write import engines_yaml, families_yaml, update_profile
from attnbench.catalog.hardware import gpu_names
from attnbench.catalog.serving_rows import read_serving
from attnbench.catalog.timing_rows import read_timings
from attnbench.engines.attention import AttentionEngine
from attnbench.files import write_atomically

_SCRIPT = "python -m attnbench.calibration"
_FOLDER = Path(next(iter(profiles.__path__)))
_ATTENTION_SOURCE = (
    "published timings: aiconfigurator's database, result files of cudnn-frontend and "
    "InferSim, papers; docs/roofline.md"
)
_SERVING_SOURCE = "published measurements: aiconfigurator's silicon samples; docs/roofline.md"


def main() -> None:
    """Reads the command line, fits, prints, and writes where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attention", type=Path)
    parser.add_argument("serving", type=Path)
    parser.add_argument("--write", metavar="DATE", help="fit all rows and write profiles")
    parser.add_argument("--leave-out", action="store_true", help="also score unseen engines, GPUs")
    asked = parser.parse_args()
    attention(asked.attention, asked.write, leave=asked.leave_out)
    serving(asked.serving, asked.write)


def attention(path: Path, date: str | None, *, leave: bool) -> None:
    """Fits, scores and, with a `date`, writes the constants of attention kernels."""
    every = points(read_timings(path))
    named = {"source": _ATTENTION_SOURCE, "fitted": date or "", "script": _SCRIPT}
    half = as_calibrations(fit_all([p for p in every if not p.held_back]), **named)
    held = predicted([p for p in every if p.held_back], half)
    _print("held-back half", scores(held, least=5))
    unseen: list[Scored] = []
    if leave or date:
        unseen = leave_out(every, lambda p, one: _pair(p) == _pair(one))
        _print("engine and GPU never seen together", scores(unseen, least=5))
    if leave:
        strange = leave_out(every, lambda p, one: p.gpu.name == one.gpu.name)
        _print("GPU never seen", scores(strange, least=5))
    if date:
        rest = as_calibrations(fit_all([p for p in every if not p.shipped]), **named)
        table = with_bands(rest, held, unseen)
        _print("shipped corpus", scores(predicted([p for p in every if p.shipped], rest)))
        for name in gpu_names():
            update_profile(_FOLDER / "hardware" / f"{name}.yaml", table.pop(name, {}))
        write_atomically(_FOLDER / "calibration" / "families.yaml", families_yaml(table))
        kept = {row.id for row in read_timings(path) if shipped(row.identity)}
        sample(path, kept, _FOLDER / "corpora" / "attention_timings.csv")


def serving(path: Path, date: str | None) -> None:
    """Fits, scores and, with a `date`, writes the constants of engines that serve models."""
    rows = read_serving(path)
    every = serving_points(rows)
    half = fit_engines([p for p in every if not p.held_back])
    for name, chosen in (("dense Llama", "llama"), ("all dense", "")):
        held = [p for p in every if p.held_back and chosen in p.row.series.lower()]
        print(f"\nserving, {name}, held-back half: {len(held)} rows")
        for figure, errors in (("TPOT", tpot_errors), ("TTFT", ttft_errors)):
            median, p90 = errors(held, half)
            print(f"{figure} {median:.1%} / {p90:.1%}")
    if date:
        rest = [p for p in every if not shipped(p.row.identity)]
        made = as_engines(fit_engines(rest), rest, source=_SERVING_SOURCE, date=date)
        write_atomically(_FOLDER / "calibration" / "engines.yaml", engines_yaml(made))
        kept = {row.id for row in rows if shipped(row.identity)}
        sample(path, kept, _FOLDER / "corpora" / "serving_timings.csv")


def _pair(p: Point) -> tuple[str, AttentionEngine | None]:
    return p.gpu.name, p.engine


def _print(title: str, found: list[Score]) -> None:
    print(f"\n{title}\n\n| regime | series | rows | median | p90 | efficiency 1: median | p90 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for s in found:
        figures = [f"{v:.1%}" for v in (s.median, s.p90, s.ideal_median, s.ideal_p90)]
        print("|", " | ".join((s.regime, str(s.series), str(s.rows), *figures)), "|")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
