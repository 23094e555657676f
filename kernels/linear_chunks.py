"""Linear attention by chunks: the kernels. Pointer loads, for sm_80 and newer and gfx942.

`kernels/linear.py` checks the arguments and launches them.

O_i = Σ_j φ(q_i)·φ(k_j) v_j / Σ_j φ(q_i)·φ(k_j), over all keys or those up to the row's own
position (bottom-right). With S = Σ φ(k) vᵀ [F, D] and z = Σ φ(k) [F] over the keys before
a chunk, a row needs S, z and the pairs of its own chunk: linear in length.

φ(x) = elu(x) + 1, F = D (Katharopoulos et al. 2020, arXiv:2006.16236); or, RANDOM, the
positive features exp(ω·x - |x|²/2√D) of F directions, where OMEGA [F, D] fp32 holds
ω / D^¼ (Choromanski et al. 2021, arXiv:2009.14794, lemma 1; a constant cancels). These
overflow, so a key's are φ(k) = exp(scale) · φ'(k), φ' <= 1, with
    top = max_f ω_f·k       φ' = exp(ω·k - top)       scale = top - |k|²/2√D;
sums are kept over exp(largest scale so far), as an online softmax keeps its maximum. A
query's own scale cancels.

Q, O [B, H, T, D]; K, V [B, Hkv, S, D], any strides; query head h reads KV head h // group.
Workspace, contiguous fp32: STATES [B, Hkv, chunks + 1, F, D], SUMS [.., F], and for RANDOM
TOPS [.., chunks + 1]; of each query and key its φ' PHI [.., F], in the inputs' dtype, and
SCALE. The kernels in order: `_random_features`, `_chunk_states`, `_prefix`, `_outputs`. With
LENS keys from KV_LENS[b] on are none.
Features and all sums in fp32. Products take bf16 where NARROW, else fp32 with PRECISION:
ieee for fp32 inputs, for 16-bit ones tf32, which holds both dtypes' values and sums past
fp16's range. Offsets in int64.
"""

import triton
import triton.language as tl

from ._softmax import LOG2_E, NO_MAXIMUM


@triton.jit
def _operand(made, NARROW: tl.constexpr):
    # What a product takes for `made`.
    return made.to(tl.bfloat16) if NARROW else made.to(tl.float32)


