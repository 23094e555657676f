"""What a GPU target is called here, and what it allows a kernel."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

KIB = 1024


class Config(NamedTuple):
    """How one kernel is compiled: its tile, the warps of a program, the load pipeline.

    `max_registers` a thread, on NVIDIA: named, it ends ptxas' choice of its own, which may
    be to spill a few bytes for one more program an SM. 0 leaves it that choice.
    """

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    max_registers: int = 0


class ForwardConfig(NamedTuple):
    """A `Config` of the exact forward.

    `carry`: 1 where the next block's products are begun before this one's softmax.
    """

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    carry: int = 0
    max_registers: int = 0


AnyConfig = Config | ForwardConfig

# Shared memory (LDS) that one program may ask for, bytes. Source: CUDA C++ programming
# guide, table "technical specifications per compute capability"; CDNA 3 ISA guide.
SHARED_LIMIT_BYTES = {
    "sm_80": 163 * KIB,
    "sm_86": 99 * KIB,
    "sm_90": 227 * KIB,
    "sm_100": 227 * KIB,
    "gfx942": 64 * KIB,
}
INTERPRETER = "interpreter"
MAX_HEAD_DIM = 256  # of every kernel


def family(target: str) -> str | None:
    """The target of `SHARED_LIMIT_BYTES` whose configurations `target` uses, or None.

    >>> family("sm_89"), family("sm_103"), family("sm_75")
    ('sm_86', 'sm_100', None)
    """
    if target.startswith("gfx9"):
        return "gfx942"
    if not target.startswith("sm_"):
        return None
    capability = int(target.removeprefix("sm_"))
    if capability >= 120 or 80 < capability < 90:  # GeForce and workstation parts
        return "sm_86"
    major = capability // 10
    return f"sm_{major}0" if major in (8, 9, 10) else None


def target_of(device: "torch.device") -> str:
    """The target of a CUDA or ROCm `device`: "sm_90", "gfx942"; else "interpreter"."""
    import torch

    if device.type != "cuda":
        return INTERPRETER
    if torch.version.hip is not None:
        name: str = torch.cuda.get_device_properties(device).gcnArchName
        return name.partition(":")[0]
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"
