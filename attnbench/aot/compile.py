"""Compiles a kernel of ours for a GPU that is not here, in a child process.

A stub takes the driver's place, so that Triton specialises the arguments exactly as it
does before a real launch. A compiler that aborts or hangs costs its child only.
"""

import importlib
import pkgutil
from typing import Any

import msgspec

from attnbench.errors import MachineError
from attnbench.measure.isolation import Say, run_isolated

_SUFFIX = "_aot"


class CompileJob(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel to compile: family, entry, target ("sm_90", "gfx942"), shape and features.

    `entry` is the JIT function; None for the first that is shipped. `config` holds the
    fields of the family's configuration; None for the shipped one.
    """

    kernel: str
    target: str
    head_dim: int
    entry: str | None = None
    dtype: str = "bfloat16"
    features: str = "plain"
    config: dict[str, int] | None = None


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """What the compiler made: `texts` by kind (ttgir, llir, ptx, amdgcn), `binary`.

    `useful_flops` are those of the matrix products that one program needs in one
    iteration of its main loop; `num_warps` what the compiler made of the one asked.
    """

    entry: str
    config: dict[str, int]
    useful_flops: int | None
    num_warps: int
    shared_bytes: int
    texts: dict[str, str]
    binary: bytes


def kernel_families() -> tuple[str, ...]:
    """Families that can be compiled ahead of time: `kernels/<family>_aot.py`."""
    folder = importlib.import_module("attnbench.kernels").__path__
    names = (module.name for module in pkgutil.iter_modules(folder))
    return tuple(sorted(n.removesuffix(_SUFFIX) for n in names if n.endswith(_SUFFIX)))


def feature_names(kernel: str) -> tuple[str, ...]:
    """Sets of features that the family `kernel` can be compiled with."""
    return tuple(_family(kernel).FEATURES)


def entry_names(kernel: str, target: str) -> tuple[str, ...]:
    """The JIT functions of the family `kernel` that are shipped for `target`."""
    return tuple(_family(kernel).entries(target))


def _family(kernel: str) -> Any:
    """The module that speaks for the family; `kernels/_launch.py` says what it holds."""
    return importlib.import_module(f"attnbench.kernels.{kernel}{_SUFFIX}")


def compile_ahead(job: CompileJob, *, time_limit_s: float = 180.0) -> Compiled:
    """Compile `job` in a child process.

    Raises:
        MachineError: the compiler failed, crashed, or took over `time_limit_s`.
    """
    ended = run_isolated(_compile, job, time_limit_s=time_limit_s)
    if ended.failed:
        raise MachineError(f"{job.kernel} for {job.target}: {ended.failed}: {ended.reason}")
    assert isinstance(ended.result, Compiled)
    return ended.result


def _compile(job: CompileJob, say: Say) -> Compiled:
    import torch
    import triton

    stub: Any = _StubDriver(job.target)
    triton.runtime.driver.set_active(stub)
    family = _family(job.kernel)
    entry = job.entry or family.entries(job.target)[0]
    launch, config, useful_flops = family.ahead_of_time(
        entry,
        job.target,
        head_dim=job.head_dim,
        dtype=getattr(torch, job.dtype),
        features=job.features,
        config=None if job.config is None else family.CONFIG(**job.config),
    )
    made = launch.kernel.warmup(grid=launch.grid, **launch.arguments, **launch.options)
    binary = made.asm.get("cubin") or made.asm["hsaco"]
    return Compiled(
        entry=entry,
        config=dict(config),
        useful_flops=useful_flops,
        num_warps=made.metadata.num_warps,
        shared_bytes=made.metadata.shared,
        texts={kind: text for kind, text in made.asm.items() if isinstance(text, str)},
        binary=binary,
    )


class _StubDriver:
    """Answers what Triton asks of a driver before it compiles; it can launch nothing."""

    def __init__(self, target: str) -> None:
        self.target = target

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        if self.target.startswith("gfx"):
            return GPUTarget("hip", self.target, 64)
        return GPUTarget("cuda", int(self.target.removeprefix("sm_")), 32)

    def get_current_device(self) -> str:
        return self.target  # a device of its own a target: Triton caches by it

    def get_current_stream(self, device: str) -> int:
        return 0

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cpu")
