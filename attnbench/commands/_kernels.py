"""What `attnbench kernels` makes of its options."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from attnbench.commands._options import split_names
from attnbench.errors import UserError, missing_extra
from attnbench.units import parse_lengths

if TYPE_CHECKING:
    from attnbench.aot.compile import CompileJob
    from attnbench.aot.facts import KernelFacts
    from attnbench.aot.survey import Failed

KernelOption = Annotated[str, typer.Option(help="Families, comma-separated. Default: all.")]
TargetOption = Annotated[str, typer.Option(help="GPU targets.")]
HeadDimsOption = Annotated[str, typer.Option(help="Widths of a head.")]
FeaturesOption = Annotated[str, typer.Option(help="Sets of features; 'every' for all there are.")]
DtypeOption = Annotated[str, typer.Option(help="fp16, bf16 or fp32.")]
ConfigOption = Annotated[
    str,
    typer.Option(help="Another than the shipped: 128x64w8s3, or name=value,... of its fields."),
]
PeerOption = Annotated[
    str,
    typer.Option(metavar="FILE.py:FUNCTION", help="A Triton kernel of your own instead of ours."),
]
PeerCallOption = Annotated[
    Path | None, typer.Option(help="YAML that says how the peer is called (docs/kernels.md).")
]
TimeLimitOption = Annotated[float, typer.Option(min=1, help="Seconds that one compile may take.")]
EVERY = "every"


class Asked(NamedTuple):
    """What to compile."""

    kernel: str
    target: str
    head_dims: str
    features: str
    dtype: str
    config: str
    peer: str
    peer_call: Path | None
    time_limit_s: float


def compiled(asked: Asked, save: Path | None = None) -> "list[KernelFacts | Failed]":
    """The facts of every kernel that `asked` names.

    Raises:
        UserError: an option that cannot be read or names what there is not.
        MachineError: torch or triton is missing.
    """
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "bench")
    from attnbench.aot.survey import survey

    jobs = _peer_jobs(asked) if asked.peer else list(_own_jobs(asked))
    found = survey(
        jobs, save=save, tell=_tell, time_limit_s=asked.time_limit_s, workers=os.cpu_count() or 1
    )
    return list(found)


def check_targets(full: bool) -> str:
    """The targets that `check` covers where none is named."""
    return "sm_80,sm_90,sm_100,gfx942" if full else "sm_80,sm_90,gfx942"


def check_features(full: bool) -> str:
    """The sets of features that `check` covers where none is named."""
    return EVERY if full else "plain,causal"


def triton_version() -> str:
    """The version of the Triton installed."""
    from importlib.metadata import version

    return version("triton")


def _own_jobs(asked: Asked) -> "list[CompileJob]":
    from attnbench.aot.survey import jobs_for, parse_config

    if asked.peer_call is not None:
        raise UserError("--peer-call says how a --peer is called; there is none")
    return jobs_for(
        kernels=split_names(asked.kernel) if asked.kernel else None,
        targets=split_names(asked.target) or [],
        head_dims=parse_lengths(asked.head_dims, what="--head-dims"),
        features=None if asked.features == EVERY else split_names(asked.features) or [],
        dtype=asked.dtype,
        config=parse_config(asked.config) if asked.config else None,
    )


def _peer_jobs(asked: Asked) -> "list[CompileJob | Failed]":
    from attnbench.aot.compile import PeerSource
    from attnbench.aot.peer import parse_peer, read_call
    from attnbench.aot.survey import parse_config, peer_jobs

    if asked.kernel:
        raise UserError("--peer and --kernel do not go together")
    path, name = parse_peer(asked.peer)
    call = None if asked.peer_call is None else read_call(asked.peer_call)
    return peer_jobs(
        PeerSource(path=str(path), name=name, call=call),
        targets=split_names(asked.target) or [],
        only=parse_config(asked.config) if asked.config else None,
        time_limit_s=asked.time_limit_s,
    )


def _tell(job: "CompileJob") -> None:
    if sys.stderr.isatty():
        print(f"\r\033[Kcompiling {job.entry} for {job.target}", end="\r", file=sys.stderr)
