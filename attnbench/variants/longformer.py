"""Longformer: a local window, and a few tokens that all see and that see all."""

from attnbench.calc.attention_cost import Cost, pattern_cost
from attnbench.calc.pattern_longformer import Longformer
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._blocked import blocked_backend
from attnbench.variants._protocol import Params, Variant
from attnbench.variants._support import unchanged


def _pattern(shape: AttentionShape, params: Params) -> Longformer:
    return Longformer(
        window=int(params["window"]),
        global_tokens=int(params["global_tokens"]),
        causal=shape.causal,
    )


def _cost(shape: AttentionShape, mode: Mode, params: Params) -> Cost:
    return pattern_cost(shape, mode, _pattern(shape, params))


VARIANT = Variant(
    name="longformer",
    summary="window 512 and 16 global tokens",
    paper="Beltagy et al. 2020, arXiv:2004.05150",
    exact=False,
    defaults={"window": 512, "global_tokens": 16},
    resolve=unchanged,
    pattern=_pattern,
    cost=_cost,
    backends=(blocked_backend(_pattern),),
)
