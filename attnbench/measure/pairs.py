"""Times two trees in turn: a fresh process of each, pair after pair, in one job.

A process is a sweep of the tree's own code: what the two share is the contract of a run
folder alone. The two of a pair run at once and take turns round by round (`turns`); one
after the other where a tree's code is too old for that. In each pair the order is drawn.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from attnbench.errors import MachineError, NotComparableError, UserError
from attnbench.files import write_atomically
from attnbench.measure.journal import RESULTS
from attnbench.measure.preset import Preset
from attnbench.measure.revision import Tree
from attnbench.measure.turns import leave, same_cores, two_sides
from attnbench.spec.result import ResultRow, Status
from attnbench.spec.results_csv import read_rows

# Many short rounds tell more than few long ones: a machine changes its speed between them.
ROUNDS = 10  # of a process: their median is one figure
_SHORTER = 0.5  # a round, than the preset's
_CODES_WITH_ROWS = (0, 3)  # 3: every point failed, and their rows say why

Tell = Callable[[str], None]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a process times: a preset, on a device, and kernels of the user's own.

    `variants` are FILE.py:NAME, the file's path relative to the tree. `memory` is whether
    memory is measured too.
    """

    preset: Preset
    device: str
    variants: tuple[str, ...] = ()
    memory: bool = True

    def only(self, names: frozenset[str]) -> "Job":
        """The same for variants of `names` alone, those of the user's own among them."""
        grids = [
            msgspec.structs.replace(grid, variants=[v for v in grid.variants if v in names])
            for grid in self.preset.grids
        ]
        left = [grid for grid in grids if grid.variants] or self.preset.grids
        preset = msgspec.structs.replace(self.preset, grids=left)
        return msgspec.structs.replace(self, preset=preset)

    def timed(self, rows: Iterable[ResultRow]) -> "Job":
        """The same for the backends that have a time in `rows`.

        What was checked and never timed, as a Triton kernel in its interpreter is, need
        not be run by every process.
        """
        found = {(row.variant, row.backend) for row in rows if row.status == Status.OK}
        grids = []
        for grid in self.preset.grids:
            asked = grid.backends
            backends = sorted(
                {b for v, b in found if v in grid.variants and (asked is None or b in asked)}
            )
            grids.append(msgspec.structs.replace(grid, backends=backends) if backends else grid)
        preset = msgspec.structs.replace(self.preset, grids=grids)
        return msgspec.structs.replace(self, preset=preset)


class Made(NamedTuple):
    """The run folders of each pair, before and now; the pairs from `timed_from` on tell times."""

    runs: list[tuple[Path, Path]]
    timed_from: int


def run_pairs(before: Tree, now: Tree, job: Job, folder: Path, *, pairs: int, tell: Tell) -> Made:
    """Run `pairs` pairs of sweeps that are timed.

    The first pair does the whole job; the others time what it timed: what is exact need
    not be repeated. Where sides take turns and memory is measured, that is a pair of its
    own before them: memory is a matter of processes that nothing runs beside.

    Raises:
        UserError: the folder cannot be used.
        NotComparableError: the code of `before` cannot be timed so.
        MachineError: that of `now` cannot.
    """
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"run folder {folder}: {error.strerror}") from None
    order = random.Random(job.preset.timing.seed)
    alternate = hasattr(os, "mkfifo") and _takes_turns(before) and _takes_turns(now)
    timed_from = 1 if alternate and job.memory else 0
    made = []
    for number in range(pairs + timed_from):
        sides = [(before, folder / f"{number:02d}-before"), (now, folder / f"{number:02d}-now")]
        config = folder / f"{number:02d}.json"  # JSON is YAML, and needs no writer
        write_atomically(config, json.dumps(_brief(job.preset)))
        drawn = order.sample(sides, 2)
        sweeps = [partial(_sweep, tree, job, config, run, lenient=tree is before)
                  for tree, run in drawn]  # fmt: skip
        what = f"pair {number + 1 - timed_from} of {pairs}" if number >= timed_from else "exact"
        if alternate and number >= timed_from:
            tell(f"{what}: {drawn[0][0].name} and {drawn[1][0].name}, in turn")
            _together(sweeps, folder)
        else:
            for (tree, _), sweep in zip(drawn, sweeps, strict=True):
                tell(f"{what}: {tree.name}")
                sweep({})
        made.append((sides[0][1], sides[1][1]))
        if number == 0:
            rows = [row for _, run in sides for row in read_rows(run / RESULTS)]
            job = msgspec.structs.replace(job.timed(rows), memory=False)
    return Made(made, timed_from)


def _takes_turns(tree: Tree) -> bool:
    """Whether the attnbench that a sweep of `tree` would run knows turns."""
    # Not by an import of `turns`: an editable install would answer for a tree without it.
    probe = (
        "import attnbench, pathlib, sys;"
        "sys.exit(not pathlib.Path(attnbench.__path__[0], 'measure', 'turns.py').is_file())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=tree.folder,
        env=_environment(tree),
        capture_output=True,
        check=False,
    )
    return ran.returncode == 0


def _environment(tree: Tree) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": tree.import_path, "PYTHONSAFEPATH": "1"}


def _together(sweeps: Sequence[Callable[[dict[str, str]], None]], folder: Path) -> None:
    """Run two sweeps at once, in turn; what one raises is raised when both have ended."""

    def one(sweep: Callable[[dict[str, str]], None], environment: dict[str, str]) -> None:
        try:
            sweep(environment)
        finally:
            leave(environment)

    with two_sides(folder) as sides, same_cores(), ThreadPoolExecutor(2) as pool:
        ended = [pool.submit(one, *each) for each in zip(sweeps, sides, strict=True)]
        for end in ended:
            end.exception()
    for end in ended:
        end.result()


def _brief(preset: Preset) -> object:
    """`preset` with the rounds that one process needs, and nothing that has its default."""
    round_ms = preset.timing.round_ms * _SHORTER
    timing = msgspec.structs.replace(
        preset.timing, rounds=ROUNDS, max_rounds=ROUNDS, round_ms=round_ms
    )
    whole = msgspec.to_builtins(msgspec.structs.replace(preset, timing=timing))
    whole["grids"] = [{k: v for k, v in grid.items() if v is not None} for grid in whole["grids"]]
    return whole


def _sweep(
    tree: Tree, job: Job, config: Path, run: Path, environment: dict[str, str], *, lenient: bool
) -> None:
    own = [word for each in job.variants for word in ("--variant", str(tree.folder / each))]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "attnbench", "sweep", "--format", "csv"),
            *("--config", str(config), "--run-dir", str(run), "--device", job.device),
            *([] if job.memory else ["--no-memory"]),
            *own,
        ],
        cwd=tree.folder,
        env=_environment(tree) | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in _CODES_WITH_ROWS:
        return
    said = [line for line in done.stderr.splitlines() if line.startswith("attnbench:")]
    reason = said[-1].removeprefix("attnbench: ") if said else _last(done.stderr.splitlines())
    message = f"{tree.name}: its sweep ended with exit code {done.returncode}: {reason}"
    raise NotComparableError(message) if lenient else MachineError(message)


def _last(lines: Sequence[str]) -> str:
    return lines[-1] if lines else "it said nothing"
