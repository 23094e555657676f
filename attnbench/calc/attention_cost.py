"""What an attention variant costs: FLOPs, bytes and workspace, from its mathematics.

FLOPs count matrix products alone, a multiply and an add as two; exponentials,
maxima and divisions are left out, as in Dao 2023 (arXiv:2307.08691) and most papers.
"""

import msgspec

from attnbench.calc.patterns import Full, Pattern
from attnbench.spec.attention import AttentionShape, Mode


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a variant costs, whichever backend runs it.

    `pairs` counts batch * heads * query-key pairs attended. `flops` is what the
    mathematics needs. `bytes_min` reads each operand and writes each result once.
    """

    pairs: int
    flops: int
    bytes_min: int


def pattern_cost(shape: AttentionShape, mode: Mode, pattern: Pattern) -> Cost:
    """Cost of softmax attention over a pattern's pairs.

    Forward 4 · pairs · head_dim (QKᵀ and PV). Backward 2.5 times that: QKᵀ again,
    then dV, dP, dQ and dK, five products in place of two. Keys that no query
    attends need not be read.

    Source: Dao 2023, arXiv:2307.08691, section 3.1 and 4.1.
    """
    pairs = shape.batch * shape.heads * pattern.pairs(shape.seq_q, shape.seq_kv)
    forward = 4 * pairs * shape.head_dim
    keys = pattern.keys(shape.seq_q, shape.seq_kv)
    flops = {Mode.BWD: forward * 5 // 2, Mode.FWD_BWD: forward * 7 // 2}.get(mode, forward)
    return Cost(pairs=pairs, flops=flops, bytes_min=operand_bytes(shape, mode, keys=keys))


def feature_cost(shape: AttentionShape, mode: Mode, *, features: int, projected: bool) -> Cost:
    """Cost of attention through feature maps: φ(Q) (φ(K)ᵀ V), normalised.

    Forward, a head: the sums φ(K)ᵀ[V 1] and the products φ(Q)·[sums] take
    2 · features · (head_dim + 1) a token each, the causal form's running sums the
    same; where features are `projected`, ωᵀx takes 2 · features · head_dim a token
    more. A backward has two products for each: twice the forward.

    Source: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.2; Choromanski et
    al. 2021, arXiv:2009.14794, section 2.2.
    """
    tokens = shape.batch * (shape.heads * shape.seq_q + shape.kv_heads * shape.seq_kv)
    width = shape.head_dim + 1 + (shape.head_dim if projected else 0)
    pairs = Full(causal=shape.causal).pairs(shape.seq_q, shape.seq_kv)
    extra = features * shape.head_dim if projected else 0
    return Cost(
        pairs=shape.batch * shape.heads * pairs,
        flops=2 * features * width * tokens * _products(mode),
        bytes_min=operand_bytes(shape, mode, constants=extra),
    )


def projection_cost(shape: AttentionShape, mode: Mode, *, rank: int) -> Cost:
    """Cost of Linformer: keys and values projected from seq_kv to `rank` rows.

    Forward: EK and FV take 2 · rank · head_dim a key token and KV head each,
    attention over the rank rows 4 · rank · head_dim a query. Backward: attention's
    2.5 times (scores again), and for each projection the one product that leads to
    K or V (E and F are constants here).

    Source: Wang et al. 2020, arXiv:2006.04768, section 4.
    """
    keys = shape.batch * shape.kv_heads * shape.seq_kv
    queries = shape.batch * shape.heads * shape.seq_q
    project = 4 * rank * shape.head_dim * keys
    attend = 4 * rank * shape.head_dim * queries
    flops = {
        Mode.BWD: project + attend * 5 // 2,
        Mode.FWD_BWD: 2 * project + attend * 7 // 2,
    }.get(mode, project + attend)
    return Cost(
        pairs=queries * shape.seq_kv,
        flops=flops,
        bytes_min=operand_bytes(shape, mode, constants=2 * rank * shape.seq_kv),
    )


def operand_bytes(
    shape: AttentionShape, mode: Mode, *, keys: int | None = None, constants: int = 0
) -> int:
    """Bytes of the operands, each read or written once.

    Forward reads Q, K, V and writes O. Backward reads Q, K, V, O and dO and writes
    dQ, dK, dV. K and V count at kv_heads, and at `keys` tokens where a pattern
    leaves some unread. `constants`: elements of projections or features, read once
    in each direction.
    """
    rows = shape.batch * shape.heads * shape.seq_q * shape.head_dim
    used = shape.seq_kv if keys is None else keys
    columns = shape.batch * shape.kv_heads * used * shape.head_dim
    forward = 2 * rows + 2 * columns + constants
    # dK and dV are written whole: zero where no query looked.
    written = shape.batch * shape.kv_heads * shape.seq_kv * shape.head_dim
    backward = 4 * rows + 2 * columns + 2 * written + constants
    elements = {Mode.BWD: backward, Mode.FWD_BWD: forward + backward}.get(mode, forward)
    return shape.dtype.bytes_of(elements)


def _products(mode: Mode) -> int:
    """Forwards' worth of products where each product's backward has two."""
    return {Mode.BWD: 2, Mode.FWD_BWD: 3}.get(mode, 1)