@triton.jit
def _features(
    base, row64, there, stride_t, stride_d, first, features,
    RANDOM: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    # φ' of rows [M] for features first.. [M, BLOCK_F]; 0 past the last feature or row. Read
    # where RANDOM, whose every feature has every channel in it; else made of its channel:
    # elu(x) + 1 = max(x, 0) + exp(min(x, 0)), where a NaN stays one.
    f = first + tl.arange(0, BLOCK_F)
    inside = there[:, None] & (f[None, :] < features)
    tile = base + row64[:, None] * stride_t + f[None, :] * stride_d
    made = tl.load(tile, inside, 0.0 if RANDOM else float("-inf"))
    if not RANDOM:
        made = made.to(tl.float32)
        # Hides what -inf already hid, at no cost. Without it Triton changes layouts before
        # the widening, and every warp makes all of the tile's features.
        hidden = tl.where(there, 0.0, float("-inf"))
        power = tl.exp2(tl.minimum(made, 0.0) * LOG2_E + hidden[:, None])
        made = tl.maximum(made, 0.0, propagate_nan=tl.PropagateNan.ALL) + power
    return made


@triton.jit
def _random_features(
    X, OMEGA, PHI, SCALE, stride_xb, stride_xh, stride_xt, stride_xd,
    heads, tokens, features, head_dim, half_root,
    BLOCK_M: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    # PHI and SCALE of the rows of X; half_root is 1 / 2√D. Products twice: first the largest.
    blocks = (tokens + BLOCK_M - 1) // BLOCK_M
    program = tl.program_id(0)
    head64 = (program // blocks).to(tl.int64)
    row = program % blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    there = row < tokens
    base = X + (head64 // heads) * stride_xb + (head64 % heads) * stride_xh
    tile = base + row.to(tl.int64)[:, None] * stride_xt + d[None, :] * stride_xd
    x = tl.load(tile, there[:, None] & (d[None, :] < head_dim), 0.0).to(tl.float32)
    at = head64 * tokens + row
    top = tl.full((BLOCK_M,), NO_MAXIMUM, tl.float32)
    for first in range(0, features, BLOCK_F):
        f = first + tl.arange(0, BLOCK_F)
        in_omega = (f[None, :] < features) & (d[:, None] < head_dim)
        omega = tl.load(OMEGA + f[None, :] * head_dim + d[:, None], in_omega, 0.0)
        logs = tl.dot(x, omega, input_precision=PRECISION)
        logs = tl.where(f[None, :] < features, logs, float("-inf"))
        top = tl.maximum(top, tl.reduce(logs, 1, tl.standard._elementwise_max))
    for first in range(0, features, BLOCK_F):
        f = first + tl.arange(0, BLOCK_F)
        in_omega = (f[None, :] < features) & (d[:, None] < head_dim)
        omega = tl.load(OMEGA + f[None, :] * head_dim + d[:, None], in_omega, 0.0)
        made = tl.exp(tl.dot(x, omega, input_precision=PRECISION) - top[:, None])
        inside = there[:, None] & (f[None, :] < features)
        tl.store(PHI + at[:, None] * features + f[None, :], made.to(PHI.dtype.element_ty), inside)
    square = tl.reduce(x * x, 1, tl.standard._sum_combine)
    tl.store(SCALE + at, top - half_root * square, there)


@triton.jit
def _chunk_states(
    K, V, PHI, SCALE, STATES, SUMS, TOPS, KV_LENS,
    stride_kb, stride_kh, stride_kt, stride_kd, stride_vb, stride_vh, stride_vt, stride_vd,
    kv_heads, chunks, seq_kv, features, head_dim,
    RANDOM: tl.constexpr, LENS: tl.constexpr, NARROW: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    # S and z of each chunk alone, over exp(TOPS). One program a chunk; it walks the features.
    program = tl.program_id(0)
    chunk = program % chunks
    head64 = (program // chunks).to(tl.int64)  # KV head of all sequences'
    batch64 = head64 // kv_heads
    row = chunk * BLOCK_C + tl.arange(0, BLOCK_C)
    row64 = row.to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    keys = seq_kv
    if LENS:
        keys = tl.minimum(keys, tl.load(KV_LENS + batch64).to(tl.int32))
    there = row < keys
    in_tile = there[:, None] & (d[None, :] < head_dim)
    key_base = K + batch64 * stride_kb + (head64 % kv_heads) * stride_kh
    value_base = V + batch64 * stride_vb + (head64 % kv_heads) * stride_vh
    value = tl.load(value_base + row64[:, None] * stride_vt + d[None, :] * stride_vd, in_tile, 0.0)
    at = head64 * (chunks + 1) + chunk
    if RANDOM:
        key_base = PHI + head64 * seq_kv * features
        scale = tl.load(SCALE + head64 * seq_kv + row, there, float("-inf"))
        largest = tl.maximum(tl.reduce(scale, 0, tl.standard._elementwise_max), NO_MAXIMUM)
        tl.store(TOPS + at, largest)
        value = value.to(tl.float32) * tl.exp(scale - largest)[:, None]
    value = _operand(value, NARROW)
    for first in range(0, features, BLOCK_F):
        f = first + tl.arange(0, BLOCK_F)
        made = _features(
            key_base, row64, there, features if RANDOM else stride_kt, 1 if RANDOM else stride_kd,
            first, features, RANDOM, BLOCK_F,
        )  # fmt: skip
        state = tl.dot(tl.trans(_operand(made, NARROW)), value, input_precision=PRECISION)
        if RANDOM:
            made = made.to(tl.float32) * tl.exp(scale - largest)[:, None]
        in_state = (f[:, None] < features) & (d[None, :] < head_dim)
        tl.store(STATES + (at * features + f[:, None]) * head_dim + d[None, :], state, in_state)
        total = tl.reduce(made, 0, tl.standard._sum_combine)
        tl.store(SUMS + at * features + f, total, f < features)


@triton.jit
def _prefix(
    STATES, SUMS, TOPS, chunks, features, head_dim,
    RANDOM: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # In place: what the chunks before each hold (CAUSAL), and all of them, in the last place.
    # One program some features of a KV head, the chunks in order.
    program = tl.program_id(0)
    parts = (features + BLOCK_F - 1) // BLOCK_F
    head64 = (program // parts).to(tl.int64)
    f = program % parts * BLOCK_F + tl.arange(0, BLOCK_F)
    d = tl.arange(0, BLOCK_D)
    inside = f < features
    in_state = inside[:, None] & (d[None, :] < head_dim)
    state = tl.full((BLOCK_F, BLOCK_D), 0.0, tl.float32)
    total = tl.full((BLOCK_F,), 0.0, tl.float32)
    top = tl.full((), NO_MAXIMUM, tl.float32)
    for chunk in range(0, chunks):
        at = head64 * (chunks + 1) + chunk
        states = STATES + (at * features + f[:, None]) * head_dim + d[None, :]
        sums = SUMS + at * features + f
        own_state = tl.load(states, in_state, 0.0)
        own_total = tl.load(sums, inside, 0.0)
        if CAUSAL:
            tl.store(states, state, in_state)
            tl.store(sums, total, inside)
        if RANDOM:
            own_top = tl.load(TOPS + head64 * (chunks + 1) + chunk)
            new_top = tl.maximum(top, own_top)
            old, new = tl.exp(top - new_top), tl.exp(own_top - new_top)
            state = state * old + own_state * new
            total = total * old + own_total * new
            top = new_top
        else:
            state += own_state
            total += own_total
    at = head64 * (chunks + 1) + chunks
    tl.store(STATES + (at * features + f[:, None]) * head_dim + d[None, :], state, in_state)
    tl.store(SUMS + at * features + f, total, inside)


@triton.jit
def _prefix_tops(TOPS, chunks):
    # In place, after `_prefix`: the largest scale before each chunk, and of all, last.
    base = TOPS + tl.program_id(0).to(tl.int64) * (chunks + 1)
    top = tl.full((), NO_MAXIMUM, tl.float32)
    for chunk in range(0, chunks):
        own = tl.load(base + chunk)
        tl.store(base + chunk, top)
        top = tl.maximum(top, own)
    tl.store(base + chunks, top)


@triton.jit
def _outputs(
    Q, K, V, O, PHI_Q, PHI, SCALE, STATES, SUMS, TOPS, KV_LENS,
    stride_qb, stride_qh, stride_qt, stride_qd, stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd, stride_ob, stride_oh, stride_ot, stride_od,
    tiles, first_tile, offset, heads, group, chunks, seq_q, seq_kv, features, head_dim,
    RANDOM: tl.constexpr, CAUSAL: tl.constexpr, LENS: tl.constexpr, NARROW: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    # O of the rows whose positions lie in one chunk of keys: row i stands at i + offset,
    # which is S - T under CAUSAL, where tiles start at `first_tile`, before key 0 if T > S;
    # else 0. A row that sees nothing gives 0.
    program = tl.program_id(0)
    chunk = first_tile + program % tiles
    batch64 = ((program // tiles) // heads).to(tl.int64)
    head = (program // tiles) % heads
    head64, kv_head64 = head.to(tl.int64), (head // group).to(tl.int64)
    kv64 = batch64 * (heads // group) + kv_head64  # of all sequences'
    place = tl.arange(0, BLOCK_C)
    d = tl.arange(0, BLOCK_D)
    position = chunk * BLOCK_C + place
    row = position - offset
    row64 = row.to(tl.int64)
    there = (row >= 0) & (row < seq_q)
    in_tile = there[:, None] & (d[None, :] < head_dim)
    keys = seq_kv
    if LENS:
        keys = tl.minimum(keys, tl.load(KV_LENS + batch64).to(tl.int32))
    inside = (position >= 0) & (position < keys)
    in_keys = inside[:, None] & (d[None, :] < head_dim)
    key64 = position.to(tl.int64)
    query_base = Q + batch64 * stride_qb + head64 * stride_qh
    key_base = K + batch64 * stride_kb + kv_head64 * stride_kh
    value_base = V + batch64 * stride_vb + kv_head64 * stride_vh

    # What stands before the chunk; non-causal: all.
    before = tl.maximum(chunk, 0) if CAUSAL else chunks
    at = kv64 * (chunks + 1) + before
    acc = tl.full((BLOCK_C, BLOCK_D), 0.0, tl.float32)
    total = tl.full((BLOCK_C,), 0.0, tl.float32)
    pairs = tl.full((BLOCK_C, BLOCK_C), 0.0, tl.float32)
    if RANDOM:
        query_base = PHI_Q + (batch64 * heads + head64) * seq_q * features
        key_base = PHI + kv64 * seq_kv * features
    for first in range(0, features, BLOCK_F):
        f = first + tl.arange(0, BLOCK_F)
        wanted = _features(
            query_base, row64, there, features if RANDOM else stride_qt, 1 if RANDOM else stride_qd,
            first, features, RANDOM, BLOCK_F,
        )  # fmt: skip
        in_state = (f[:, None] < features) & (d[None, :] < head_dim)
        state = tl.load(
            STATES + (at * features + f[:, None]) * head_dim + d[None, :], in_state, 0.0
        )
        sums = tl.load(SUMS + at * features + f, f < features, 0.0)
        queries = _operand(wanted, NARROW)
        acc = tl.dot(queries, _operand(state, NARROW), acc, input_precision=PRECISION)
        total += tl.reduce(wanted.to(tl.float32) * sums[None, :], 1, tl.standard._sum_combine)
        if CAUSAL:
            offered = _features(
                key_base, key64, inside, features if RANDOM else stride_kt,
                1 if RANDOM else stride_kd, first, features, RANDOM, BLOCK_F,
            )  # fmt: skip
            offered = tl.trans(_operand(offered, NARROW))
            pairs = tl.dot(queries, offered, pairs, input_precision=PRECISION)
    if CAUSAL:
        seen = (place[:, None] >= place[None, :]) & inside[None, :]
        if RANDOM:
            # Relative to the largest scale that the row itself sees.
            scale = tl.load(SCALE + kv64 * seq_kv + position, inside, 0.0)
            scales = tl.where(seen, scale[None, :], float("-inf"))
            entry = tl.load(TOPS + kv64 * (chunks + 1) + before)
            largest = tl.maximum(tl.reduce(scales, 1, tl.standard._elementwise_max), entry)
            pairs = pairs * tl.exp(scales - largest[:, None])
            faded = tl.exp(entry - largest)
            acc = acc * faded[:, None]
            total = total * faded
        else:
            pairs = tl.where(seen, pairs, 0.0)
        value = tl.load(
            value_base + key64[:, None] * stride_vt + d[None, :] * stride_vd, in_keys, 0.0
        )
        value = _operand(value, NARROW)
        acc = tl.dot(_operand(pairs, NARROW), value, acc, input_precision=PRECISION)
        total += tl.reduce(pairs, 1, tl.standard._sum_combine)
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    out_tile = O + batch64 * stride_ob + head64 * stride_oh + row64[:, None] * stride_ot
    tl.store(out_tile + d[None, :] * stride_od, out.to(O.dtype.element_ty), in_tile)
