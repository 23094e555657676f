"""BigBird: blocks of a local window, of global tokens, and of a random choice."""

from attnbench.calc.pattern_bigbird import BigBird
from attnbench.calc.score_features import PAIRWISE
from attnbench.spec.attention import AttentionShape
from attnbench.variants._block_sparse_triton import block_sparse_backend
from attnbench.variants._blocked import blocked_backend
from attnbench.variants._flex_backend import flex_backend
from attnbench.variants._protocol import Params, Variant
from attnbench.variants._support import learned_sinks, pattern_cost_of, unchanged


def _pattern(shape: AttentionShape, params: Params) -> BigBird:
    block = int(params["block"])
    return BigBird(
        block=block,
        window_blocks=int(params["window_blocks"]),
        global_blocks=int(params["global_blocks"]),
        random_blocks=int(params["random_blocks"]),
        seed=int(params["seed"]),
        key_blocks=-(-shape.seq_kv // block),
        causal=shape.causal,
    )


VARIANT = Variant(
    name="bigbird",
    summary="blocks of 64: window 3, global 2, random 3",
    paper="Zaheer et al. 2020, arXiv:2007.14062",
    exact=False,
    defaults={
        "block": 64,
        "window_blocks": 3,
        "global_blocks": 2,
        "random_blocks": 3,
        "seed": 0,
    },
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
    least={"global_blocks": 0, "random_blocks": 0, "seed": 0},
)
