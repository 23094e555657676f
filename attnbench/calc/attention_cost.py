"""What an attention variant costs: FLOPs, bytes and workspace, from its mathematics.

FLOPs count matrix products alone, a multiply and an add as two; exponentials,
maxima and divisions are left out, as in Dao 2023 (arXiv:2307.08691) and most papers.
"""

import msgspec

from attnbench.calc.patterns import Full, Pattern
from attnbench.spec.attention import AttentionShape, Mode

_SCRATCH = 16 << 20  # tiles of every thread, and what an allocator rounds up to


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
    pairs = shape.batch * pattern.pairs(shape.seq_q, shape.seq_kv)
    keys = shape.batch * pattern.keys(shape.seq_q, shape.seq_kv)
    return softmax_cost(shape, mode, pairs=pairs, keys=keys)


def softmax_cost(shape: AttentionShape, mode: Mode, *, pairs: int, keys: int) -> Cost:
    """Cost of softmax attention over `pairs` a head and `keys` a KV head, all sequences'."""
    forward = 4 * shape.heads * pairs * shape.head_dim
    flops = {Mode.BWD: forward * 5 // 2, Mode.FWD_BWD: forward * 7 // 2}.get(mode, forward)
    read = operand_bytes(shape, mode, keys=keys)
    return Cost(pairs=shape.heads * pairs, flops=flops, bytes_min=read)


def feature_cost(
    shape: AttentionShape,
    mode: Mode,
    *,
    features: int,
    projected: bool,
    lens: tuple[int, ...] | None = None,
) -> Cost:
    """Cost of attention through feature maps: φ(Q) (φ(K)ᵀ V), normalised.

    Forward, a head: the sums φ(K)ᵀ[V 1] and the products φ(Q)·[sums] take
    2 · features · (head_dim + 1) a token each, the causal form's running sums the
    same; where features are `projected`, ωᵀx takes 2 · features · head_dim a token
    more. A backward has two products for each: twice the forward. `lens`: the keys
    that each sequence has, where not all have all.

    Source: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.2; Choromanski et
    al. 2021, arXiv:2009.14794, section 2.2.
    """
    lens = lens or (shape.seq_kv,) * shape.batch
    tokens = shape.batch * shape.heads * shape.seq_q + shape.kv_heads * sum(lens)
    width = shape.head_dim + 1 + (shape.head_dim if projected else 0)
    full = Full(causal=shape.causal)
    extra = features * shape.head_dim if projected else 0
    return Cost(
        pairs=shape.heads * sum(full.pairs(shape.seq_q, shape.seq_kv, n) for n in lens),
        flops=2 * features * width * tokens * _products(mode),
        bytes_min=operand_bytes(shape, mode, keys=sum(lens), constants=extra),
    )


def projection_cost(
    shape: AttentionShape, mode: Mode, *, rank: int, lens: tuple[int, ...] | None = None
) -> Cost:
    """Cost of Linformer: keys and values projected from seq_kv to `rank` rows.

    Forward: EK and FV take 2 · rank · head_dim a key token and KV head each,
    attention over the rank rows 4 · rank · head_dim a query. Backward: attention's
    2.5 times (scores again), and for each projection the one product that leads to
    K or V (E and F are constants here). `lens`: the keys that each sequence has.

    Source: Wang et al. 2020, arXiv:2006.04768, section 4.
    """
    keys = sum(lens or (shape.seq_kv,) * shape.batch)
    queries = shape.batch * shape.heads * shape.seq_q
    project = 4 * rank * shape.head_dim * shape.kv_heads * keys
    attend = 4 * rank * shape.head_dim * queries
    flops = {
        Mode.BWD: project + attend * 5 // 2,
        Mode.FWD_BWD: 2 * project + attend * 7 // 2,
    }.get(mode, project + attend)
    return Cost(
        pairs=shape.heads * shape.seq_q * keys,
        flops=flops,
        bytes_min=operand_bytes(shape, mode, keys=keys, constants=2 * rank * shape.seq_kv),
    )


def operand_bytes(
    shape: AttentionShape, mode: Mode, *, keys: int | None = None, constants: int = 0
) -> int:
    """Bytes of the operands, each read or written once.

    Forward reads Q, K, V and writes O. Backward reads Q, K, V, O and dO and writes
    dQ, dK, dV. K and V count at kv_heads, and at `keys` tokens (of all sequences
    together) where some are left unread. `constants`: elements of projections or
    features, read once in each direction.
    """
    rows = shape.batch * shape.heads * shape.seq_q * shape.head_dim
    used = shape.batch * shape.seq_kv if keys is None else keys
    columns = shape.kv_heads * used * shape.head_dim
    forward = 2 * rows + 2 * columns + constants
    # dK and dV are written whole: zero where no query looked.
    written = shape.batch * shape.kv_heads * shape.seq_kv * shape.head_dim
    backward = 4 * rows + 2 * columns + 2 * written + constants
    elements = {Mode.BWD: backward, Mode.FWD_BWD: forward + backward}.get(mode, forward)
    return shape.dtype.bytes_of(elements)


def _products(mode: Mode) -> int:
    """Forwards' worth of products where each product's backward has two."""
    return {Mode.BWD: 2, Mode.FWD_BWD: 3}.get(mode, 1)


def naive_workspace(shape: AttentionShape, mode: Mode) -> int:
    """Most bytes that plain attention holds beyond operands and results.

    Forward: the scores and their softmax, and the causal mask. Backward: the
    softmax, kept, and two of its gradients at once.
    """
    scores = shape.dtype.bytes_of(shape.batch * shape.heads * shape.seq_q * shape.seq_kv)
    mask = shape.group * shape.seq_q * shape.seq_kv if shape.causal else 0
    backward = mode in (Mode.BWD, Mode.FWD_BWD)
    matrices = 3 if backward else 2
    rows = shape.dtype.bytes_of(shape.batch * shape.heads * shape.seq_q * shape.head_dim)
    # Autograd runs in a thread of its own, with buffers of its own.
    return matrices * scores + mask + rows + (2 * _SCRATCH if backward else 0)


def tiled_workspace(shape: AttentionShape, mode: Mode) -> int:
    """Most bytes that tiled exact attention holds beyond operands and results.

    The log-sum-exp of each row in fp32, twice in a backward (its row sums), and,
    where seq_q differs from seq_kv and there is no flag for that, a mask.
    """
    rows = shape.batch * shape.heads * shape.seq_q
    backward = mode in (Mode.BWD, Mode.FWD_BWD)
    mask = shape.seq_q * shape.seq_kv if shape.causal and 1 < shape.seq_q < shape.seq_kv else 0
    results = shape.dtype.bytes_of(rows * shape.head_dim) if backward else 0
    return 4 * rows * (2 if backward else 1) + 5 * mask + results + _SCRATCH


def paged_workspace(shape: AttentionShape, *, splits: int) -> int:
    """Most bytes that paged decoding holds: a split's keys and values, gathered."""
    share = -(-shape.seq_kv // splits)
    gathered = 2 * shape.batch * shape.kv_heads * share * shape.head_dim
    indices = 8 * shape.batch * shape.seq_kv
    return shape.dtype.bytes_of(gathered) + indices + 8 * shape.batch * shape.heads * share
