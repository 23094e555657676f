"""Float64 references: what a variant's mathematics gives, straightforwardly.

Layout [batch, heads, seq, head_dim]; query head h reads KV head h // group. Rows are
done a chunk at a time, and keys that no row of a chunk sees are left out, so that long
sequences need little memory and a sparse pattern little time.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from attnbench.calc.featured_cost import PatternOf, document_shapes
from attnbench.calc.patterns import Full, Pattern
from attnbench.calc.score_features import PLAIN, ScoreFeatures, documents, score_features
from attnbench.spec.attention import AttentionShape
from attnbench.variants._protocol import Learned, Params, Variant
from attnbench.variants._score import bend, make_score, rotate
from attnbench.variants._support import shape_of

_CHUNK_ELEMENTS = 1 << 23  # scores held at once: 64 MiB in float64

# weigh(Q, K, seen, distance): weights of [.., rows, features] over [.., keys, features],
# with seen [.., rows, keys] and distance key - query [rows, keys].
_Weigh = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def variant_reference(
    variant: Variant,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shape: AttentionShape,
    params: Params,
    rows: Tensor | None = None,
    learned: Learned | None = None,
) -> Tensor:
    """What `variant` should give, features and all, in float64: all query rows, or `rows`.

    `learned` are tensors in place of those that `variant.learned` answers.
    """
    features = score_features(params)
    if variant.reference is not None:
        if features.rope_theta:
            query, key = _rotated(query.double(), key.double(), features)
        return variant.reference(query, key, value, shape, params, rows, learned)
    pattern = variant.pattern
    assert pattern is not None

    def pattern_of(at: AttentionShape) -> Pattern:
        return pattern(at, params)

    return softmax_reference(
        query, key, value, shape, pattern_of, features, rows=rows, learned=learned
    )


def softmax_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shape: AttentionShape,
    pattern_of: PatternOf,
    features: ScoreFeatures = PLAIN,
    *,
    rows: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
    learned: Learned | None = None,
) -> Tensor:
    """Softmax attention over a pattern's pairs under `features`, each document alone."""
    if not features.varlen:
        return pattern_reference(
            query, key, value, pattern_of(shape),
            rows=rows, features=features, dtype=dtype, learned=learned,
        )  # fmt: skip
    if rows is None:
        rows = torch.arange(shape.seq_q, device=query.device)
    shapes = document_shapes(shape, features.varlen)
    q_ranges = documents(shape.seq_q, features.varlen)
    kv_ranges = documents(shape.seq_kv, features.varlen)
    outputs, order = [], []
    for at, q_range, kv_range in zip(shapes, q_ranges, kv_ranges, strict=True):
        inside = ((rows >= q_range.start) & (rows < q_range.stop)).nonzero().squeeze(-1)
        q = query[:, :, q_range.start : q_range.stop]
        k, v = (x[:, :, kv_range.start : kv_range.stop] for x in (key, value))
        local = rows[inside] - q_range.start
        alone = pattern_of(at)
        outputs.append(
            pattern_reference(
                q, k, v, alone, rows=local, features=features, dtype=dtype, learned=learned
            )
        )
        order.append(inside)
    return torch.cat(outputs, 2).index_select(2, torch.cat(order).argsort())


