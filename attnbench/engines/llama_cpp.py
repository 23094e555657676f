"""llama.cpp: one cache of cells for each kind of layer, states beside it in fp32.

It prints MiB (2^20). Source: llama.cpp, `llama-kv-cache*.cpp`, `llama-memory-recurrent.cpp`.
"""

from collections.abc import Sequence

import msgspec

from attnbench.calc.engine_kinds import Placed
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import (
    Attention,
    Chunked,
    Latent,
    Recurrent,
    Sliding,
    StateKind,
)

NAME = "llama.cpp"
CELL_MULTIPLE = 256
UBATCH = 512

# Bytes of an element of the cache by ggml type: a block of 32 and its scale.
CACHE_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
    "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """One cache that llama.cpp allocates; `bytes` of all its layers and sequences."""

    name: str
    cells: int
    layers: int
    bytes: int


def cells(mixer: Attention | Latent, *, ctx: int, ubatch: int, sequences: int = 1) -> int:
    """Cells of one sequence: the context, or a window and a batch, in steps of 256.

        min(ctx, window · sequences + ubatch) rounded up to 256

    >>> from attnbench.spec.model import Sliding
    >>> gpt_oss = Sliding(heads=64, kv_heads=8, key_dim=64, value_dim=64, window=128)
    >>> cells(gpt_oss, ctx=131072, ubatch=1024)
    1280
    """
    wanted = ctx
    if isinstance(mixer, Sliding | Chunked):
        window = mixer.window if isinstance(mixer, Sliding) else mixer.chunk
        wanted = min(ctx, window * sequences + ubatch)
    return -(-wanted // CELL_MULTIPLE) * CELL_MULTIPLE


def caches(
    layers: Sequence[Placed],
    *,
    ctx: int,
    ubatch: int = UBATCH,
    sequences: int = 1,
    element_bytes: float = 2.0,
    full_windows: bool = False,
) -> tuple[Cache, ...]:
    """Every cache of a model: cells · layers · kv_heads · (key_dim + value_dim) · bytes.

    `full_windows` keeps windows at full length (`--swa-full`). States are fp32, one a
    sequence, convolutions of kernel - 1 columns.
    """
    found: dict[tuple[str, int], tuple[int, float]] = {}
    for mixer, indices in layers:
        if isinstance(mixer, Recurrent):
            key, size = ("recurrent", sequences), float(_state_bytes(mixer) * sequences)
        elif isinstance(mixer, Latent | Attention):
            windowed = isinstance(mixer, Sliding | Chunked) and not full_windows
            count = (
                cells(mixer, ctx=ctx, ubatch=ubatch, sequences=sequences)
                if windowed
                else (-(-ctx // CELL_MULTIPLE) * CELL_MULTIPLE)
            )
            key = ("window" if windowed else "full", count)
            size = count * _width(mixer) * element_bytes
        else:
            continue
        held, total = found.get(key, (0, 0.0))
        found[key] = (held + len(indices), total + size * len(indices))
    return tuple(
        Cache(name=name, cells=count, layers=held, bytes=int(total))
        for (name, count), (held, total) in found.items()
    )


def _width(mixer: Attention | Latent) -> int:
    if isinstance(mixer, Latent):
        return mixer.kv_rank + mixer.rope_dim
    return mixer.kv_heads * (mixer.key_dim + mixer.value_dim)


def _state_bytes(mixer: Recurrent) -> int:
    total = 0
    for state in mixer.states:
        elements = state.elements
        if state.kind is StateKind.CONV:
            elements = elements // state.shape[-1] * (state.kernel - 1)
        total += elements
    return total * Dtype.FP32.bits // 8
