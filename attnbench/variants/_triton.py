"""What the `triton` backends share: where they can run, which copy of the kernels, features."""

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from attnbench.calc.score_features import score_features
from attnbench.kernels._targets import MAX_HEAD_DIM
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants._protocol import Backend, Learned, Params

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = (Dtype.FP16, Dtype.BF16, Dtype.FP32)


def kernels(name: str, device: str) -> ModuleType:
    """The kernel module `name`: compiled, or on the CPU its interpreted copy."""
    if device.startswith("cpu"):
        from attnbench.kernels._interpreter import interpreted

        return interpreted(name)  # type: ignore[no-any-return,unused-ignore] # mypy sees the kernels in some installs alone
    return importlib.import_module(f"attnbench.kernels.{name}")


def score_options(
    shape: AttentionShape, params: Params, device: str
) -> "tuple[dict[str, Any], Tensor | None]":
    """Arguments of the kernel for the score features, and the sinks' logits."""
    from attnbench.variants._score import make_score

    score = make_score(score_features(params), shape, device)
    if score is None:
        return {}, None
    given = {"soft_cap": score.soft_cap, "alibi_slopes": score.slopes, "kv_lens": score.lens}
    return {name: value for name, value in given.items() if value is not None}, score.sinks


def cannot_run(shape: AttentionShape, device_type: str) -> str | None:
    """The reason that no kernel of ours runs `shape` on such a device, or None."""
    if shape.dtype not in _DTYPES:
        return f"the triton kernel takes {', '.join(_DTYPES)}, not {shape.dtype}"
    if shape.head_dim > MAX_HEAD_DIM:
        return f"the triton kernel takes head_dim up to {MAX_HEAD_DIM}, not {shape.head_dim}"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install 'attnbench[bench]'"
    if device_type == "cuda":
        return _no_configuration()
    if device_type != "cpu":
        return f"triton has no backend for {device_type}"
    return None


def either(one: Backend, other: Backend, wants_other: Callable[[Params], bool]) -> Backend:
    """`one`, and where the settings want it `other`: two kernels of one variant."""

    def chosen(params: Params) -> Backend:
        return other if wants_other(params) else one

    def supports(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
        return chosen(params).supports(shape, mode, params, device_type)

    def prepare(shape: AttentionShape, params: Params, device: str) -> Any:
        backend = chosen(params)
        return backend, backend.prepare(shape, params, device)

    def forward(query: "Tensor", key: "Tensor", value: "Tensor", state: Any) -> "Tensor":
        backend, own = state
        out: Tensor = backend.forward(query, key, value, own)
        return out

    def workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
        return chosen(params).workspace_bytes(shape, mode, params)

    def chose(state: Any) -> str:
        backend, own = state
        said: str = backend.chose(own)
        return said

    def learn(state: Any, learned: Learned) -> Any:
        backend, own = state
        return backend, own if backend.learn is None else backend.learn(own, learned)

    return msgspec.structs.replace(
        one, supports=supports, prepare=prepare, forward=forward, workspace_bytes=workspace,
        chose=chose, learn=learn,
    )  # fmt: skip


def too_long(work: int, limit: int, what: str) -> str | None:
    """The reason not to interpret that much `work`, or None."""
    if work <= limit:
        return None
    return f"interpreter: about {work:,} {what} would take minutes; up to {limit:,} are checked"


def _no_configuration() -> str | None:
    import torch
    import triton

    from attnbench.kernels._targets import family, target_of

    if triton.knobs.runtime.interpret:
        return "TRITON_INTERPRET is set: the kernel would be interpreted, not timed"
    target = target_of(torch.device("cuda"))
    if family(target) is None:
        return f"the triton kernels have no configuration for {target}"
    return None
