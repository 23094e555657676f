"""A user's kernel: the product of a row of blocks with a column of blocks, autotuned."""

import torch
import triton
import triton.language as tl

DEVICE = triton.runtime.driver.active.get_active_torch_device()
STAGES = 3 if torch.cuda.get_device_capability()[0] >= 9 else 2  # asked at load, as tutorials do


@triton.autotune(
    [
        triton.Config({"BLOCK_M": m}, num_warps=w, num_stages=STAGES)
        for m in (64, 128)
        for w in (4, 8)
    ],
    key=["length"],
    prune_configs_by={
        "early_config_prune": lambda configs, args, **kw: [c for c in configs if c.num_warps == 4]
    },
)
@triton.heuristics({"EVEN": lambda args: args["length"] % args["BLOCK_N"] == 0})
@triton.jit
def product(
    A, B, C, stride_a, stride_b, length,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WIDTH: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    steps = tl.arange(0, BLOCK_N)
    columns = tl.arange(0, WIDTH)
    total = tl.zeros([BLOCK_M, WIDTH], tl.float32)
    for start in range(0, length, BLOCK_N):
        a = tl.load(A + rows[:, None] * stride_a + (start + steps)[None, :])
        if EVEN:
            b = tl.load(B + (start + steps)[:, None] * stride_b + columns[None, :])
        else:
            seen = (start + steps)[:, None] < length
            b = tl.load(B + (start + steps)[:, None] * stride_b + columns[None, :], seen)
        total += tl.dot(a, b)
    tl.store(C + rows[:, None] * stride_a + columns[None, :], total)


product_call = {
    "arguments": {
        "A": {"tensor": "fp16", "shape": [4096, 4096]},
        "B": {"tensor": "fp16", "shape": [4096, 64]},
        "C": {"tensor": "fp32", "shape": [4096, 64]},
        "stride_a": 4096,
        "stride_b": 64,
        "length": 4096,
        "BLOCK_N": 32,
        "WIDTH": 64,
    },
    "products": [["BLOCK_M", "WIDTH", "BLOCK_N"]],
    "head_dim": 64,
}
