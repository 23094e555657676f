"""What `check --ab` and `selfcheck` share: their options, and pairs of sweeps read as runs."""

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from attnbench.catalog.yaml_file import read_yaml
from attnbench.errors import UserError
from attnbench.gate.check import Outcome
from attnbench.gate.exact import MEMORY
from attnbench.gate.paired import MIN_PAIRS, Pairs, check_pairs, confirm, slower_variants
from attnbench.gate.runs import read_run
from attnbench.gate.verdict import Limits
from attnbench.measure.pairs import Job, run_pairs
from attnbench.measure.preset import Preset, load_preset, override
from attnbench.measure.revision import Tree, checked_out, repository_root
from attnbench.measure.sweep import find_device

PresetOption = Annotated[str, typer.Option(help="What each process times: a sweep's preset.")]
ConfigOption = Annotated[Path | None, typer.Option(help="A YAML file in a preset's form.")]
VariantsOption = Annotated[str | None, typer.Option(help="naive,flash,...")]
SeqLensOption = Annotated[str | None, typer.Option(help="1k,2k or 1k..64k")]
DeviceOption = Annotated[str, typer.Option(help="auto, cuda or cpu.")]
PairsOption = Annotated[int, typer.Option(help="Pairs of fresh processes.")]
RunDirOption = Annotated[
    Path | None, typer.Option(help="Keep the run folders of every process there.")
]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is timed and how often; `run_dir` keeps the runs, else they are thrown away.

    `own` are kernels of the user's own, FILE.py:NAME.
    """

    preset: str
    pairs: int
    device: str
    config: Path | None = None
    variants: tuple[str, ...] | None = None
    seq_lens: str | None = None
    own: tuple[str, ...] = ()
    run_dir: Path | None = None

    def job(self) -> Job:
        """The job of each process; `variants` of a `Job` are left to be filled.

        Raises:
            UserError: too few pairs, or no such preset or file.
            MachineError: there is no such device.
        """
        if self.pairs < MIN_PAIRS:
            raise UserError(f"--pairs: {self.pairs} are too few; {MIN_PAIRS} tell a spread")
        if self.config is not None:
            read = read_yaml(self.config, Preset)
        else:
            read = load_preset(self.preset, find_device(self.device).type)
        changes = {"variants": self.variants and list(self.variants), "seq_lens": self.seq_lens}
        chosen = override(read, {name: value for name, value in changes.items() if value})
        return Job(preset=chosen, device=self.device)


def names(text: str | None) -> tuple[str, ...] | None:
    """The words of a comma list."""
    return None if text is None else tuple(word.strip() for word in text.split(","))


def compare_revisions(ref: str, asked: Asked, limits: Limits) -> tuple[Tree, Pairs, Outcome]:
    """Time revision `ref` of the repository here, and its working tree, in turn; judge.

    Raises:
        UserError: no repository, no such revision, or nothing that can be timed so.
        NotComparableError: the other revision cannot be timed.
        MachineError: this one cannot.
    """
    repository = repository_root(Path.cwd())
    own = tuple(_inside(each, repository) for each in asked.own)
    memory = bool({*MEMORY} & {*limits.metrics})
    job = msgspec.structs.replace(asked.job(), variants=own, memory=memory)
    with checked_out(repository, ref) as (before, now):
        return before, *_judged(before, now, job, asked, limits)


def repeat(asked: Asked, limits: Limits) -> tuple[Pairs, Outcome]:
    """Time the code that runs here against itself, in turn; judge."""
    path = os.environ.get("PYTHONPATH", "")
    here = Tree(name="this code", folder=Path.cwd(), import_path=path)
    job = msgspec.structs.replace(asked.job(), memory=False)
    return _judged(here, here, job, asked, limits)


def _judged(
    before: Tree, now: Tree, job: Job, asked: Asked, limits: Limits
) -> tuple[Pairs, Outcome]:
    """Pairs of runs, and what they say; what is slower is timed again before it is called."""
    with ExitStack() as stack:
        folder = asked.run_dir
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="attnbench-runs-")
            folder = Path(stack.enter_context(made)) / "pairs"

        def run(work: Job, into: Path) -> tuple[Pairs, int]:
            made = run_pairs(before, now, work, into, pairs=asked.pairs, tell=_tell)
            read = [(read_run(first), read_run(second)) for first, second in made.runs]
            return read, made.timed_from

        pairs, timed_from = run(job, folder.absolute())
        outcome = check_pairs(pairs, limits, timed_from=timed_from)
        timed = pairs[timed_from:]
        slow = slower_variants(outcome)
        if slow:
            _tell(f"slower at first: {', '.join(sorted(slow))}; timing these again")
            work = msgspec.structs.replace(job.only(slow), memory=False)
            again, _ = run(work, folder.absolute() / "again")
            outcome = confirm(outcome, timed, again, limits)
        return timed, outcome


def _inside(spec: str, repository: Path) -> str:
    """FILE.py:NAME with the file's path in the repository.

    Raises:
        UserError: it is not in it: both sides would time one file.
    """
    file, _, name = spec.rpartition(":")
    path, root = Path(file).resolve(), repository.resolve()
    if not file or not path.is_relative_to(root):
        raise UserError(f"--variant {spec}: not FILE.py:NAME with a file in {repository}")
    return f"{path.relative_to(root)}:{name}"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
