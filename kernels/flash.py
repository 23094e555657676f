"""Exact attention by our own kernels: the forward's configuration and launch."""

import contextlib
from contextlib import AbstractContextManager

import torch
import triton
from torch import Tensor

from ._features import INTERPRETED, Features, check, compile_options, kernel_arguments, strides
from ._launch import Launch
from ._targets import INTERPRETER, Config, target_of
from .flash_fwd import _flash_fwd
from .flash_fwd_configs import config_for


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
    config: Config | None = None,
) -> tuple[Tensor, Tensor]:
    """Exact softmax attention: output [B, H, T, D] and LSE [B, H, T] (fp32, natural log).

    `query` is [B, H, T, D]; `key` and `value` are [B, Hkv, S, D], of one dtype (fp16,
    bf16, fp32) and any strides. Row i stands at position i + S - T. `window` counts the
    row itself under `causal`, else half of it lies on each side; the first `sinks` keys
    are exempt from it. `soft_cap` bounds the logits by tanh before `alibi_slopes` [H]
    (fp32) lowers them by slope · distance. `kv_lens` [B] (int32) hides each sequence's
    keys from that one on. `scale` is 1/√D unless given. A row that sees nothing gives 0
    and LSE -∞.

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
        if config is None:
            config = config_for(
                target_for(query), head_dim=query.shape[3], dtype=query.dtype,
                seq_q=query.shape[2], seq_kv=key.shape[2], featured=features.costly(),
            )  # fmt: skip
        launch = launch_of(query, key, value, out, lse, features, config)
        with on_device(query):
            launch.kernel[launch.grid](**launch.arguments, **launch.options)
    return (out.bfloat16() if widened else out), lse


def launch_of(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    features: Features,
    config: Config,
) -> Launch:
    """The launch of checked arguments; ahead-of-time compilation asks for it too."""
    batch, heads, seq_q, _ = query.shape
    arguments = {
        "Q": query, "K": key, "V": value, "O": out, "LSE": lse,
        **strides("q", query), **strides("k", key), **strides("v", value), **strides("o", out),
        **kernel_arguments(query, key, lse, features, config),
        "CARRY": config.carry > 0, "CARRY_MASKED": config.carry > 1,
    }  # fmt: skip
    return Launch(
        kernel=_flash_fwd,
        grid=(batch * heads * triton.cdiv(seq_q, config.block_m),),
        arguments=arguments,
        options=compile_options(config),
    )


def target_for(tensor: Tensor) -> str:
    """The target whose configurations a kernel over `tensor` uses."""
    return INTERPRETER if INTERPRETED else target_of(tensor.device)


def on_device(tensor: Tensor) -> AbstractContextManager[object]:
    """The context in which Triton launches on the device of `tensor`."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
