"""The configurations of `flash_fwd`, a target and head_dim: tile, warps, pipeline.

Chosen by what the compiler says of the alternatives (docs/kernels.md): no spill, shared
memory under the limit, no FLOP twice. Never raced on a GPU.
"""

import torch
import triton

from attnbench.errors import MachineError

from ._targets import INTERPRETER, ForwardConfig, family

POINTER, TMA = "_flash_fwd", "_flash_fwd_tma"

# (target, BLOCK_D), 16-bit inputs. On sm_80 BLOCK_M is no less than BLOCK_D where it can
# be: else the warps split P's columns, and P passes through shared memory. At BLOCK_D 256
# sm_80 has no such tile, and spills up to 32 bytes.
_HALF = {
    ("sm_80", 64): ForwardConfig(128, 64, 4, 3),
    ("sm_80", 128): ForwardConfig(128, 32, 8, 3),
    ("sm_80", 256): ForwardConfig(64, 32, 4, 2),
    ("sm_90", 64): ForwardConfig(64, 64, 4, 3, 1),
    ("sm_90", 128): ForwardConfig(128, 64, 8, 3, 1),
    ("sm_90", 256): ForwardConfig(128, 64, 8, 2),
    ("sm_100", 64): ForwardConfig(128, 128, 8, 3),
    ("sm_100", 128): ForwardConfig(128, 128, 8, 2),
    ("sm_100", 256): ForwardConfig(128, 32, 8, 2),
    ("gfx942", 64): ForwardConfig(128, 64, 4, 1),
    ("gfx942", 128): ForwardConfig(128, 32, 4, 1),
    ("gfx942", 256): ForwardConfig(128, 32, 4, 1),
}
# Causal has few registers to spare. With Triton 3.9, 128×64 spills 8 bytes on sm_80 at BLOCK_D
# 64, and 128×128 on sm_100 at 128 spills 104. On sm_90 the pointer path, not the first choice
# there, carries the next block's products through the loop.
_HALF_CAUSAL = {
    ("sm_80", 64): ForwardConfig(128, 32, 4, 3),
    ("sm_90", 64): ForwardConfig(128, 32, 8, 3, 1),
    ("sm_100", 128): ForwardConfig(128, 64, 8, 3),
}
_HALF_TMA = {
    ("sm_90", 64): ForwardConfig(128, 128, 8, 3),
    ("sm_90", 128): ForwardConfig(128, 128, 8, 2),
    ("sm_90", 256): ForwardConfig(128, 64, 8, 2),
    ("sm_100", 64): ForwardConfig(128, 128, 8, 3),
    ("sm_100", 128): ForwardConfig(128, 128, 8, 2),
    ("sm_100", 256): ForwardConfig(128, 32, 8, 2),
}
# 3.9's ptxas, left to itself, spills 16 bytes to keep to 128 registers.
_HALF_FEATURED_TMA = {
    ("sm_100", 64): ForwardConfig(128, 64, 8, 3, max_registers=255),
    ("sm_100", 128): ForwardConfig(128, 64, 8, 3, max_registers=255),
}
# What a device may choose in place of what is shipped, where there is no window, bias,
# soft-cap or padding: few, and none that spills in its loop or computes a FLOP twice.
ALTERNATIVES = {
    ("sm_80", 64): (
        (POINTER, ForwardConfig(128, 32, 4, 3)),
        (POINTER, ForwardConfig(128, 64, 4, 3)),
    ),
    ("sm_90", 64): (
        (POINTER, ForwardConfig(64, 64, 4, 3, 1)),
        (POINTER, ForwardConfig(128, 32, 8, 3, 1)),
        (POINTER, ForwardConfig(128, 128, 8, 3)),
    ),
    ("sm_90", 128): (
        (POINTER, ForwardConfig(128, 64, 8, 3, 1)),
        (POINTER, ForwardConfig(128, 128, 8, 2)),
    ),
    ("sm_100", 64): ((TMA, ForwardConfig(128, 64, 8, 3)),),
    ("sm_100", 128): ((TMA, ForwardConfig(128, 64, 8, 3)),),
}
# A window, a bias, a soft-cap or guarded loads need registers that those tiles do not leave.
_HALF_FEATURED = {
    ("sm_90", 64): ForwardConfig(128, 128, 8, 3),
    ("sm_90", 128): ForwardConfig(128, 64, 8, 3),
    ("sm_80", 64): ForwardConfig(128, 32, 4, 3),
    ("sm_100", 64): ForwardConfig(128, 64, 8, 3),
    ("sm_100", 128): ForwardConfig(128, 64, 8, 3),
}
# On sm_80 a soft-cap spills 40 bytes of 4 warps with Triton 3.9; 8 warps have room for it, but
# spill 8 with guarded loads alone.
_HALF_COSTLY = {("sm_80", 64): ForwardConfig(128, 32, 8, 3)}
# fp32. On NVIDIA the dots are IEEE multiply-adds on the plain cores, and registers the
# limit; AMD has a matrix instruction for them.
_SINGLE_NVIDIA = {
    64: ForwardConfig(32, 32, 4, 2),
    128: ForwardConfig(32, 16, 4, 1),
    256: ForwardConfig(16, 16, 8, 1),
}
_SINGLE_AMD = {
    64: ForwardConfig(128, 32, 4, 1),
    128: ForwardConfig(128, 32, 4, 1),
    256: ForwardConfig(64, 32, 2, 1),
}
# So few query rows (decoding) are one matrix instruction high. AMD's waves would each do
# the same rows again.
FEW_ROWS = 16
_FEW_ROWS_KEYS = 64
# The interpreter's cost is a block's, whatever its size: blocks as large as caches bear.
_INTERPRETED_ROWS = 1024


