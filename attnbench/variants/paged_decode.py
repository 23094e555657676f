"""One query a sequence over a paged KV cache, the pages split among workers."""

from typing import TYPE_CHECKING

from attnbench.calc.attention_cost import paged_workspace
from attnbench.calc.score_features import PAIRWISE, score_features
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._paged_triton import paged_backend
from attnbench.variants._protocol import Backend, Learned, Params, Variant
from attnbench.variants._support import (
    full,
    learned_sinks,
    pattern_cost_of,
    supports_dtype,
    unchanged,
)
from attnbench.variants._transforms import featured

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.variants._paged import PagedState


def _supports(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
    if mode is not Mode.DECODE or shape.seq_q != 1:
        return "paged_decode takes one query a sequence, in mode decode alone"
    return supports_dtype(shape, mode, params, device_type)


def _prepare(shape: AttentionShape, params: Params, device: str) -> "PagedState":
    from attnbench.variants._paged import prepare

    return prepare(
        shape,
        page_size=int(params["page_size"]),
        splits=int(params["splits"]),
        seed=int(params["seed"]),
        device=device,
        features=score_features(params),
    )


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: "PagedState") -> "Tensor":
    from attnbench.variants._paged import forward

    return forward(query, key, value, state)


def _learn(state: "PagedState", learned: Learned) -> "PagedState":
    from attnbench.variants._score import learn_sinks

    return state if state.score is None else state._replace(score=learn_sinks(state.score, learned))


def _workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
    return paged_workspace(shape, splits=int(params["splits"]))


VARIANT = Variant(
    name="paged_decode",
    summary="one query a sequence over a paged cache, split along KV",
    paper="Kwon et al. 2023, arXiv:2309.06180; Dao et al. 2023, Flash-Decoding",
    exact=True,
    defaults={"page_size": 16, "splits": 4, "seed": 0},
    resolve=unchanged,
    pattern=full,
    cost=pattern_cost_of(full),
    backends=(
        featured(
            Backend(
                name="eager",
                supports=_supports,
                prepare=_prepare,
                forward=_forward,
                workspace_bytes=_workspace,
                learn=_learn,
            ),
            "alibi",
            "soft_cap",
            "sink_logit",
            "padding",
        ),
        paged_backend(_supports, _prepare),
    ),
    modes=frozenset({Mode.DECODE}),
    features=PAIRWISE - {"varlen", "rope_theta"},
    learned=learned_sinks,
    least={"seed": 0},
)
