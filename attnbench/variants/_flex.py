"""A pattern compiled for FlexAttention: its predicate a `mask_mod`, its tiles a `BlockMask`.

Dong et al. 2024, arXiv:2412.05496. Features of a score are a `score_mod`. One compiled
callable a shape, of code of its own: FlexAttention falls back to an unfused path, a
hundred times slower and with only a warning, once one code object has been compiled
eight times. `fullgraph` makes every other way out of the fused path an error.
"""

import itertools
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from attnbench.calc.patterns import Pattern
from attnbench.calc.score_features import ScoreFeatures
from attnbench.spec.attention import AttentionShape
from attnbench.variants._score import Score, add_sinks, bend, make_score, without_padding
from attnbench.variants._support import torch_dtype

TILE = 128
_number = itertools.count()


class FlexState(NamedTuple):
    """The compiled call, the sinks' logits that its log-sum-exps are joined by, keys in use."""

    call: Callable[[Tensor, Tensor, Tensor], Any]
    sinks: Tensor | None
    lens: Tensor | None


def prepare(
    shape: AttentionShape, pattern: Pattern, features: ScoreFeatures, device: str
) -> FlexState:
    """Build the mask and compile, by a call on zeros: none of it is left to a timed call."""
    score = make_score(features, shape, device)
    sinks = None if score is None else score.sinks
    call = compiled(shape, pattern, score, device)
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


def compiled(
    shape: AttentionShape, pattern: Pattern, score: Score | None, device: str
) -> Callable[[Tensor, Tensor, Tensor], Any]:
    """`arguments` applied to FlexAttention, compiled for this shape alone."""
    given = arguments(shape, pattern, score, device)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Any:
        return flex_attention(query, key, value, **given)

    code = attend.__code__.replace(co_name=f"attend_{next(_number)}")
    own = types.FunctionType(code, attend.__globals__, code.co_name, None, attend.__closure__)
    return torch.compile(own, dynamic=False, fullgraph=True)


def arguments(
    shape: AttentionShape, pattern: Pattern, score: Score | None, device: str
) -> dict[str, Any]:
    """Keyword arguments of `flex_attention` that give attention over `pattern`."""
    given: dict[str, Any] = {
        "block_mask": block_mask(shape, pattern, None if score is None else score.lens, device),
        "enable_gqa": shape.heads != shape.kv_heads,
    }
    if score is not None and (score.soft_cap is not None or score.slopes is not None):
        given["score_mod"] = _score_mod(score, shape.offset)
    if score is not None and score.sinks is not None:
        given["return_aux"] = AuxRequest(lse=True)
    return given


def _score_mod(score: Score, offset: int) -> Callable[..., Tensor]:
    cap, slopes = score.soft_cap, score.slopes

    def score_mod(logit: Tensor, batch: Tensor, head: Tensor, row: Tensor, key: Tensor) -> Tensor:
        slope = None if slopes is None else slopes[head]
        return bend(logit, cap, slope, key - row - offset)

    return score_mod


def _mask_mod(pattern: Pattern, offset: int, lens: Tensor | None) -> Callable[..., Tensor]:
    def mask_mod(batch: Tensor, head: Tensor, row: Tensor, key: Tensor) -> Tensor:
        # int64: a pattern's arithmetic may pass 2³¹, and indices are int32 in a kernel.
        seen: Tensor = pattern.allows(row.to(torch.int64) + offset, key.to(torch.int64))
        return seen if lens is None else seen & (key < lens[batch])

    return mask_mod


def block_mask(
    shape: AttentionShape, pattern: Pattern, lens: Tensor | None, device: str
) -> BlockMask:
    """Tiles of 128 × 128 that `pattern` attends whole or in part, a row of tiles at a time.

    Nothing seq × seq is made. Where sequences have `lens` keys, tiles of padding are
    left out, a sequence each.
    """
    columns = -(-shape.seq_kv // TILE)
    keys = torch.arange(columns * TILE, device=device)[None, :]
    some, every = [], []
    for start in range(0, shape.seq_q, TILE):
        rows = torch.arange(start, min(start + TILE, shape.seq_q), device=device)[:, None]
        seen = pattern.allows(rows + shape.offset, keys) & (keys < shape.seq_kv)
        seen = seen[None] if lens is None else seen & (keys < lens[:, None, None])
        tiles = seen.unflatten(2, (columns, TILE))
        some.append(tiles.any(3).any(1))
        # A tile past the last key or row is not whole: its mask is looked at.
        every.append(tiles.all(3).all(1) & (len(rows) == TILE))
    partly, wholly = torch.stack(some, 1)[:, None], torch.stack(every, 1)[:, None]
    return BlockMask.from_kv_blocks(
        *_listed(partly & ~wholly),
        *_listed(wholly),
        BLOCK_SIZE=TILE,
        mask_mod=_mask_mod(pattern, shape.offset, lens),
        seq_lengths=(shape.seq_q, shape.seq_kv),
    )


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """How many tiles of each row are True, and the columns, those first: int32."""
    order = tiles.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return tiles.sum(-1, dtype=torch.int32), order.to(torch.int32)
