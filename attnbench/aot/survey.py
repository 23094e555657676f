"""Compiles kernels for absent GPUs, one after the other, and reads what became of each."""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from attnbench.aot.compile import (
    TIME_LIMIT_S,
    CompileJob,
    PeerSource,
    compile_ahead,
    entry_names,
    feature_names,
    kernel_families,
    peer_configs,
)
from attnbench.aot.facts import KernelFacts, facts_of, save_files
from attnbench.aot.targets import parse_targets
from attnbench.errors import MachineError, UserError, unknown_name
from attnbench.kernels._targets import MAX_HEAD_DIM
from attnbench.measure.isolation import preload

DEFAULT_TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")
DEFAULT_FEATURES = ("plain", "causal")
DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel that could not be compiled or read, and why."""

    kernel: str
    entry: str | None
    target: str
    head_dim: int
    features: str
    config: dict[str, int] | None = None
    why: str


def jobs_for(
    *,
    kernels: Sequence[str] | None,
    targets: Sequence[str],
    head_dims: Sequence[int],
    features: Sequence[str] | None,
    dtype: str,
    config: dict[str, int] | None = None,
) -> list[CompileJob]:
    """One job for each combination; all kernels, all features where they are None.

    A family is compiled with those of `features` that it has, as shipped or in `config`.

    Raises:
        UserError: an unknown kernel, target, feature or dtype, or a head too wide.
    """
    for head_dim in head_dims:
        if head_dim > MAX_HEAD_DIM:
            raise UserError(f"head_dim: {head_dim} is not in 1..{MAX_HEAD_DIM}")
    families = kernel_families()
    chosen = families if kernels is None else tuple(kernels)
    for unknown in (name for name in chosen if name not in families):
        raise unknown_name("kernel", unknown, families)
    known = {kernel: feature_names(kernel) for kernel in families}
    every = tuple(dict.fromkeys(name for names in known.values() for name in names))
    wanted = every if features is None else features
    for unknown in (name for name in wanted if name not in every):
        raise unknown_name("set of features", unknown, every)
    targets = parse_targets(targets, shipped=True)
    return [
        CompileJob(
            kernel=kernel,
            entry=entry,
            target=target,
            head_dim=head_dim,
            dtype=_torch_name(dtype),
            features=name,
            config=config,
        )
        for kernel in chosen
        for target in targets
        for entry in entry_names(kernel, target)
        for head_dim in head_dims
        for name in wanted
        if name in known[kernel]
    ]


def peer_jobs(
    source: PeerSource,
    *,
    targets: Sequence[str],
    only: dict[str, int] | None,
    time_limit_s: float = TIME_LIMIT_S,
) -> list[CompileJob | Failed]:
    """A job for each target and configuration of a user's kernel that has the fields `only`.

    A target for which the file cannot be read is a `Failed`.

    Raises:
        UserError: an unknown target, or no configuration has those fields.
    """
    found: list[CompileJob | Failed] = []
    for target in parse_targets(targets, shipped=False):
        stem = Path(source.path).stem
        job = CompileJob(kernel=stem, entry=source.name, target=target, head_dim=0, features="-")
        try:
            head_dim, configs = peer_configs(source, target, time_limit_s=time_limit_s)
        except MachineError as error:
            found.append(_failed(job, error))
            continue
        wanted = (only or {}).items()
        chosen = [c for c in configs if wanted <= c.fields.items()]
        if not chosen:
            raise UserError(
                f"--config: no configuration of {source.name} is like that",
                hint=f"It has {len(configs)}, the first {configs[0].fields}." if configs else None,
            )
        found += [
            msgspec.structs.replace(
                job,
                head_dim=head_dim,
                config=c.fields,
                peer=msgspec.structs.replace(source, index=c.index),
            )
            for c in chosen
        ]
    return found


def parse_config(text: str) -> dict[str, int]:
    """The fields of a configuration: "128x64w8s3", or "block_m=128,num_warps=8".

    Raises:
        UserError: it is neither.

    >>> parse_config("128x64w8s3")
    {'block_m': 128, 'block_n': 64, 'num_warps': 8, 'num_stages': 3}
    """
    if short := re.fullmatch(r"(\d+)[x×](\d+)[ ]?w(\d+)[ ]?s(\d+)(?:[ ]?,(.*))?", text):
        names = ("block_m", "block_n", "num_warps", "num_stages")
        sizes = dict(zip(names, map(int, short.groups()[:4]), strict=True))
        return sizes | (parse_config(short[5]) if short[5] else {})
    fields = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and value.strip().isdecimal() for name, _, value in fields):
        raise UserError(f"--config: {text!r}", hint="As in 128x64w8s3 or block_m=128,num_warps=8.")
    return {name.strip(): int(value) for name, _, value in fields}


def survey(
    jobs: Sequence[CompileJob | Failed],
    *,
    save: Path | None = None,
    tell: Callable[[CompileJob], None] = lambda job: None,
    time_limit_s: float = TIME_LIMIT_S,
    workers: int = 1,
) -> Iterator[KernelFacts | Failed]:
    """The facts of each job, in order; one that fails costs its own row alone.

    Raises:
        UserError: `save` cannot be written.
    """
    one = partial(_survey_one, save=save, tell=tell, time_limit_s=time_limit_s)
    preload("attnbench.aot.warm")
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(one, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def _survey_one(
    job: CompileJob | Failed,
    *,
    save: Path | None,
    tell: Callable[[CompileJob], None],
    time_limit_s: float,
) -> KernelFacts | Failed:
    if isinstance(job, Failed):
        return job
    tell(job)
    try:
        made = compile_ahead(job, time_limit_s=time_limit_s)
        facts = facts_of(job, made)
        if save is not None:
            facts = msgspec.structs.replace(facts, files=save_files(job, made, save))
    except MachineError as error:
        return _failed(job, error)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    return facts


def _failed(job: CompileJob, error: Exception) -> Failed:
    shared: dict[str, Any] = {
        name: getattr(job, name) for name in Failed.__struct_fields__ if name != "why"
    }
    return Failed(**shared, why=str(error))


def _torch_name(dtype: str) -> str:
    if dtype not in DTYPES:
        raise unknown_name("dtype of a kernel", dtype, DTYPES)
    return DTYPES[dtype]
