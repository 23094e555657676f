"""Compiles kernels for absent GPUs, one after the other, and reads what became of each."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from attnbench.aot.compile import CompileJob, compile_ahead, feature_names, kernel_families
from attnbench.aot.facts import KernelFacts, facts_of, save_files
from attnbench.errors import MachineError, UserError, unknown_name
from attnbench.kernels._targets import MAX_HEAD_DIM, SHARED_LIMIT_BYTES, family

DEFAULT_TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")
DEFAULT_FEATURES = ("plain", "causal")
DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel that could not be compiled or read, and why."""

    kernel: str
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

    Raises:
        UserError: an unknown kernel, target, feature or dtype, or a head too wide.
    """
    for head_dim in head_dims:
        if head_dim > MAX_HEAD_DIM:
            raise UserError(f"head_dim: {head_dim} is not in 1..{MAX_HEAD_DIM}")
    families = kernel_families()
    jobs = []
    for kernel in families if kernels is None else kernels:
        if kernel not in families:
            raise unknown_name("kernel", kernel, families)
        names = feature_names(kernel)
        for unknown in (name for name in features if name not in names):
            raise unknown_name(f"feature of {kernel}", unknown, names)
        jobs += [
            CompileJob(
                kernel=kernel,
                target=_known_target(target),
                head_dim=head_dim,
                dtype=_torch_name(dtype),
                features=name,
            )
            for target in targets
            for head_dim in head_dims
            for name in features
        ]
    return jobs


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
