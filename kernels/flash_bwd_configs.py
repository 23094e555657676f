"""The configurations of `flash_bwd`, a kernel, target and head_dim: tile, warps, pipeline.

Chosen by what the compiler says of the alternatives (docs/kernels.md), as the forward's.
"""

import torch
import triton

from attnbench.errors import MachineError

from ._targets import INTERPRETER, Config, family

_DQ, _DKDV = "_flash_bwd_dq", "_flash_bwd_dkdv"
# (entry, target, BLOCK_D), 16-bit inputs. Where 255 registers are named, 3.9's ptxas, left to
# itself, spills 8 to 24 bytes to fit one more program an SM.
_HALF = {
    (_DQ, "sm_80", 64): Config(128, 32, 8, 3),
    (_DQ, "sm_80", 128): Config(64, 32, 4, 2),
    (_DQ, "sm_80", 256): Config(64, 32, 8, 2),
    (_DQ, "sm_90", 64): Config(128, 64, 8, 3),
    (_DQ, "sm_90", 128): Config(64, 64, 4, 2),
    (_DQ, "sm_90", 256): Config(64, 32, 8, 2),
    (_DQ, "sm_100", 64): Config(128, 64, 8, 3),
    (_DQ, "sm_100", 128): Config(64, 64, 4, 2, 255),
    (_DQ, "sm_100", 256): Config(64, 32, 8, 2),
    (_DQ, "gfx942", 64): Config(128, 32, 4, 1),
    (_DQ, "gfx942", 128): Config(128, 32, 4, 1),
    (_DQ, "gfx942", 256): Config(64, 32, 4, 1),
    (_DKDV, "sm_80", 64): Config(16, 128, 4, 3),
    (_DKDV, "sm_80", 128): Config(32, 64, 4, 2),
    (_DKDV, "sm_80", 256): Config(16, 64, 8, 1),
    (_DKDV, "sm_90", 64): Config(64, 128, 8, 2),
    (_DKDV, "sm_90", 128): Config(32, 128, 8, 2),
    (_DKDV, "sm_90", 256): Config(16, 64, 8, 1),
    (_DKDV, "sm_100", 64): Config(32, 128, 4, 2),
    (_DKDV, "sm_100", 128): Config(32, 64, 4, 3),
    (_DKDV, "sm_100", 256): Config(16, 64, 8, 1),
    (_DKDV, "gfx942", 64): Config(32, 128, 4, 1),
    (_DKDV, "gfx942", 128): Config(32, 128, 4, 1),
    (_DKDV, "gfx942", 256): Config(32, 64, 4, 1),
}
# A window, a bias, a soft-cap, padding or guarded loads may leave too few registers.
_HALF_FEATURED = {
    (_DKDV, "sm_80", 128): Config(16, 128, 8, 2),
    (_DKDV, "sm_90", 64): Config(32, 128, 8, 2),
    (_DKDV, "sm_90", 128): Config(16, 128, 8, 2),
    (_DKDV, "sm_100", 64): Config(32, 128, 8, 2, 255),
    (_DQ, "gfx942", 128): Config(64, 32, 2, 1),
}
# Guarded loads alone: with 64 keys at a time 3.9 spills 32 bytes, and with padding none.
_HALF_RAGGED = {(_DQ, "sm_90", 128): Config(64, 32, 4, 2)}
# fp32, on the plain cores of NVIDIA's: small tiles.
_SINGLE = {64: Config(32, 32, 4, 1), 128: Config(16, 16, 4, 1), 256: Config(16, 16, 8, 1)}
_INTERPRETED_ROWS = 512  # the interpreter's cost is a block's, whatever its size


def config_for(
    target: str,
    entry: str,
    *,
    head_dim: int,
    dtype: torch.dtype,
    seq_q: int,
    seq_kv: int,
    featured: bool,
) -> Config:
    """The configuration of `entry` that is shipped for `target`, as in `flash_fwd_configs`.

    Raises:
        MachineError: there is none for such a device.
    """
    if target == INTERPRETER:
        block_m, block_n = (
            min(_INTERPRETED_ROWS, max(16, triton.next_power_of_2(n))) for n in (seq_q, seq_kv)
        )
        return Config(block_m, block_n, 1, 1)
    known = family(target)
    if known is None:
        raise MachineError(
            f"the triton kernels have no configuration for {target}",
            hint="They need compute capability 8.0 or newer, or gfx9.",
        )
    block_d = max(64, triton.next_power_of_2(head_dim))
    if dtype is torch.float32:
        return _SINGLE[block_d]
    at = (entry, "sm_80" if known == "sm_86" else known, block_d)
    config = _HALF[at]
    ragged = seq_kv % config.block_n if entry == _DQ else seq_q % config.block_m
    if ragged and not featured and at in _HALF_RAGGED:
        return _HALF_RAGGED[at]
    return _HALF_FEATURED.get(at, config) if featured or ragged else config
