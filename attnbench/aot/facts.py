"""What can be said of a compiled kernel without running it."""

from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from attnbench.aot import amdgcn, sass
from attnbench.aot.classes import count_classes
from attnbench.aot.compile import Compiled, CompileJob
from attnbench.aot.loads import load_bits
from attnbench.aot.loops import Instruction
from attnbench.aot.model import estimate
from attnbench.errors import MachineError
from attnbench.kernels._targets import KIB, SHARED_LIMIT_BYTES, family

# Shared memory and warps of an SM. Source: CUDA C++ programming guide, "technical
# specifications per compute capability".
_SM = {"sm_80": (164 * KIB, 64), "sm_86": (100 * KIB, 48),
       "sm_90": (228 * KIB, 64), "sm_100": (228 * KIB, 64)}  # fmt: skip
_SM_KEPT_BYTES = 1 * KIB  # of shared memory, for each program
_QUARTER_REGISTERS = 16 * KIB  # an SM has four parts; a warp's registers lie in one
_REGISTER_UNIT = 256
_SM_PROGRAMS = 32
# A CU has four SIMDs of 8 waves and 512 registers a lane, VGPRs and AGPRs together.
# Source: AMD Instinct MI300 ISA guide, section 3.6.
_SIMDS, _WAVES, _LANE_REGISTERS, _LANE_UNIT = 4, 8, 512, 8


class KernelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of one kernel, target and configuration, as the compiler left them.

    `registers` a thread. `mma` is the opcode class of the matrix products. The main loop
    is the one with most of them, of two alike the shorter: the unmasked. Of it:
    `mma_redundancy` is FLOPs executed over those that the mathematics needs (None where
    opcodes do not say), `load_bits` the narrowest load from global memory that the
    tiles of operands need (`loads.py`), `bulk_loads` whether TMA makes some, `exp2_overlap`
    the share of its exponentials issued while a wgmma is in flight (None where there is
    no wgmma), `loop_instructions_per_mma_flop` its instructions, all warps', over the
    FLOPs needed, `loop_classes` its instructions by the unit that runs them. `bound`,
    `resource_cycles` and `model_flops_per_s` are a model's: see `model.py`.
    """

    kernel: str
    entry: str
    target: str
    head_dim: int
    dtype: str
    features: str
    config: dict[str, int]
    registers: int
    spill_bytes: int
    shared_bytes: int
    shared_limit_bytes: int
    ctas_per_sm: int
    ctas_limit: str
    mma: str | None
    mma_redundancy: float | None
    load_bits: int | None
    exp2_overlap: float | None
    loop_instructions: int | None
    loop_instructions_per_mma_flop: float | None
    barriers: int | None
    bulk_loads: bool = False
    loop_classes: dict[str, int] = {}
    bound: str | None = None
    resource_cycles: dict[str, float] = {}
    model_flops_per_s: float | None = None
    files: dict[str, str] = {}


def facts_of(job: CompileJob, made: Compiled) -> KernelFacts:
    """Read what `made` is from its machine code.

    Raises:
        MachineError: a target whose limits are not known, or a tool that cannot run.
    """
    known = family(job.target)
    if known is None:
        raise MachineError(f"the limits of {job.target} are not known")
    reader: ModuleType
    if known in _SM:
        nvidia = sass.read_cubin(made.binary)
        reader, loops = sass, nvidia.loops
        registers, spill_bytes = nvidia.registers, nvidia.stack_bytes
        ctas = _ctas_per_sm(known, registers, made.shared_bytes, made.num_warps)
    else:
        amd = amdgcn.read_assembly(made.texts["amdgcn"])
        reader, loops = amdgcn, amd.loops
        registers, spill_bytes = amd.registers, amd.scratch_bytes
        ctas = _ctas_per_cu(registers, made.shared_bytes, made.num_warps)
    return KernelFacts(
        kernel=job.kernel,
        entry=made.entry,
        target=job.target,
        head_dim=job.head_dim,
        dtype=job.dtype,
        features=job.features,
        config=made.config,
        registers=registers,
        spill_bytes=spill_bytes,
        shared_bytes=made.shared_bytes,
        shared_limit_bytes=SHARED_LIMIT_BYTES[known],
        ctas_per_sm=ctas[0],
        ctas_limit=ctas[1],
        **_of_main_loop(reader, loops, made, known, ctas[0]),
    )


def _of_main_loop(
    reader: ModuleType,
    loops: tuple[tuple[Instruction, ...], ...],
    made: Compiled,
    known: str,
    ctas_per_sm: int,
) -> dict[str, Any]:
    """The facts of the main loop; all None where no loop has a matrix product."""
    with_mma = [loop for loop in loops if reader.mma_of(loop)]
    if not with_mma:
        names = ("mma", "mma_redundancy", "load_bits", "exp2_overlap", "loop_instructions",
                 "loop_instructions_per_mma_flop", "barriers")  # fmt: skip
        return dict.fromkeys(names)
    loop = max(with_mma, key=lambda loop: (len(reader.mma_of(loop)), -len(loop)))
    executed, useful = reader.mma_flops(loop, made.num_warps), made.useful_flops
    overlap = reader.exp2_overlap(loop)
    flops = executed or useful
    modelled = None if flops is None else estimate(
        loop, family=known, executed_flops=flops, useful_flops=useful or flops,
        num_warps=made.num_warps, ctas_per_sm=ctas_per_sm,
        overlap=overlap or 0.0 if reader.waits_for_groups(loop) else 1.0,
        rate=reader.mma_rate(loop),
    )  # fmt: skip
    return {
        "mma": reader.mma_of(loop)[0].op.partition(".")[0],
        "mma_redundancy": executed / useful if executed and useful else None,
        "load_bits": load_bits(
            reader.load_widths(loop),
            bulk_copies=reader.bulk_copies(loop),
            tiles=made.tiles,
            threads=made.num_warps * (32 if known in _SM else 64),
        ),
        "exp2_overlap": overlap,
        "loop_instructions": len(loop),
        "loop_instructions_per_mma_flop": len(loop) * made.num_warps / useful if useful else None,
        "barriers": sum(c.op.startswith(("BAR.", "s_barrier")) for c in loop),
        "bulk_loads": reader.bulk_copies(loop) > 0,
        "loop_classes": count_classes(loop),
        "bound": modelled and modelled.bound,
        "resource_cycles": modelled.cycles if modelled else {},
        "model_flops_per_s": modelled and modelled.flops_per_s,
    }


def _ctas_per_sm(known: str, registers: int, shared: int, num_warps: int) -> tuple[int, str]:
    sm_shared, sm_warps = _SM[known]
    a_warp = -(-registers * 32 // _REGISTER_UNIT) * _REGISTER_UNIT
    return _least(
        registers=4 * (_QUARTER_REGISTERS // a_warp) // num_warps,
        shared=sm_shared // (shared + _SM_KEPT_BYTES),
        warps=min(sm_warps // num_warps, _SM_PROGRAMS),
    )


def _ctas_per_cu(registers: int, shared: int, num_warps: int) -> tuple[int, str]:
    a_lane = -(-registers // _LANE_UNIT) * _LANE_UNIT
    return _least(
        registers=_SIMDS * min(_LANE_REGISTERS // a_lane, _WAVES) // num_warps,
        shared=SHARED_LIMIT_BYTES["gfx942"] // max(shared, 1),
        warps=_SIMDS * _WAVES // num_warps,
    )


def _least(**limits: int) -> tuple[int, str]:
    name = min(limits, key=lambda name: limits[name])
    return limits[name], name


def save_files(job: CompileJob, made: Compiled, folder: Path) -> dict[str, str]:
    """Write binary, assembly and IR of `made` into `folder`; absolute paths by kind.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = [made.entry.lstrip("_"), job.target]
    if job.peer is None:
        about += [f"d{job.head_dim}", job.dtype, job.features]
    if job.config is not None:
        about += [f"{name}{value}" for name, value in made.config.items()]
    stem = "-".join(about)
    binary_kind = "hsaco" if "amdgcn" in made.texts else "cubin"
    contents: dict[str, bytes] = {kind: text.encode() for kind, text in made.texts.items()}
    contents[binary_kind] = made.binary
    if binary_kind == "cubin":
        contents["sass"] = sass.read_cubin(made.binary).text.encode()
    files = {}
    for kind, content in contents.items():
        path = (folder / f"{stem}.{kind}").resolve()
        path.write_bytes(content)
        files[kind] = str(path)
    return files
