"""The configurations of `_paged_decode`, a target and head_dim, and how many splits.

16 query heads are one matrix instruction high; wider ones (wgmma) would be mostly idle.
On NVIDIA four warps share a block of keys. Triton for AMD lays all warps of a product whose
result feeds another down its rows, where 16 are one wave's: four waves would each do the
whole of Q Kᵀ. There a program is one wave, and four times as many run.
Chosen by what the compiler says of the alternatives (docs/kernels.md). Never raced on a GPU.
"""

import torch
import triton

from attnbench.errors import MachineError

from ._targets import INTERPRETER, Config, family

_ROWS = 16
_HALF = {"sm_80": Config(_ROWS, 64, 4, 3), "sm_90": Config(_ROWS, 64, 4, 3),
         "sm_100": Config(_ROWS, 64, 4, 3)}  # fmt: skip
_SINGLE = {"sm_80": Config(_ROWS, 32, 4, 2), "sm_90": Config(_ROWS, 32, 4, 2),
           "sm_100": Config(_ROWS, 32, 4, 2)}  # fmt: skip
_WAVE_TILE_BYTES = 8192  # of K, in LDS: eight waves a CU, and registers for two a SIMD
_INTERPRETED_TOKENS = 512
_MOST_SPLITS = 64
_LEAST_TOKENS = 256  # of a split: less is all start and join
_WARPS_A_PROCESSOR = 8


def config_for(target: str, *, head_dim: int, dtype: torch.dtype, tokens: int) -> Config:
    """The configuration that is shipped for `target`; `tokens` is the longest sequence.

    Raises:
        MachineError: there is none for such a device.
    """
    if target == INTERPRETER:
        return Config(
            _ROWS, min(_INTERPRETED_TOKENS, max(16, triton.next_power_of_2(tokens))), 4, 1
        )
    known = family(target)
    if known is None:
        raise MachineError(
            f"the triton kernels have no configuration for {target}",
            hint="They need compute capability 8.0 or newer, or gfx9.",
        )
    if known == "gfx942":
        row_bytes = triton.next_power_of_2(head_dim) * dtype.itemsize
        return Config(_ROWS, min(max(16, _WAVE_TILE_BYTES // row_bytes), 64), 1, 1)
    known = "sm_80" if known == "sm_86" else known
    return (_SINGLE if dtype is torch.float32 else _HALF)[known]


def splits_for(*, programs: int, tokens: int, processors: int, num_warps: int) -> int:
    """Splits that keep `processors` busy where `programs` of `num_warps` would run without any.

    >>> splits_for(programs=16, tokens=32768, processors=132, num_warps=4)
    16
    >>> splits_for(programs=512, tokens=32768, processors=132, num_warps=4)
    1
    """
    wanted = processors * (_WARPS_A_PROCESSOR // num_warps) // max(programs, 1)
    return max(1, min(wanted, tokens // _LEAST_TOKENS, _MOST_SPLITS))
