"""Exact attention by tiles with an online softmax: nothing seq × seq in memory."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attnbench.calc.attention_cost import tiled_workspace
from attnbench.calc.score_features import PAIRWISE
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants._flash_triton import triton_backend
from attnbench.variants._flex_backend import flex_backend
from attnbench.variants._protocol import Backend, Params, Variant
from attnbench.variants._support import (
    full,
    learned_sinks,
    lens_of,
    pattern_cost_of,
    supports_dtype,
    unchanged,
)
from attnbench.variants._transforms import featured

if TYPE_CHECKING:
    from torch import Tensor


def _supports(name: str) -> Callable[[AttentionShape, Mode, Params, str], str | None]:
    def supports(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
        reason = supports_dtype(shape, mode, params, device_type)
        if reason is not None or name == "sdpa":
            return reason
        if device_type != "cuda":
            return f"torch's {name.removeprefix('sdpa.')} kernel runs on CUDA and ROCm alone"
        if shape.dtype is Dtype.FP64:
            return f"torch's {name.removeprefix('sdpa.')} kernel has no fp64"
        if name != "sdpa.efficient" and shape.dtype is Dtype.FP32:
            return f"torch's {name.removeprefix('sdpa.')} kernel takes fp16 and bf16 alone"
        if name != "sdpa.efficient" and shape.head_dim > 256:
            return f"torch's {name.removeprefix('sdpa.')} kernel takes head_dim up to 256"
        if name == "sdpa.efficient" and shape.heads != shape.kv_heads:
            return "torch's efficient kernel wants as many KV heads as heads"
        return None

    return supports


def _sdpa(name: str) -> Backend:
    def prepare(shape: AttentionShape, params: Params, device: str) -> Any:
        from attnbench.variants import _sdpa

        return _sdpa.prepare_batch(shape, device, name, lens_of(shape, params))

    return featured(
        Backend(
            name=name,
            supports=_supports(name),
            prepare=prepare,
            forward=_forward,
            workspace_bytes=_workspace,
        ),
        "padding",
        why="torch takes them as a seq × seq bias or not at all; try flex, triton or naive",
    )


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: Any) -> "Tensor":
    from attnbench.variants import _sdpa

    return _sdpa.forward_batch(query, key, value, state)


def _workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
    return tiled_workspace(shape, mode)


VARIANT = Variant(
    name="flash",
    summary="exact, tiled, online softmax",
    paper="Dao et al. 2022, arXiv:2205.14135; Dao 2023, arXiv:2307.08691",
    exact=True,
    defaults={},
    resolve=unchanged,
    pattern=full,
    cost=pattern_cost_of(full),
    backends=(
        *(_sdpa(n) for n in ("sdpa", "sdpa.flash", "sdpa.efficient", "sdpa.cudnn")),
        flex_backend(full),
        triton_backend(full),
    ),
    features=PAIRWISE,
    learned=learned_sinks,
)
