"""Longformer: a local window, and a few tokens that all see and that see all."""

from attnbench.calc.pattern_longformer import Longformer
from attnbench.calc.score_features import PAIRWISE
from attnbench.spec.attention import AttentionShape
from attnbench.variants._block_sparse_triton import block_sparse_backend
from attnbench.variants._blocked import blocked_backend
from attnbench.variants._flex_backend import flex_backend
from attnbench.variants._protocol import Params, Variant
from attnbench.variants._support import learned_sinks, pattern_cost_of, unchanged


def _pattern(shape: AttentionShape, params: Params) -> Longformer:
    return Longformer(
        window=int(params["window"]),
        global_tokens=int(params["global_tokens"]),
        causal=shape.causal,
    )


VARIANT = Variant(
    name="longformer",
    summary="window 512 and 16 global tokens",
    paper="Beltagy et al. 2020, arXiv:2004.05150",
    exact=False,
    defaults={"window": 512, "global_tokens": 16},
    resolve=unchanged,
    pattern=_pattern,
    cost=pattern_cost_of(_pattern),
    backends=(
        blocked_backend(_pattern),
        flex_backend(_pattern),
        block_sparse_backend(_pattern),
    ),
    features=PAIRWISE,
    learned=learned_sinks,
    least={"global_tokens": 0},
)
