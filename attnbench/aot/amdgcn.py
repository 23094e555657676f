"""Reads AMD machine code: the assembly text that Triton keeps."""

import re
from collections.abc import Sequence

import msgspec

from attnbench.aot.loops import Instruction, natural_loops
from attnbench.errors import MachineError

_LABEL = re.compile(r"^(\.LBB\d+_\d+):")
_INSTRUCTION = re.compile(r"^\t([a-z]\w+)(?:\s+([^;]*))?")
_SHAPE = re.compile(r"_(\d+)x(\d+)x(\d+)")
_LOAD = re.compile(r"(?:global|buffer|flat)_load_(?:dwordx?(\d)?|ushort|short|ubyte)")


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel's machine code: registers and scratch a lane, code, loops."""

    registers: int
    scratch_bytes: int
    code: tuple[Instruction, ...]
    loops: tuple[tuple[Instruction, ...], ...]


def read_assembly(text: str) -> Listing:
    """The listing of one kernel's assembly. `registers` counts VGPRs and AGPRs together.

    Raises:
        MachineError: the text has no kernel's metadata.
    """
    code, labels = parse(text)
    return Listing(
        registers=_metadata(text, "vgpr_count"),
        scratch_bytes=_metadata(text, "private_segment_fixed_size"),
        code=tuple(code),
        loops=tuple(natural_loops(code, labels)),
    )


def parse(text: str) -> tuple[list[Instruction], dict[str, int]]:
    """Instructions of the assembly, and the index that each label stands for."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(code)
        if (found := _INSTRUCTION.match(line)) is None:
            continue
        op, operands = found[1], (found[2] or "").strip()
        jumps = op == "s_branch" or op.startswith("s_cbranch")
        code.append(
            Instruction(
                op=op,
                text=line.strip(),
                targets=(operands,) if jumps else (),
                falls=op not in ("s_branch", "s_endpgm"),
            )
        )
    return code, labels


def mma_of(code: Sequence[Instruction]) -> list[Instruction]:
    """The matrix instructions of `code`."""
    return [c for c in code if c.op.startswith("v_mfma")]


def mma_flops(code: Sequence[Instruction], num_warps: int) -> int | None:
    """FLOPs of the matrix instructions of `code`, run by `num_warps` waves."""
    total = 0
    for c in mma_of(code):
        shape = _SHAPE.search(c.op)
        if shape is None:
            return None
        m, n, k = map(int, shape.groups())
        total += 2 * m * n * k * num_warps
    return total


def mma_rate(code: Sequence[Instruction]) -> float:
    """Rate of the first matrix instruction of `code` by its inputs' type; 16 bits are 1."""
    op = mma_of(code)[0].op
    if re.search(r"(fp8|bf8|i8)", op):
        return 2.0
    return 0.125 if re.search(r"x\d+_?f32$", op) else 1.0


def waits_for_groups(code: Sequence[Instruction]) -> bool:
    """False: a wave goes on until it uses a product."""
    return False


def load_widths(code: Sequence[Instruction]) -> list[int]:
    """Bits that a lane moves by each load from global memory of `code`."""
    found = [match for c in code if (match := _LOAD.match(c.op))]
    return [32 * int(match[1] or 1) if "dword" in match[0] else 16 for match in found]


def bulk_copies(code: Sequence[Instruction]) -> int:
    """None: there is no TMA."""
    return 0


def exp2_overlap(code: Sequence[Instruction]) -> float | None:
    """None: a wave's matrix instructions are in order with its others."""
    return None


def _metadata(text: str, key: str) -> int:
    found = re.search(rf"\.{key}:\s*(\d+)", text)
    if found is None:
        raise MachineError(f"the assembly has no .{key}: not one kernel's")
    return int(found[1])
