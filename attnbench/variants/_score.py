"""The score features as tensors, and the arithmetic that references and backends share."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from attnbench.calc.score_features import (
    ScoreFeatures,
    alibi_slopes,
    kv_lens,
    rope_frequencies,
    score_features,
    sink_logits,
)
from attnbench.spec.attention import AttentionShape
from attnbench.variants._protocol import Learned, Params
from attnbench.variants._support import SINKS, sinks_among


class Score(NamedTuple):
    """What features do to scores at a shape; None: off.

    `slopes` and `sinks` [heads], fp32 (fp64 for fp64); `lens` [batch], keys a sequence has.
    """

    soft_cap: float | None
    slopes: Tensor | None
    sinks: Tensor | None
    lens: Tensor | None


def make_score(
    features: ScoreFeatures,
    shape: AttentionShape,
    device: str | torch.device,
    learned: Learned | None = None,
) -> Score | None:
    """The tensors of `features` at `shape`; None where no feature touches scores.

    Sinks are those of `learned` where it has them.
    """
    if not (features.changes_scores or features.padding):
        return None

    wide = torch.float64 if shape.dtype == "fp64" else torch.float32

    def on_device(numbers: tuple[float, ...]) -> Tensor:
        return torch.tensor(numbers, dtype=wide, device=device)

    score = Score(
        soft_cap=features.soft_cap or None,
        slopes=on_device(alibi_slopes(shape.heads)) if features.alibi else None,
        sinks=on_device(sink_logits(shape.heads)) if features.sink_logit else None,
        lens=make_lens(features, shape, device),
    )
    return score if learned is None else learn_sinks(score, learned)


def learn_sinks(score: Score, learned: Learned) -> Score:
    """`score` with the sinks' logits [heads] of `learned`, where it has sinks."""
    return score._replace(sinks=sinks_among(learned, score.sinks))


def initial_sinks(shape: AttentionShape, params: Params) -> Learned:
    """The sinks' logits [heads] in fp64, by name, where they are on: `Variant.learned`."""
    if not score_features(params).sink_logit:
        return {}
    return {SINKS: torch.tensor(sink_logits(shape.heads), dtype=torch.float64)}


def make_lens(
    features: ScoreFeatures, shape: AttentionShape, device: str | torch.device
) -> Tensor | None:
    """Keys that each sequence has, int32 [batch]; None where all have all."""
    if not features.padding:
        return None
    lens = kv_lens(shape.batch, shape.seq_kv, features.padding)
    return torch.tensor(lens, dtype=torch.int32, device=device)


def without_padding(x: Tensor, lens: Tensor | None) -> Tensor:
    """Keys or values [batch, kv_heads, seq_kv, head_dim], 0 where a sequence has none.

    A weight of 0 times an infinity or a NaN that stands in padding would be NaN.
    """
    if lens is None:
        return x
    lacking = torch.arange(x.shape[2], device=x.device) >= lens[:, None]
    return x.masked_fill(lacking[:, None, :, None], 0.0)


def bend(
    logits: Tensor, cap: float | None, slopes: Tensor | None, distance: Tensor | None
) -> Tensor:
    """Logits under the soft-cap, then lowered by slope · |distance|; all broadcast.

    Only slopes need a distance.
    """
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    if slopes is not None:
        assert distance is not None
        logits = logits - (slopes * distance.abs()).to(logits.dtype)
    return logits


def add_sinks(out: Tensor, lse: Tensor, sinks: Tensor) -> Tensor:
    """`out` with a sink in each row's denominator: times Z / (Z + exp(sink)).

    Out [batch, heads, rows, head_dim]; lse = log Z [batch, heads, rows], natural.
    """
    share = torch.sigmoid(lse - sinks.to(lse.dtype)[:, None])
    return (out * share[..., None]).to(out.dtype)


def rotate(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """RoPE of x [..., tokens, head_dim] at `positions` [tokens], in fp32 or wider.

    Channels i and i + head_dim / 2 turn by position · theta^(-2i / head_dim).
    """
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return turn(x, *angles(positions, x.shape[-1], theta, wide))


def angles(
    positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of RoPE's angles, [tokens, head_dim / 2]."""
    each = torch.tensor(rope_frequencies(head_dim, theta), dtype=torch.float64)
    # Angles in float64: at 100k tokens fp32 is off by a hundredth of a radian.
    turned = positions.to(torch.float64)[:, None] * each.to(positions.device)
    return turned.cos().to(dtype), turned.sin().to(dtype)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` [..., tokens, head_dim] turned by angles given as cos and sin [tokens, head_dim / 2]."""
    first, second = x.to(cos.dtype).chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)


def places(alone: Sequence[AttentionShape]) -> tuple[Tensor, Tensor]:
    """Where queries (bottom-right) and keys of packed documents stand, each in its own: int64.

    `alone` are the documents' shapes; [Σ seq_q] and [Σ seq_kv].
    """
    query_at = torch.cat([torch.arange(s.offset, s.seq_kv) for s in alone])
    return query_at, torch.cat([torch.arange(s.seq_kv) for s in alone])
