"""A throughput estimate from the main loop's machine code alone. A model, no measurement.

Each warp of one partition of an SM (a quarter: NVIDIA's sub-core, AMD's SIMD) is a customer
who, an iteration, visits six stations for as long as its instructions hold each: tensor
core, MUFU, FP32, ALU, shared memory, issue. The rate of this closed network is exact
mean-value analysis (Reiser & Lavenberg 1980, doi:10.1145/322186.322195). A warp counts
twice where its matrix products do not stop it: HMMA and MFMA are instructions among others,
whose results are waited for where they are used. It waits for a whole group of wgmma (or of
Blackwell's), and counts but once, and once more for the share of its exponentials that run
under a group in flight.

What it leaves out: latencies, dependences, bank conflicts, DRAM and L2, prologue, epilogue,
tails of a grid, power. `DERATE` stands for all of these: the ratio of published figures to
the bare model, one constant for every target. docs/kernels.md has the comparison.

Rates a clock and SM. Source: CUDA C++ Programming Guide, table "throughput of native
arithmetic instructions"; AMD Instinct MI300 ISA guide; peaks, SMs and clocks are those of
the hardware profiles.
"""

from collections.abc import Sequence

import msgspec

from attnbench.aot.classes import class_of, shared_bytes
from attnbench.aot.loops import Instruction
from attnbench.catalog.hardware import load_gpu

BAND = 0.25
DERATE = 0.71
LABEL = f"model, ±{BAND:.0%}"
_PARTITIONS = 4
_SHARED_BYTES_A_CLOCK = 128
# Which GPU of each family the estimate is of.
GPUS = {"sm_80": "a100-80gb-sxm", "sm_86": "a40", "sm_90": "h100-sxm", "sm_100": "b200",
        "gfx942": "mi300x"}  # fmt: skip
# Lanes a clock and SM: MUFU, FP32, ALU.
_LANES = {"sm_80": (16, 64, 64), "sm_86": (16, 128, 64), "sm_90": (16, 128, 64),
          "sm_100": (16, 128, 64), "gfx942": (16, 64, 64)}  # fmt: skip
_WARP = {"gfx942": 64}


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Cycles that one warp's iteration holds each resource of its partition, and what follows.

    `bound` is the resource held longest. `flops_per_s` are useful ones, of the whole GPU.
    """

    cycles: dict[str, float]
    bound: str
    flops_per_s: float


def estimate(
    loop: Sequence[Instruction],
    *,
    family: str,
    executed_flops: float,
    useful_flops: float,
    num_warps: int,
    ctas_per_sm: int,
    overlap: float,
    rate: float = 1.0,
) -> Estimate | None:
    """The estimate of a kernel that spends its time in `loop`; None where no program fits.

    FLOPs are those of one program's iteration; `rate` that of its matrix instructions,
    16-bit ones being 1; `overlap` the share of other work that a warp does under them.
    """
    if ctas_per_sm < 1:
        return None
    gpu = load_gpu(GPUS[family]).published
    assert gpu.sm_count is not None
    assert gpu.boost_clock_hz is not None
    assert gpu.peak_flops_per_s.bf16 is not None
    tensor = gpu.peak_flops_per_s.bf16 * rate / gpu.sm_count / gpu.boost_clock_hz / _PARTITIONS
    cycles = {"tensor": executed_flops / num_warps / tensor, **_held(loop, family)}
    customers = ctas_per_sm * num_warps / _PARTITIONS
    iterations_a_clock = throughput(list(cycles.values()), customers * (1 + overlap))
    a_second = iterations_a_clock * _PARTITIONS * gpu.sm_count * gpu.boost_clock_hz
    return Estimate(
        cycles={name: round(held, 1) for name, held in cycles.items()},
        bound=max(cycles, key=lambda name: cycles[name]),
        flops_per_s=DERATE * a_second * useful_flops / num_warps,
    )


def _held(loop: Sequence[Instruction], family: str) -> dict[str, float]:
    """Cycles that one warp's instructions hold the resources but the tensor core."""
    names = [class_of(c.op) for c in loop]
    mufu, fp32, alu = (_WARP.get(family, 32) * _PARTITIONS / lanes for lanes in _LANES[family])
    moved = sum(shared_bytes(c.op) for c, name in zip(loop, names, strict=True) if name == "shared")
    return {
        "mufu": names.count("mufu") * mufu,
        "fp32": names.count("fp32") * fp32,
        "alu": names.count("alu") * alu,
        "shared": moved * _PARTITIONS / _SHARED_BYTES_A_CLOCK,
        "issue": float(len(loop)),
    }


def throughput(held: Sequence[float], customers: float) -> float:
    """Rounds a cycle of `customers` who each hold station k for held[k] cycles a round.

    Between two whole numbers of customers it is interpolated; under one, proportional.

    >>> throughput([3.0, 1.0], 1), round(throughput([3.0, 1.0], 100), 3)
    (0.25, 0.333)
    """
    queues = [0.0] * len(held)
    rate = before = 0.0
    for n in range(1, max(1, -int(-customers // 1)) + 1):
        stays = [h * (1 + q) for h, q in zip(held, queues, strict=True)]
        before, rate = rate, n / sum(stays)
        queues = [rate * stay for stay in stays]
    part = customers - int(customers)
    return before + (rate - before) * part if part else rate
