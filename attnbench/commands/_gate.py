"""What `check` makes of its options."""

import math
from collections.abc import Sequence
from pathlib import Path

from attnbench.errors import UserError, unknown_name
from attnbench.files import write_atomically
from attnbench.gate.baseline import MAX_RUNS, bless
from attnbench.gate.check import METRICS
from attnbench.gate.noise import MIN_RUNS
from attnbench.gate.runs import Run
from attnbench.measure.journal import read_run
from attnbench.measure.user_kernels import parse_named, require_same_files
from attnbench.report.document import Document


def parse_metrics(text: str) -> tuple[str, ...]:
    """The metrics in a comma list.

    Raises:
        UserError: one that there is not, or none.
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    if not names:
        raise UserError("--metric: none is named", hint=f"Known: {', '.join(METRICS)}.")
    return names


def parse_factor(value: float) -> float:
    """A factor that a figure may grow by.

    Raises:
        UserError: it is under 1, or no finite number.
    """
    if not 1 <= value < math.inf:
        raise UserError(f"a limit of {value:g} is no factor", hint="Write 1.05 for 5% more.")
    return value


def require_alone(option: str, **others: object) -> None:
    """Refuse options that `option` has no use for.

    Raises:
        UserError: one of `others` is given.
    """
    for name, value in others.items():
        if value:
            flag = "RUN" if name == "run" else f"--{name.replace('_', '-')}"
            raise UserError(f"{option} and {flag} do not go together")


def require_timed(texts: Sequence[str], run: Path, *, update: bool) -> list[str]:
    """The names in `--variant FILE.py:NAME ...`, each timed in `run` as its file is now.

    No file is run.

    Raises:
        UserError: a file that is not there, no run folder, or `--update` beside it.
        NotComparableError: the run has no such variant, or its file is another by now.
    """
    named = [parse_named(text) for text in texts]
    if named and update:
        raise UserError("--variant and --update: a run is blessed whole")
    recorded = read_run(run).get("configuration", {}).get("user_variants", []) if named else []
    for one in named:
        require_same_files(one, recorded, str(run))
    return [one.name for one in named]


def bless_run(run: Run, path: Path) -> Document:
    """Add `run` to the baseline file at `path`, and say so."""
    text, count = bless(path, run)
    write_atomically(path, text)
    if count < MIN_RUNS:
        more = f"{MIN_RUNS - count} more of unchanged code tell the noise between runs."
    else:
        more = f"The newest {MAX_RUNS} are kept."
    return Document(
        schema="attnbench.check/1",
        data={"updated": path, "run": Path(run.label), "device": run.device, "runs": count},
        tables=(),
        notes=(f"Blessed {run.label}: {path} has {count} of {run.device}. {more}",),
    )