def pattern_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pattern: Pattern,
    *,
    rows: Tensor | None = None,
    features: ScoreFeatures = PLAIN,
    dtype: torch.dtype = torch.float64,
    learned: Learned | None = None,
) -> Tensor:
    """Softmax attention over a pattern's pairs: [batch, heads, rows, head_dim].

    In float64, or with every step rounded to `dtype`. `rows` are the query rows wanted
    (all where None). A row that sees nothing is 0. Differentiable. Of `features` all
    but varlen; of `learned` the sinks.
    """
    query, key, value = (x.to(dtype) for x in (query, key, value))
    if features.rope_theta:
        query, key = _rotated(query, key, features)
    shape = shape_of(query, key)
    score = make_score(features, shape, query.device, learned)
    scale = 1 / math.sqrt(query.shape[3])

    def by_head(numbers: Tensor) -> Tensor:
        return numbers.to(dtype).view(shape.kv_heads, shape.group, 1, 1)

    def weigh(q: Tensor, k: Tensor, seen: Tensor, distance: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2) * scale
        if score is not None:
            slopes = None if score.slopes is None else by_head(score.slopes)
            scores = bend(scores, score.soft_cap, slopes, distance)
        if not seen.all():
            scores = scores.masked_fill(~seen, -math.inf)
        if score is not None and score.sinks is not None:
            sink = by_head(score.sinks).expand(*scores.shape[:-1], 1)
            return torch.softmax(torch.cat([scores, sink], -1), -1)[..., :-1]
        empty = ~seen.any(-1, keepdim=True)
        if not empty.any():
            return torch.softmax(scores, -1)
        return torch.softmax(scores.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)

    lens = None if score is None else score.lens
    return _by_rows(query, key, value, pattern, rows, weigh, lens)


def kernel_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_features: Callable[[Tensor], Tensor],
    *,
    causal: bool,
    rows: Tensor | None = None,
    lens: Tensor | None = None,
) -> Tensor:
    """Attention with weights φ(q)·φ(k) over their sum, in float64: no sum is shared.

    `log_features` maps [..., head_dim] to log φ, [..., features]. `lens` [batch]: keys
    that each sequence has.
    """
    lq, lk = log_features(query.double()), log_features(key.double())
    # Constants a row of q and a head of k cancel in the quotient.
    fq = (lq - lq.amax(-1, keepdim=True).detach()).exp()
    fk = (lk - lk.amax((-1, -2), keepdim=True).detach()).exp()

    def weigh(q: Tensor, k: Tensor, seen: Tensor, distance: Tensor) -> Tensor:
        scores = (q @ k.transpose(-1, -2)) * seen
        total = scores.sum(-1, keepdim=True)
        return scores / total.masked_fill(total == 0, 1.0)

    return _by_rows(fq, fk, value.double(), Full(causal=causal), rows, weigh, lens)


def _by_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pattern: Pattern,
    rows: Tensor | None,
    weigh: _Weigh,
    lens: Tensor | None,
) -> Tensor:
    """weigh(Q, K, ...) V, a chunk of query rows at a time, over the keys that it sees."""
    batch, heads, seq_q, width = query.shape
    kv_heads, seq_kv = key.shape[1], key.shape[2]
    keys = torch.arange(seq_kv, device=key.device)
    if rows is None:
        rows = torch.arange(seq_q, device=query.device)
    k, v = key[:, :, None], value[:, :, None]
    chunk = max(1, _CHUNK_ELEMENTS // (batch * heads * seq_kv))
    outputs = []
    for row in rows.split(chunk):
        position = (row + (seq_kv - seq_q))[:, None]
        seen = pattern.allows(position, keys[None, :])
        used = seen.any(0).nonzero().squeeze(-1)
        seen = seen[:, used]
        if lens is not None:
            seen = seen & (used < lens.view(-1, 1, 1, 1, 1))
        q = query[:, :, row].view(batch, kv_heads, heads // kv_heads, len(row), width)
        every = len(used) == seq_kv
        k_used, v_used = (k, v) if every else (k[..., used, :], v[..., used, :])
        out = weigh(q, k_used, seen, used[None, :] - position) @ v_used
        outputs.append(out.reshape(batch, heads, len(row), -1))
    return torch.cat(outputs, 2)


def _rotated(query: Tensor, key: Tensor, features: ScoreFeatures) -> tuple[Tensor, Tensor]:
    seq_q, seq_kv = query.shape[2], key.shape[2]
    at = torch.arange(min(0, seq_kv - seq_q), seq_kv, device=query.device)
    theta = features.rope_theta
    return rotate(query, at[len(at) - seq_q :], theta), rotate(key, at[len(at) - seq_kv :], theta)
