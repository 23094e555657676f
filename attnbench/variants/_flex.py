"""FlexAttention compiled for a shape: pairs a mask (`_flex_mask`), score features a `score_mod`.

Dong et al. 2024, arXiv:2412.05496. One compiled callable a shape, of code of its own:
FlexAttention falls back to an unfused path, a hundred times slower and with only a
warning, once one code object has been compiled eight times. `fullgraph` makes every
other way out of the fused path an error.
"""

import itertools
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, flex_attention

from attnbench.calc.patterns import Pattern
from attnbench.calc.score_features import ScoreFeatures
from attnbench.spec.attention import AttentionShape
from attnbench.variants._flex_mask import Layout, block_mask, make_layout, positions
from attnbench.variants._score import Score, add_sinks, bend, make_score, without_padding
from attnbench.variants._support import torch_dtype

_number = itertools.count()


class FlexState(NamedTuple):
    """The compiled call, the sinks' logits that its log-sum-exps are joined by, keys in use."""

    call: Callable[[Tensor, Tensor, Tensor], Any]
    sinks: Tensor | None
    lens: Tensor | None


def prepare(
    shape: AttentionShape,
    pattern_of: Callable[[AttentionShape], Pattern],
    features: ScoreFeatures,
    device: str,
) -> FlexState:
    """Build the mask and compile, by a call on zeros: none of it is left to a timed call."""
    score = make_score(features, shape, device)
    sinks = None if score is None else score.sinks
    call = _compiled(arguments(shape, pattern_of, features, score, device))
    dtype = torch_dtype(shape.dtype)

    def zeros(heads: int, tokens: int) -> Tensor:
        return torch.zeros(shape.batch, heads, tokens, shape.head_dim, dtype=dtype, device=device)

    with torch.no_grad():
        kv = shape.kv_heads, shape.seq_kv
        # Key and value apart: that they are one tensor would be compiled in.
        call(zeros(shape.heads, shape.seq_q), zeros(*kv), zeros(*kv))
    return FlexState(call, sinks, None if score is None else score.lens)


def forward(query: Tensor, key: Tensor, value: Tensor, state: FlexState) -> Tensor:
    """Output [batch, heads, seq_q, head_dim]."""
    key, value = (without_padding(x, state.lens) for x in (key, value))
    if state.sinks is None:
        out: Tensor = state.call(query, key, value)
        return out
    out, aux = state.call(query, key, value)
    return add_sinks(out, aux.lse, state.sinks)


def _compiled(given: dict[str, Any]) -> Callable[[Tensor, Tensor, Tensor], Any]:
    """FlexAttention with the arguments `given`, compiled by a code object of its own."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Any:
        return flex_attention(query, key, value, **given)

    code = attend.__code__.replace(co_name=f"attend_{next(_number)}")
    own = types.FunctionType(code, attend.__globals__, code.co_name, None, attend.__closure__)
    return torch.compile(own, dynamic=False, fullgraph=True)


def arguments(
    shape: AttentionShape,
    pattern_of: Callable[[AttentionShape], Pattern],
    features: ScoreFeatures,
    score: Score | None,
    device: str,
) -> dict[str, Any]:
    """Keyword arguments of `flex_attention` that give attention over a shape's pattern.

    `score` is what `make_score` makes of `features`.
    """
    lens = None if score is None else score.lens
    layout = make_layout(shape, pattern_of, count=features.varlen, lens=lens, device=device)
    given: dict[str, Any] = {
        "block_mask": block_mask(shape, layout, device),
        "enable_gqa": shape.heads != shape.kv_heads,
    }
    if score is not None and (score.soft_cap is not None or score.slopes is not None):
        given["score_mod"] = _score_mod(score, layout)
    if score is not None and score.sinks is not None:
        given["return_aux"] = AuxRequest(lse=True)
    return given


def _score_mod(score: Score, layout: Layout) -> Callable[..., Tensor]:
    cap, slopes = score.soft_cap, score.slopes

    def score_mod(logit: Tensor, batch: Tensor, head: Tensor, row: Tensor, key: Tensor) -> Tensor:
        if slopes is None:
            return bend(logit, cap, None, None)
        at, to = positions(layout, row, key)
        return bend(logit, cap, slopes[head], to - at)

    return score_mod
