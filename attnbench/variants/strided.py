"""Strided attention of sparse transformers: a local window, and every k-th token."""

from typing import TYPE_CHECKING

from attnbench.calc.eager_memory import strided_workspace
from attnbench.calc.pattern_strided import Strided, default_stride
from attnbench.calc.score_features import PAIRWISE, score_features
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._block_sparse_triton import block_sparse_backend
from attnbench.variants._blocked import ROWS
from attnbench.variants._flex_backend import flex_backend
from attnbench.variants._protocol import Backend, Learned, Params, Variant
from attnbench.variants._support import learned_sinks, pattern_cost_of, supports_dtype
from attnbench.variants._transforms import featured

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.variants._strided import StridedState


def _resolve(shape: AttentionShape, params: Params) -> Params:
    """`stride` 0 stands for ⌈√seq_kv⌉."""
    return {**params, "stride": int(params["stride"]) or default_stride(shape.seq_kv)}


def _pattern(shape: AttentionShape, params: Params) -> Strided:
    stride = int(_resolve(shape, params)["stride"])
    return Strided(window=int(params["window"]), stride=stride, causal=shape.causal)


def _prepare(shape: AttentionShape, params: Params, device: str) -> "StridedState":
    from attnbench.variants._strided import prepare

    return prepare(shape, _pattern(shape, params), device, ROWS, score_features(params))


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: "StridedState") -> "Tensor":
    from attnbench.variants._strided import forward

    return forward(query, key, value, state)


def _learn(state: "StridedState", learned: Learned) -> "StridedState":
    from attnbench.variants._score import learn_sinks

    return state if state.score is None else state._replace(score=learn_sinks(state.score, learned))


def _workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
    pattern = _pattern(shape, params)
    return strided_workspace(
        shape, mode, pattern.local, score_features(params), stride=pattern.stride, rows=ROWS
    )


VARIANT = Variant(
    name="strided",
    summary="window 512 and every k-th token, k = ⌈√n⌉ unless given",
    paper="Child et al. 2019, arXiv:1904.10509",
    exact=False,
    defaults={"window": 512, "stride": 0},
    resolve=_resolve,
    pattern=_pattern,
    cost=pattern_cost_of(_pattern),
    backends=(
        featured(
            Backend(
                name="eager",
                supports=supports_dtype,
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
        flex_backend(_pattern),
        block_sparse_backend(_pattern),
    ),
    features=PAIRWISE,
    learned=learned_sinks,
    least={"stride": 0},
)
