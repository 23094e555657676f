"""Compiles a kernel of ours, or a user's, for a GPU that is not here, in a child process.

A stub takes the driver's place, so that Triton specialises the arguments exactly as it
does before a real launch. A compiler that aborts or hangs costs its child only.
"""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import msgspec

from attnbench.aot.peer import Peer, PeerConfig
from attnbench.aot.stub import stand_in
from attnbench.errors import MachineError
from attnbench.measure.isolation import Say, run_isolated

_SUFFIX = "_aot"


TIME_LIMIT_S = 180.0


class PeerSource(msgspec.Struct, frozen=True, kw_only=True):
    """A user's kernel: its file and name, how it is called (None: the file says), which config."""

    path: str
    name: str
    call: dict[str, Any] | None = None
    index: int = 0


class CompileJob(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel to compile: family, entry, target ("sm_90", "gfx942"), shape and features.

    `entry` is the JIT function; None for the first that is shipped. `config` holds the
    fields of the family's configuration; None for the shipped one. A user's kernel has
    `peer`, its file's stem for a family, and 0 for a head_dim that is not said.
    """

    kernel: str
    target: str
    head_dim: int
    entry: str | None = None
    dtype: str = "bfloat16"
    features: str = "plain"
    config: dict[str, int] | None = None
    peer: PeerSource | None = None


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """What the compiler made: `texts` by kind (ttgir, llir, ptx, amdgcn), `binary`.

    `useful_flops` are those of the matrix products that one program needs in one
    iteration of its main loop, `tiles` the bytes of each operand that it loads for them,
    empty where not known; `num_warps` what the compiler made of the one asked.
    """

    entry: str
    config: dict[str, int]
    useful_flops: int | None
    tiles: tuple[int, ...] = ()
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


def compile_ahead(job: CompileJob, *, time_limit_s: float = TIME_LIMIT_S) -> Compiled:
    """Compile `job` in a child process.

    Raises:
        MachineError: the compiler failed, crashed, or took over `time_limit_s`.
    """
    ended = run_isolated(_compile, job, time_limit_s=time_limit_s)
    if ended.failed:
        raise MachineError(f"{job.kernel} for {job.target}: {ended.failed}: {ended.reason}")
    assert isinstance(ended.result, Compiled)
    return ended.result


def peer_configs(
    source: PeerSource, target: str, *, time_limit_s: float = TIME_LIMIT_S
) -> tuple[int, list[PeerConfig]]:
    """The head_dim (0: not said) and configurations of a user's kernel; a child runs its file.

    Raises:
        MachineError: the file does not run, hangs, or has no such kernel.
    """
    ended = run_isolated(_describe, (source, target), time_limit_s=time_limit_s)
    if ended.failed:
        raise MachineError(f"{Path(source.path).name} for {target}: {ended.failed}: {ended.reason}")
    head_dim, configs = ended.result
    return head_dim, configs


def _describe(payload: tuple[PeerSource, str], say: Say) -> tuple[int, list[PeerConfig]]:
    source, target = payload
    stand_in(target)
    peer = Peer(source.path, source.name, target, source.call)
    return peer.call.head_dim or 0, peer.configs()


def _compile(job: CompileJob, say: Say) -> Compiled:
    stand_in(job.target)
    if job.peer is not None:
        peer = Peer(job.peer.path, job.peer.name, job.target, job.peer.call)
        kernel, arguments, options, useful = peer.launch(job.peer.index)
        entry, grid, config, tiles = job.peer.name, (1,), job.config or {}, ()
    else:
        import torch

        family = _family(job.kernel)
        entry = job.entry or family.entries(job.target)[0]
        launch, config, useful, tiles = family.ahead_of_time(
            entry,
            job.target,
            head_dim=job.head_dim,
            dtype=getattr(torch, job.dtype),
            features=job.features,
            config=None if job.config is None else family.CONFIG(**job.config),
        )
        kernel, grid = launch.kernel, launch.grid
        arguments, options = launch.arguments, launch.options
    made = kernel.warmup(grid=grid, **arguments, **options)
    binary = made.asm.get("cubin") or made.asm["hsaco"]
    return Compiled(
        entry=entry,
        config=dict(config),
        useful_flops=useful,
        tiles=tuple(tiles),
        num_warps=made.metadata.num_warps,
        shared_bytes=made.metadata.shared,
        texts={kind: text for kind, text in made.asm.items() if isinstance(text, str)},
        binary=binary,
    )
