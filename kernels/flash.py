"""Exact attention by our own kernels: the forward's path, configuration and launch."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ._features import INTERPRETED, Features, check, compile_options, kernel_arguments, strides
from ._launch import Launch
from ._targets import INTERPRETER, ForwardConfig, family, target_of
from ._tune import fastest
from .flash_fwd import _flash_fwd
from .flash_fwd_configs import ALTERNATIVES, FEW_ROWS, POINTER, TMA, config_for
from .flash_fwd_tma import _flash_fwd_tma

_TMA_FAMILIES = ("sm_90", "sm_100")
_TMA_ALIGNMENT = 16  # bytes, of a tensor's start and of every stride but the last


def flash_fwd(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    sinks: int = 0,
    soft_cap: float | None = None,
    alibi_slopes: Tensor | None = None,
    kv_lens: Tensor | None = None,
    scale: float | None = None,
    entry: str | None = None,
    config: ForwardConfig | None = None,
) -> tuple[Tensor, Tensor]:
    """Exact softmax attention: output [B, H, T, D] and LSE [B, H, T] (fp32, natural log).

    `query` is [B, H, T, D]; `key` and `value` are [B, Hkv, S, D], of one dtype (fp16,
    bf16, fp32) and any strides. Row i stands at position i + S - T. `window` counts the
    row itself under `causal`, else half of it lies on each side; the first `sinks` keys
    are exempt from it. `soft_cap` bounds the logits by tanh before `alibi_slopes` [H]
    (fp32) lowers them by slope · distance. `kv_lens` [B] (int32) hides each sequence's
    keys from that one on. `scale` is 1/√D unless given. A row that sees nothing gives 0
    and LSE -∞. `entry` (`POINTER` or `TMA`) and `config` are those shipped unless given.

    Raises:
        UserError: shapes, dtypes, devices or settings that do not fit.
        MachineError: a device that has no configuration.
    """
    features = Features(causal, window, sinks, soft_cap, alibi_slopes, kv_lens, scale)
    check(query, key, value, features)
    # The interpreter would multiply bf16's bits as integers, and truncate stores to bf16.
    # bf16 widens to fp32 exactly, so there the same values run as fp32 and torch rounds.
    widened = INTERPRETED and query.dtype is torch.bfloat16
    if widened:
        query, key, value = query.float(), key.float(), value.float()
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    lse = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
    if out.numel():
        if entry is None or config is None:
            shipped = shipped_choice(query, key, value, features)
            entry, config = entry or shipped.entry, config or shipped.config
        launch = launch_of(entry, query, key, value, out, lse, features, config)
        with on_device(query):
            launch.kernel[launch.grid](**launch.arguments, **launch.options)
    return (out.bfloat16() if widened else out), lse


class Choice(NamedTuple):
    """Which kernel runs, and how it is compiled."""

    entry: str
    config: ForwardConfig

    def __str__(self) -> str:
        m, n, warps, stages, carry, registers = self.config
        carried = " carried" * bool(carry)
        limit = f" max {registers} registers" * bool(registers)
        return f"{self.entry.lstrip('_')} {m}x{n} w{warps} s{stages}{carried}{limit}"


def shipped_choice(query: Tensor, key: Tensor, value: Tensor, features: Features) -> Choice:
    """What runs unless a device was asked: see `choose`.

    Raises:
        MachineError: a device that has no configuration.
    """
    target = target_for(query)
    entry = entry_for(target, query, key, value)
    config = config_for(
        target, entry, head_dim=query.shape[3], dtype=query.dtype, seq_q=query.shape[2],
        seq_kv=key.shape[2], causal=features.causal, featured=features.costly(),
    )  # fmt: skip
    return Choice(entry, config)


def choose(query: Tensor, key: Tensor, value: Tensor, **settings: Any) -> Choice:
    """The fastest of the shipped choice and its alternatives, timed on these operands.

    On the CPU the shipped one; also with a window, soft-cap, bias or padding, for few
    query rows, and in fp32: there are no alternatives.

    Raises:
        MachineError: a device that has no configuration.
    """
    features = Features(**settings)
    first = shipped_choice(query, key, value, features)
    few = query.shape[2] <= FEW_ROWS
    if not query.is_cuda or few or features.costly() or query.element_size() != 2:
        return first
    at = (family(target_for(query)) or "", max(64, triton.next_power_of_2(query.shape[3])))
    others = [Choice(*other) for other in ALTERNATIVES.get(at, ())]
    able = [o for o in others if o.entry == POINTER or first.entry == TMA]
    return fastest(
        [first, *(o for o in able if o != first)],
        lambda choice: flash_fwd(query, key, value, **settings, **choice._asdict()),
    )


def entry_for(target: str, query: Tensor, key: Tensor, value: Tensor) -> str:
    """The kernel that `target` runs: by TMA where it has one that can copy the operands."""
    tensors = (query, key, value)
    if family(target) in _TMA_FAMILIES and query.element_size() == 2 and all(map(_tma, tensors)):
        return TMA
    return POINTER


def _tma(tensor: Tensor) -> bool:
    """Whether a tensor can be copied by TMA. Source: CUDA driver API, cuTensorMapEncodeTiled."""
    if tensor.stride(-1) != 1 or tensor.data_ptr() % _TMA_ALIGNMENT:
        return False
    steps = [
        step * tensor.element_size()
        for step, size in zip(tensor.stride()[:-1], tensor.shape[:-1], strict=True)
        if size > 1
    ]
    return all(step > 0 and step % _TMA_ALIGNMENT == 0 for step in steps)


def launch_of(
    entry: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    features: Features,
    config: ForwardConfig,
) -> Launch:
    """The launch of checked arguments; ahead-of-time compilation asks for it too."""
    batch, heads, seq_q, _ = query.shape
    arguments: dict[str, Any] = {
        "O": out, "LSE": lse, **strides("o", out),
        **kernel_arguments(query, key, lse, features, config),
    }  # fmt: skip
    if entry == TMA:
        block_d = arguments["BLOCK_D"]
        arguments |= {
            "Q": _descriptor(query, config.block_m, block_d),
            "K": _descriptor(key, config.block_n, block_d),
            "V": _descriptor(value, config.block_n, block_d),
        }
    else:
        arguments |= {
            "Q": query, "K": key, "V": value,
            **strides("q", query), **strides("k", key), **strides("v", value),
            "CARRY": bool(config.carry),
        }  # fmt: skip
    return Launch(
        kernel=_flash_fwd_tma if entry == TMA else _flash_fwd,
        grid=(batch * heads * triton.cdiv(seq_q, config.block_m),),
        arguments=arguments,
        options=compile_options(config),
    )


def _descriptor(tensor: Tensor, rows: int, block_d: int) -> TensorDescriptor:
    # The stride of an axis of one element is never used, but must be a legal one.
    legal = _TMA_ALIGNMENT // tensor.element_size()
    steps = [
        step if size > 1 else legal
        for step, size in zip(tensor.stride()[:3], tensor.shape[:3], strict=True)
    ]
    return TensorDescriptor(tensor, list(tensor.shape), [*steps, 1], [1, 1, rows, block_d])


def target_for(tensor: Tensor) -> str:
    """The target whose configurations a kernel over `tensor` uses."""
    return INTERPRETER if INTERPRETED else target_of(tensor.device)


def on_device(tensor: Tensor) -> AbstractContextManager[object]:
    """The context in which Triton launches on the device of `tensor`."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
