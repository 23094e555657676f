"""Local attention: each query sees a window of keys around it."""

from attnbench.calc.patterns import SlidingWindow
from attnbench.calc.score_features import PAIRWISE
from attnbench.spec.attention import AttentionShape
from attnbench.variants._block_sparse_triton import block_sparse_backend
from attnbench.variants._blocked import blocked_backend
from attnbench.variants._flash_triton import triton_backend
from attnbench.variants._flex_backend import flex_backend
from attnbench.variants._protocol import Params, Variant
from attnbench.variants._support import learned_sinks, pattern_cost_of, unchanged
from attnbench.variants._triton import either


def _pattern(shape: AttentionShape, params: Params) -> SlidingWindow:
    return SlidingWindow(
        window=int(params["window"]),
        dilation=int(params["dilation"]),
        sink=int(params["sink"]),
        causal=shape.causal,
    )


def _triton_options(params: Params) -> dict[str, int]:
    return {"window": int(params["window"]), "sinks": int(params["sink"])}


def _dilated(params: Params) -> bool:
    return params["dilation"] != 1


VARIANT = Variant(
    name="sliding_window",
    summary="local window, optional dilation and sink tokens",
    paper="Beltagy et al. 2020, arXiv:2004.05150; Xiao et al. 2023, arXiv:2309.17453",
    exact=False,
    defaults={"window": 512, "dilation": 1, "sink": 0},
    resolve=unchanged,
    pattern=_pattern,
    cost=pattern_cost_of(_pattern),
    backends=(
        blocked_backend(_pattern),
        flex_backend(_pattern),
        either(triton_backend(_pattern, _triton_options), block_sparse_backend(_pattern), _dilated),
    ),
    features=PAIRWISE,
    learned=learned_sinks,
    least={"sink": 0},
)
