"""Bytes between memory and chip: attention with its scores in memory, and by tiles.

Source: Dao et al. 2022, arXiv:2205.14135: algorithm 0 and 3 (standard), 1 and 4 (tiled),
theorem 2: Θ(Nd + N²) against Θ(N²d²/M).
"""

from attnbench.spec.attention import AttentionShape, Mode

_STATISTIC_BYTES = 4  # maximum and sum of a row, fp32


def standard_traffic(shape: AttentionShape, mode: Mode) -> int:
    """Bytes moved where scores and probabilities are written out, an operation at a time.

    Forward: Q, K in, S out, S in, P out, P, V in, O out: 4 matrices of scores. Backward:
    P, dO in for dV; dO, V in, dP out; P, dP in, dS out; dS, K in for dQ; dS, Q in for dK:
    7 matrices. No pass for a scale, a mask or dropout.

    >>> from attnbench.spec.dtype import Dtype
    >>> gpt2_medium = AttentionShape(batch=64, heads=16, kv_heads=16, seq_q=1024, seq_kv=1024,
    ...                              head_dim=64, causal=False, dtype=Dtype.FP16)
    >>> round(standard_traffic(gpt2_medium, Mode.FWD_BWD) / 1e9, 1)
    25.2
    """
    scores = shape.batch * shape.heads * shape.seq_q * shape.seq_kv
    rows = shape.batch * shape.heads * shape.seq_q * shape.head_dim
    keys = shape.batch * shape.kv_heads * shape.seq_kv * shape.head_dim
    forward = 4 * scores + 2 * rows + 2 * keys
    # dO twice, Q, dQ; K, V, dK, dV.
    backward = 7 * scores + 4 * rows + 4 * keys
    return shape.dtype.bytes_of(_both(mode, forward, backward))


def tiled_traffic(shape: AttentionShape, mode: Mode, *, sram_bytes: int) -> int:
    """Bytes moved by FlashAttention's first algorithm, with `sram_bytes` of a core's SRAM.

    Keys and values come in once, in ⌈N / Bc⌉ blocks of Bc = ⌊M / 4d⌋ rows; for each, all
    of Q and O (and the statistics of its rows) pass through the chip: N²d²/M. Backward,
    Q, dO, O and dQ pass instead. Kernels since then keep a block of Q and pass keys and
    values, with the same count for as many heads; an L2 serves most of it.
    """
    elements = sram_bytes * 8 // shape.dtype.bits
    block = max(1, elements // (4 * shape.head_dim))
    passes = -(-shape.seq_kv // block)
    rows = shape.batch * shape.heads * shape.seq_q
    wide = rows * shape.head_dim
    keys = shape.batch * shape.kv_heads * shape.seq_kv * shape.head_dim
    forward = 2 * keys + 3 * wide * passes
    backward = 4 * keys + 5 * wide * passes
    statistics = _both(mode, 4 * rows * passes, 2 * rows * passes) * _STATISTIC_BYTES
    return shape.dtype.bytes_of(_both(mode, forward, backward)) + statistics


def _both(mode: Mode, forward: int, backward: int) -> int:
    return {Mode.BWD: backward, Mode.FWD_BWD: forward + backward}.get(mode, forward)


def score_bytes(shape: AttentionShape) -> int:
    """Bytes of one matrix of scores of every head.

    >>> from attnbench.spec.dtype import Dtype
    >>> one = AttentionShape(batch=1, heads=1, kv_heads=1, seq_q=65536, seq_kv=65536,
    ...                      head_dim=64, causal=True, dtype=Dtype.FP16)
    >>> score_bytes(one) / 2**30
    8.0
    """
    return shape.dtype.bytes_of(shape.batch * shape.heads * shape.seq_q * shape.seq_kv)
