"""The configurations of the block-sparse kernels, a target and head_dim: tile, warps, pipeline.

Tiles of 64 queries and 64 keys, which are BigBird's blocks: larger ones reach further past
a pattern's edges. The lists are made of them, and every kernel uses the same lists: it
holds a tile, and streams others whole or in pieces of block_m queries or block_n keys.
Chosen by what the compiler says of the alternatives (docs/kernels.md). Never raced on a GPU.
"""

import torch
import triton

from attnbench.errors import MachineError

from ._targets import INTERPRETER, Config, family

_TILE = 64
_TILE_SINGLE = 32  # fp32: the dots are multiply-adds on the plain cores, and take registers
# The most entries that a program walks: 2,048 keys, as much as four windows of 512.
LIMIT = 32
# The interpreter's cost is a block's, whatever its size.
_INTERPRETED_TILE = 256

# (entry, target, BLOCK_D), 16-bit inputs: tile, warps, stages. dK and dV at D 128: on sm_80
# there is no room in the registers of 4 warps, and 8 want whole tiles, else they do half of
# a product twice; on sm_90 4 warps have room for 16 queries at a time. The forward on sm_80 at
# D 128: left the choice, 3.9's ptxas spills 8 bytes to fit three programs an SM, not two.
# That on sm_90 at D 128 has three stages: with two, ALiBi spills 32 bytes with 3.9. dK and dV on
# sm_100 at D 128 hold 32 queries at a time: with 64, all features spill 8 bytes with 3.9.
_HALF = {
    ("fwd", "sm_80", 64): Config(64, 64, 4, 3),
    ("fwd", "sm_80", 128): Config(64, 32, 4, 3, 255),
    ("dq", "sm_80", 64): Config(64, 32, 4, 2),
    ("dq", "sm_80", 128): Config(64, 32, 4, 2),
    ("dkdv", "sm_80", 64): Config(32, 64, 4, 2),
    ("dkdv", "sm_80", 128): Config(64, 64, 8, 2),
    ("fwd", "sm_90", 64): Config(64, 64, 4, 3),
    ("fwd", "sm_90", 128): Config(64, 64, 4, 3),
    ("dq", "sm_90", 64): Config(64, 64, 4, 3),
    ("dq", "sm_90", 128): Config(64, 32, 4, 2),
    ("dkdv", "sm_90", 64): Config(32, 64, 4, 2),
    ("dkdv", "sm_90", 128): Config(16, 64, 4, 2),
    ("fwd", "sm_100", 64): Config(64, 64, 4, 3, 255),
    ("fwd", "sm_100", 128): Config(64, 64, 4, 2),
    ("dq", "sm_100", 64): Config(64, 64, 4, 3, 255),
    ("dq", "sm_100", 128): Config(64, 64, 4, 2, 255),
    ("dkdv", "sm_100", 64): Config(64, 64, 4, 2, 255),
    ("dkdv", "sm_100", 128): Config(32, 64, 4, 2),
    ("fwd", "gfx942", 64): Config(64, 64, 2, 1),
    ("fwd", "gfx942", 128): Config(64, 64, 2, 1),
    ("dq", "gfx942", 64): Config(64, 64, 2, 1),
    ("dq", "gfx942", 128): Config(64, 64, 2, 1),
    ("dkdv", "gfx942", 64): Config(32, 64, 2, 1),
    ("dkdv", "gfx942", 128): Config(32, 64, 2, 1),
}


def tile_for(target: str, *, seq_q: int, seq_kv: int, dtype: torch.dtype) -> tuple[int, int]:
    """Queries and keys of a tile on `target`, of which lists are to be made."""
    if target == INTERPRETER:
        lengths = (triton.next_power_of_2(n) for n in (seq_q, seq_kv))
        tile_m, tile_n = (min(_INTERPRETED_TILE, max(16, length)) for length in lengths)
        return tile_m, tile_n
    tile = _TILE_SINGLE if dtype is torch.float32 else _TILE
    return tile, tile


def config_for(entry: str, target: str, *, head_dim: int, dtype: torch.dtype) -> Config:
    """The configuration that is shipped for `entry` ("fwd", "dq", "dkdv") on `target`.

    Raises:
        MachineError: there is none for such a device.
    """
    if target == INTERPRETER:
        return Config(_INTERPRETED_TILE, _INTERPRETED_TILE, 1, 1)
    known = family(target)
    if known is None:
        raise MachineError(
            f"the triton kernels have no configuration for {target}",
            hint="They need compute capability 8.0 or newer, or gfx9.",
        )
    block_d = max(64, triton.next_power_of_2(head_dim))
    # sm_86 has sm_80's code and less shared memory, for which these are small enough.
    known = "sm_80" if known == "sm_86" else known
    config = _HALF[entry, known, min(block_d, 128)]
    if dtype is torch.float32:
        config = Config(_TILE_SINGLE, _TILE_SINGLE, config.num_warps, 1)
    return config
