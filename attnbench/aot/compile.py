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
    """One kernel to compile: family, target ("sm_90", "gfx942"), shape and features.

    `config` is (block_m, block_n, num_warps, num_stages); None for the shipped one.
    """

    kernel: str
    target: str
    head_dim: int
    dtype: str = "bfloat16"
    features: str = "plain"
    config: tuple[int, int, int, int] | None = None


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """What the compiler made: `texts` by kind (ttgir, llir, ptx, amdgcn), `binary`."""

    entry: str
    config: tuple[int, int, int, int]
    block_d: int
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
    return tuple(importlib.import_module(f"attnbench.kernels.{kernel}{_SUFFIX}").FEATURES)


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
    family: Any = importlib.import_module(f"attnbench.kernels.{job.kernel}{_SUFFIX}")
    config = None
    if job.config is not None:
        config = importlib.import_module("attnbench.kernels._targets").Config(*job.config)
    launch, used = family.ahead_of_time(
        job.target,
        head_dim=job.head_dim,
        dtype=getattr(torch, job.dtype),
        features=job.features,
        config=config,
    )
    made = launch.kernel.warmup(grid=launch.grid, **launch.arguments, **launch.options)
    binary = made.asm.get("cubin") or made.asm["hsaco"]
    return Compiled(
        entry=family.ENTRY,
        config=tuple(used),
        block_d=launch.arguments["BLOCK_D"],
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
