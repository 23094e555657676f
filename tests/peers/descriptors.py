"""A user's kernel that copies its tiles by TMA; each configuration sets the tiles' shapes."""

import triton
import triton.language as tl


def set_blocks(arguments: dict) -> None:
    arguments["a"].block_shape = [arguments["BLOCK_M"], 64]
    arguments["b"].block_shape = [64, arguments["BLOCK_N"]]


@triton.autotune(
    [
        triton.Config(
            {"BLOCK_M": 128, "BLOCK_N": 64}, num_warps=4, num_stages=3, pre_hook=set_blocks
        )
    ],
    key=["length"],
)
@triton.jit
def product(a, b, C, length, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    row = tl.program_id(0) * BLOCK_M
    column = tl.program_id(1) * BLOCK_N
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, length, 64):
        total = tl.dot(a.load([row, start]), b.load([start, column]), total)
    at = (row + tl.arange(0, BLOCK_M))[:, None] * length + column + tl.arange(0, BLOCK_N)[None, :]
    tl.store(C + at, total)


def product_call(target: str) -> dict:
    tensor = {"descriptor": "bf16", "shape": [4096, 4096], "block": [1, 8]}
    return {
        "arguments": {
            "a": tensor,
            "b": tensor,
            "C": {"tensor": "fp32", "shape": [4096, 4096]},
            "length": 4096,
        },
        "products": [["BLOCK_M", "BLOCK_N", 64]],
    }
