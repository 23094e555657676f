"""The configurations of the linear-attention kernels, a target: chunk, features at once, warps.

A chunk's state has features for rows, of which a wgmma takes 64 and four waves of gfx942
64 as well: there 32 made each wave do the whole product. Rounding to bf16 is one instruction
on NVIDIA and five on gfx942, whose products of bf16 inputs stay tf32's.

Chosen by what the compiler says of the alternatives (docs/kernels.md). Never raced on a GPU.
"""

from typing import NamedTuple

import torch
import triton

from attnbench.errors import MachineError

from ._targets import INTERPRETER, family


class LinearConfig(NamedTuple):
    """Tokens of a chunk, features at once of the outputs and of a state, warps, pipeline.

    `narrow`: 1 where products of bf16 inputs take bf16.
    """

    block_c: int
    block_f: int
    state_f: int
    num_warps: int
    num_stages: int
    narrow: int = 0


# (target, BLOCK_D), 16-bit inputs.
_HALF = {
    ("sm_80", 64): LinearConfig(64, 32, 64, 4, 1, narrow=1),
    ("sm_80", 128): LinearConfig(64, 16, 64, 4, 1, narrow=1),
    ("sm_90", 64): LinearConfig(64, 32, 64, 4, 1, narrow=1),
    ("sm_90", 128): LinearConfig(64, 32, 64, 4, 1, narrow=1),
    ("sm_100", 64): LinearConfig(64, 32, 64, 4, 1, narrow=1),
    ("sm_100", 128): LinearConfig(64, 32, 64, 4, 1, narrow=1),
    ("gfx942", 64): LinearConfig(64, 32, 64, 4, 1),
    ("gfx942", 128): LinearConfig(64, 32, 64, 4, 1),
}
# fp32: IEEE multiply-adds on the plain cores.
_SINGLE = LinearConfig(32, 32, 32, 4, 1)
_INTERPRETED_TOKENS = 256


def config_for(
    target: str, *, head_dim: int, dtype: torch.dtype, tokens: int, features: int
) -> LinearConfig:
    """The configuration that is shipped for `target`.

    Raises:
        MachineError: there is none for such a device.
    """
    if target == INTERPRETER:
        chunk = min(_INTERPRETED_TOKENS, max(16, triton.next_power_of_2(tokens)))
        every = max(16, triton.next_power_of_2(features))
        return LinearConfig(chunk, every, every, 1, 1)
    known = family(target)
    if known is None:
        raise MachineError(
            f"the triton kernels have no configuration for {target}",
            hint="They need compute capability 8.0 or newer, or gfx9.",
        )
    if dtype is torch.float32:
        return _SINGLE
    block_d = min(max(64, triton.next_power_of_2(head_dim)), 128)
    known = "sm_80" if known == "sm_86" else known
    config = _HALF[known, block_d]
    if known == "sm_80" and dtype is torch.float16:
        # Operands of tf32 take twice bf16's registers: 32 features at once spill 8 bytes.
        config = config._replace(block_f=16)
    return config