def config_for(
    target: str,
    entry: str,
    *,
    head_dim: int,
    dtype: torch.dtype,
    seq_q: int,
    seq_kv: int,
    causal: bool,
    featured: bool,
) -> ForwardConfig:
    """The configuration of `entry` shipped for `target` ("sm_90", "gfx942", "interpreter").

    `featured`: with a window, soft-cap, bias or padding.

    Raises:
        MachineError: there is none for such a device.
    """
    if target == INTERPRETER:
        block_m, block_n = (
            min(_INTERPRETED_ROWS, max(16, triton.next_power_of_2(n))) for n in (seq_q, seq_kv)
        )
        return ForwardConfig(block_m, block_n, 1, 1)
    known = family(target)
    if known is None:
        raise MachineError(
            f"the triton kernels have no configuration for {target}",
            hint="They need compute capability 8.0 or newer, or gfx9.",
        )
    block_d = max(64, triton.next_power_of_2(head_dim))
    amd = known == "gfx942"
    # sm_86 has sm_80's code and less shared memory, for which these are small enough.
    at = ("sm_80" if known == "sm_86" else known, block_d)
    config = (_HALF_TMA if entry == TMA else _HALF)[at]
    if featured and entry == POINTER and at in _HALF_COSTLY:
        config = _HALF_COSTLY[at]
    elif featured or seq_kv % config.block_n:
        config = (_HALF_FEATURED_TMA if entry == TMA else _HALF_FEATURED).get(at, config)
    elif causal and entry == POINTER:
        config = _HALF_CAUSAL.get(at, config)
    if dtype is torch.float32:
        config = (_SINGLE_AMD if amd else _SINGLE_NVIDIA)[block_d]
    if seq_q <= FEW_ROWS:
        block_n = min(_FEW_ROWS_KEYS, config.block_n)
        num_warps = 1 if amd else config.num_warps if dtype is torch.float32 else 4
        config = ForwardConfig(FEW_ROWS, block_n, num_warps, config.num_stages)
    return config
