"""The `triton` backend of the patterns: our block-sparse kernels, `kernels/block_sparse.py`.

It runs on CUDA and ROCm devices; on the CPU under Triton's interpreter, for a check.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attnbench.calc.pattern_strided import Strided
from attnbench.calc.patterns import BlockedPattern
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._protocol import Backend, Learned, Params
from attnbench.variants._support import sinks_among
from attnbench.variants._transforms import featured
from attnbench.variants._triton import cannot_run, kernels, score_options, too_long

if TYPE_CHECKING:
    from torch import Tensor

# Scores that the interpreter gets through in a few seconds on one core: docs/kernels.md.
INTERPRETED_SCORES = 1 << 22
_INTERPRETED_EDGE = 512  # a row's scores outside its pattern, of tiles that it crosses
_BACKWARD = (Mode.BWD, Mode.FWD_BWD)


def block_sparse_backend(
    pattern: Callable[[AttentionShape, Params], BlockedPattern | Strided],
) -> Backend:
    """The backend of a variant over `pattern`, whose block lists are made in `prepare`."""

    def supports(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
        reason = cannot_run(shape, device_type)
        if reason is not None or device_type != "cpu":
            return reason
        pairs = pattern(shape, params).pairs(shape.seq_q, shape.seq_kv)
        scores = shape.batch * shape.heads * (pairs + shape.seq_q * _INTERPRETED_EDGE)
        return too_long(scores * (3 if mode in _BACKWARD else 1), INTERPRETED_SCORES, "scores")

    def prepare(shape: AttentionShape, params: Params, device: str) -> Any:
        given, sinks = score_options(shape, params, device)
        lists = _lists(shape, pattern(shape, params), device)
        return kernels("block_sparse", device).block_sparse, lists, given, sinks

    return featured(
        Backend(
            name="triton",
            supports=supports,
            prepare=prepare,
            forward=_forward,
            workspace_bytes=_workspace_bytes,
            interpreted_on=frozenset({"cpu"}),
            learn=_learn,
        ),
        "alibi",
        "soft_cap",
        "sink_logit",
        "padding",
    )


def _lists(shape: AttentionShape, pattern: BlockedPattern | Strided, device: str) -> Any:
    import torch

    from attnbench.kernels._block_lists import make_lists
    from attnbench.kernels._targets import target_of
    from attnbench.kernels.block_sparse_configs import LIMIT, tile_for
    from attnbench.variants._support import torch_dtype

    target = target_of(torch.device(device))
    tile_m, tile_n = tile_for(
        target, seq_q=shape.seq_q, seq_kv=shape.seq_kv, dtype=torch_dtype(shape.dtype)
    )
    # A comb's tokens are gathered by residue: it is a part of its own.
    parts = (pattern.local, pattern.comb) if isinstance(pattern, Strided) else (pattern,)
    return make_lists(
        parts, seq_q=shape.seq_q, seq_kv=shape.seq_kv, tile_m=tile_m, tile_n=tile_n,
        limit=LIMIT, device=device,
    )  # fmt: skip


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: Any) -> "Tensor":
    from attnbench.variants._score import add_sinks

    block_sparse, lists, options, sinks = state
    out: Tensor
    out, lse = block_sparse(query, key, value, lists, **options)
    return out if sinks is None else add_sinks(out, lse, sinks)


def _learn(state: Any, learned: Learned) -> Any:
    *kernel, sinks = state
    return *kernel, sinks_among(learned, sinks)


def _workspace_bytes(shape: AttentionShape, mode: Mode, params: Params) -> int:
    """LSE and, at most two a row, partial results in fp32; backward those of keys too."""
    rows = shape.batch * shape.heads * shape.seq_q
    keys = shape.batch * shape.kv_heads * shape.seq_kv
    forward = 4 * rows + 8 * rows * (shape.head_dim + 1)
    if mode not in _BACKWARD:
        return forward
    kept = shape.dtype.bytes_of(rows * shape.head_dim) + 8 * rows
    return kept + max(forward, 16 * keys * shape.head_dim)
