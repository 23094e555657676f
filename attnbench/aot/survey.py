"""Compiles kernels for absent GPUs, one after the other, and reads what became of each."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from attnbench.aot.compile import (
    CompileJob,
    compile_ahead,
    entry_names,
    feature_names,
    kernel_families,
)
from attnbench.aot.facts import KernelFacts, facts_of, save_files
from attnbench.errors import MachineError, UserError, unknown_name
from attnbench.kernels._targets import MAX_HEAD_DIM, SHARED_LIMIT_BYTES, family

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
    why: str


def jobs_for(
    *,
    kernels: Sequence[str] | None,
    targets: Sequence[str],
    head_dims: Sequence[int],
    features: Sequence[str],
    dtype: str,
) -> list[CompileJob]:
    """One job for each combination; all kernels where `kernels` is None.

    A family is compiled with those of `features` that it has.

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
    known = {kernel: feature_names(kernel) for kernel in chosen}
    every = tuple(dict.fromkeys(name for names in known.values() for name in names))
    for unknown in (name for name in features if name not in every):
        raise unknown_name(f"feature of {', '.join(chosen)}", unknown, every)
    targets = [_known_target(target) for target in targets]
    return [
        CompileJob(
            kernel=kernel,
            entry=entry,
            target=target,
            head_dim=head_dim,
            dtype=_torch_name(dtype),
            features=name,
        )
        for kernel in chosen
        for target in targets
        for entry in entry_names(kernel, target)
        for head_dim in head_dims
        for name in features
        if name in known[kernel]
    ]


def survey(
    jobs: Sequence[CompileJob],
    *,
    save: Path | None = None,
    tell: Callable[[CompileJob], None] = lambda job: None,
) -> Iterator[KernelFacts | Failed]:
    """The facts of each job, in order; one that fails costs its own row alone.

    Raises:
        UserError: `save` cannot be written.
    """
    for job in jobs:
        tell(job)
        try:
            made = compile_ahead(job)
            facts = facts_of(job, made)
            if save is not None:
                files = save_files(job, made, save)
                facts = msgspec.structs.replace(facts, files=files)
            yield facts
        except MachineError as error:
            yield Failed(
                kernel=job.kernel,
                entry=job.entry,
                target=job.target,
                head_dim=job.head_dim,
                features=job.features,
                why=str(error),
            )
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None


def _known_target(target: str) -> str:
    name = target.strip().lower()
    if not name.removeprefix("sm_").isdecimal() and not name.startswith("gfx"):
        raise unknown_name("target", target, SHARED_LIMIT_BYTES)
    if family(name) is None:
        raise UserError(
            f"no configuration is shipped for target {target!r}",
            hint=f"There are some for {', '.join(SHARED_LIMIT_BYTES)} and their relatives.",
        )
    return name


def _torch_name(dtype: str) -> str:
    if dtype not in DTYPES:
        raise unknown_name("dtype of a kernel", dtype, DTYPES)
    return DTYPES[dtype]
