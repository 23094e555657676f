"""The `flex` backend of exact and sparse variants: torch's FlexAttention, compiled."""

import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attnbench.calc.attention_cost import tiled_workspace
from attnbench.calc.patterns import Pattern
from attnbench.calc.score_features import score_features
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants._protocol import Backend, Learned, Params
from attnbench.variants._support import sinks_among
from attnbench.variants._transforms import featured

if TYPE_CHECKING:
    from torch import Tensor

_TILE_TABLES = 8  # int32 a tile: partial and whole, by row and by column


def flex_backend(pattern: Callable[[AttentionShape, Params], Pattern]) -> Backend:
    """The backend that compiles `pattern`; mask and compilation stand in `setup_ms`."""

    def prepare(shape: AttentionShape, params: Params, device: str) -> Any:
        from attnbench.variants import _flex

        return _flex.prepare(shape, lambda at: pattern(at, params), score_features(params), device)

    return featured(
        Backend(
            name="flex",
            supports=_supports,
            prepare=prepare,
            forward=_forward,
            workspace_bytes=_workspace,
            compiled_on=frozenset({"cpu"}),
            learn=_learn,
        ),
        "alibi",
        "soft_cap",
        "sink_logit",
        "padding",
        "varlen",
    )


def _supports(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
    if shape.dtype not in (Dtype.FP32, Dtype.FP16, Dtype.BF16):
        return f"FlexAttention takes fp32, fp16 and bf16, not {shape.dtype}"
    if device_type == "cpu":
        return _not_on_cpu(mode, params)
    if shape.head_dim < 16:
        return f"FlexAttention takes head_dim from 16, not {shape.head_dim}"
    return None


def _not_on_cpu(mode: Mode, params: Params) -> str | None:
    if mode in (Mode.BWD, Mode.FWD_BWD):
        return "torch compiles FlexAttention's backward for CUDA and ROCm alone"
    if score_features(params).sink_logit:
        return "torch's FlexAttention answers no log-sum-exp on a CPU, which sink_logit needs"
    if not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")):
        return "FlexAttention on a CPU is compiled as C++: neither g++ nor clang++ is here"
    return None


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: Any) -> "Tensor":
    from attnbench.variants import _flex

    return _flex.forward(query, key, value, state)


def _learn(state: Any, learned: Learned) -> Any:
    return state._replace(sinks=sinks_among(learned, state.sinks))


def _workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
    tiles = (-(-shape.seq_q // 128)) * (-(-shape.seq_kv // 128))
    batch = shape.batch if score_features(params).padding else 1
    # Building the mask looks at a row of tiles: a few int64 and bool a pair of it.
    building = 64 * 128 * shape.seq_kv * batch
    return tiled_workspace(shape, mode) + 4 * _TILE_TABLES * tiles * batch + building
