"""Reads NVIDIA machine code: cuobjdump's resource usage, nvdisasm's listing."""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from attnbench.aot.classes import class_of
from attnbench.aot.loops import Instruction, natural_loops
from attnbench.errors import MachineError

_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);")
_LABEL = re.compile(r"^(\.L_x_\d+):")
_TARGET = re.compile(r"(.*)`\((\.L_x_\d+)\)")
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
_WIDTH = re.compile(r"\.[US]?(8|16|64|128)\b")
_SHAPE = re.compile(r"\.(\d+)x(\d+)x(\d+)\.")
_ALLOWED = re.compile(r"gsb0,\s*(0x[0-9a-f]+)")
# m, n, k of a warp's matrix instruction, by the opcode's second word.
_WARP_SHAPE = {"1688": (16, 8, 8), "16816": (16, 8, 16), "16832": (16, 8, 32), "1684": (16, 8, 4),
               "16864": (16, 8, 64), "8816": (8, 8, 16), "884": (8, 8, 4)}  # fmt: skip
_WARPGROUP = 4


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel's machine code: registers and stack a thread, code, loops."""

    registers: int
    stack_bytes: int
    text: str
    code: tuple[Instruction, ...]
    loops: tuple[tuple[Instruction, ...], ...]


def read_cubin(cubin: bytes) -> Listing:
    """The listing of a cubin that holds one kernel.

    Raises:
        MachineError: cuobjdump or nvdisasm, which come with Triton, cannot run.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage = _USAGE.search(_run("cuobjdump", "-res-usage", str(path)))
        text = _run("nvdisasm", "-c", str(path))
    if usage is None:
        raise MachineError("cuobjdump names no registers: not a cubin of one kernel")
    code, labels = parse(text)
    return Listing(
        registers=int(usage[1]),
        stack_bytes=int(usage[2]),
        text=text,
        code=tuple(code),
        loops=tuple(natural_loops(code, labels)),
    )


def parse(text: str) -> tuple[list[Instruction], dict[str, int]]:
    """Instructions of nvdisasm's listing, and the index that each label stands for."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    joins: dict[str, str] = {}
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(code)
        if (found := _INSTRUCTION.match(line)) is None:
            continue
        predicate, op, operands = found.groups()
        base = op.partition(".")[0]
        targets: tuple[str, ...] = ()
        falls = True
        target = _TARGET.match(operands)
        if base == "BSSY" and target:  # names where the threads meet again, at BSYNC
            joins[operands.partition(",")[0].strip()] = target[2]
        elif base == "BSYNC":
            join = joins.get(operands.strip())
            targets, falls = ((join,), predicate is not None) if join else ((), True)
        elif base in ("BRA", "CALL") and target:  # a call that returns not: a far jump
            targets, falls = (target[2],), predicate is not None or bool(target[1].strip())
        elif base in ("EXIT", "RET", "BRX"):
            falls = predicate is not None
        if base != "NOP":
            code.append(Instruction(op=op, text=line.strip(), targets=targets, falls=falls))
    return code, labels


def mma_of(code: Sequence[Instruction]) -> list[Instruction]:
    """The matrix instructions of `code`."""
    return [c for c in code if class_of(c.op) == "mma"]


def mma_flops(code: Sequence[Instruction], num_warps: int) -> int | None:
    """FLOPs of the matrix instructions of `code`, run by `num_warps` warps.

    None where an opcode does not name its shape (Blackwell's is in a descriptor).
    """
    total = 0
    for c in mma_of(code):
        words = c.op.split(".")
        if "GMMA" in words[0] and (shape := _SHAPE.search(c.op)):
            m, n, k = map(int, shape.groups())
            total += 2 * m * n * k * num_warps // _WARPGROUP
        elif len(words) > 1 and words[1] in _WARP_SHAPE:
            m, n, k = _WARP_SHAPE[words[1]]
            total += 2 * m * n * k * num_warps
        else:
            return None
    return total


def mma_rate(code: Sequence[Instruction]) -> float:
    """Rate of the first matrix instruction of `code` by its inputs' type; 16 bits are 1."""
    op = mma_of(code)[0].op
    if "TF32" in op:
        return 0.5
    return 2.0 if op.startswith(("Q", "I", "UTCQ", "UTCI")) else 1.0


def waits_for_groups(code: Sequence[Instruction]) -> bool:
    """Whether matrix products are begun and waited for in groups, as from Hopper on."""
    return any(c.op.startswith("UTC") or "GMMA" in c.op.partition(".")[0] for c in mma_of(code))


def load_widths(code: Sequence[Instruction]) -> list[int]:
    """Bits that a thread moves by each load from global memory of `code`, bulk copies aside."""
    return [
        int(width[1]) if (width := _WIDTH.search(c.op)) else 32
        for c in code
        if c.op.partition(".")[0] in ("LDGSTS", "LDG")
    ]


def bulk_copies(code: Sequence[Instruction]) -> int:
    """How many tiles `code` loads by TMA."""
    return sum(c.op.startswith("UTMALDG") for c in code)


def exp2_overlap(loop: Sequence[Instruction]) -> float | None:
    """Share of the exponentials of `loop` issued while a wgmma group is in flight.

    HGMMA with the barrier gsb0 closes a group, which is then in flight until
    WARPGROUP.DEPBAR lets no more than its last operand be. What one iteration leaves
    in flight is so at the start of the next. None without HGMMA or exponentials.
    """
    exponentials = sum(c.op.startswith("MUFU.EX2") for c in loop)
    if not exponentials or not any(c.op.startswith("HGMMA") for c in loop):
        return None
    in_flight = overlapped = 0
    for turn in range(2):  # the second starts with what the first left
        for c in loop:
            if c.op.startswith("HGMMA") and "gsb0" in c.text:
                in_flight += 1
            elif c.op.startswith("WARPGROUP.DEPBAR") and (allowed := _ALLOWED.search(c.text)):
                in_flight = min(in_flight, int(allowed[1], 16))
            elif turn and c.op.startswith("MUFU.EX2") and in_flight:
                overlapped += 1
    return overlapped / exponentials


def _run(tool: str, *arguments: str) -> str:
    import triton

    path = getattr(triton.knobs.nvidia, tool).path
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, check=True, timeout=120
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(f"{tool}: {error}", hint="It comes with Triton's wheel.") from None
    return done.stdout
