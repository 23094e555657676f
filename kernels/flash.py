"""Exact attention by our own kernels: checks, configuration, launch."""

import contextlib
import math

import torch
import triton
from torch import Tensor

from attnbench.errors import UserError

from ._launch import Launch
from ._targets import INTERPRETER, MAX_HEAD_DIM, Config, target_of
from .flash_fwd import _flash_fwd
from .flash_fwd_configs import config_for

# Whether this copy of the module runs under Triton's interpreter; see `_interpreter.py`.
INTERPRETED = bool(triton.knobs.runtime.interpret)
_LOG2_E = 1.0 / math.log(2.0)


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
    _check(query, key, value, window, sinks, soft_cap, alibi_slopes, kv_lens, scale)
    # The interpreter would multiply bf16's bits as integers, and truncate stores to bf16.
    # bf16 widens to fp32 exactly, so there the same values run as fp32 and torch rounds.
    widened = INTERPRETED and query.dtype is torch.bfloat16
    if widened:
        query, key, value = query.float(), key.float(), value.float()
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    lse = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
    if out.numel():
        target = INTERPRETER if INTERPRETED else target_of(query.device)
        launch = launch_of(
            query, key, value, out, lse, causal=causal, window=window, sinks=sinks,
            soft_cap=soft_cap, alibi_slopes=alibi_slopes, kv_lens=kv_lens, scale=scale,
            config=config or config_for(
                target, head_dim=query.shape[3], dtype=query.dtype,
                seq_q=query.shape[2], seq_kv=key.shape[2],
                featured=any(x is not None for x in (window, soft_cap, alibi_slopes, kv_lens)),
            ),
        )  # fmt: skip
        on_device = torch.cuda.device(query.device) if query.is_cuda else contextlib.nullcontext()
        with on_device:
            launch.kernel[launch.grid](**launch.arguments, **launch.options)
    return (out.bfloat16() if widened else out), lse


def launch_of(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    *,
    causal: bool,
    window: int | None,
    sinks: int,
    soft_cap: float | None,
    alibi_slopes: Tensor | None,
    kv_lens: Tensor | None,
    scale: float | None,
    config: Config,
) -> Launch:
    """The launch of checked arguments; ahead-of-time compilation asks for it too."""
    batch, heads, seq_q, head_dim = query.shape
    seq_kv = key.shape[2]
    scale = 1.0 / math.sqrt(head_dim) if scale is None else scale
    # Sizes past both ends of the sequence act alike; int32 in the kernel must hold them.
    reach = seq_q + seq_kv
    left = 0 if window is None else min(window - 1 if causal else window // 2, reach)
    block_d = max(16, triton.next_power_of_2(head_dim))
    arguments = {
        "Q": query, "K": key, "V": value, "O": out, "LSE": lse,
        # An unused pointer must still be one.
        "SLOPES": lse if alibi_slopes is None else alibi_slopes,
        "KV_LENS": lse if kv_lens is None else kv_lens,
        **_strides("q", query), **_strides("k", key), **_strides("v", value), **_strides("o", out),
        "heads": heads, "group": heads // key.shape[1],
        "seq_q": seq_q, "seq_kv": seq_kv, "head_dim": head_dim,
        "factor": scale * (1.0 if soft_cap is not None else _LOG2_E),
        "cap": 0.0 if soft_cap is None else soft_cap,
        "left": left, "right": left, "sinks": min(sinks, seq_kv),
        "CAUSAL": causal, "WINDOW": window is not None,
        "SINKS": window is not None and sinks > 0,
        "ALIBI": alibi_slopes is not None, "SOFT_CAP": soft_cap is not None,
        "LENS": kv_lens is not None,
        "RAGGED": kv_lens is not None or seq_kv % config.block_n != 0,
        "BLOCK_M": config.block_m, "BLOCK_N": config.block_n,
        "BLOCK_D": block_d, "PADDED": block_d != head_dim,
    }  # fmt: skip
    return Launch(
        kernel=_flash_fwd,
        grid=(batch * heads * triton.cdiv(seq_q, config.block_m),),
        arguments=arguments,
        # Pinned: Triton 3.10 flips the fusion's default, which costs a tenth of the loop.
        options={
            "num_warps": config.num_warps,
            "num_stages": config.num_stages,
            "enable_fp_fusion": True,
        },
    )


def _strides(letter: str, tensor: Tensor) -> dict[str, int]:
    return {f"stride_{letter}{axis}": n for axis, n in zip("bhtd", tensor.stride(), strict=True)}


def _check(
    query: Tensor, key: Tensor, value: Tensor, window: int | None, sinks: int,
    soft_cap: float | None, alibi_slopes: Tensor | None, kv_lens: Tensor | None,
    scale: float | None,
) -> None:  # fmt: skip
    if query.dim() != 4 or key.dim() != 4 or key.shape != value.shape:
        raise UserError(
            f"query {_shape(query)}, key {_shape(key)}, value {_shape(value)}: "
            "not [B, H, T, D], [B, Hkv, S, D], [B, Hkv, S, D]"
        )
    batch, heads, _, head_dim = query.shape
    if (batch, head_dim) != (key.shape[0], key.shape[3]):
        raise UserError(f"query {_shape(query)} and key {_shape(key)} differ in batch or head_dim")
    if not key.shape[1] or heads % key.shape[1]:
        raise UserError(f"kv_heads: {key.shape[1]} does not divide heads: {heads}")
    if not 1 <= head_dim <= MAX_HEAD_DIM:
        raise UserError(f"head_dim: {head_dim} is not in 1..{MAX_HEAD_DIM}")
    dtypes = {query.dtype, key.dtype, value.dtype}
    if len(dtypes) > 1 or not dtypes <= {torch.float16, torch.bfloat16, torch.float32}:
        raise UserError(f"dtypes {sorted(map(str, dtypes))}: one of fp16, bf16, fp32 is wanted")
    others = [t for t in (alibi_slopes, kv_lens) if t is not None]
    if len({t.device for t in (query, key, value, *others)}) > 1:
        raise UserError("query, key, value, alibi_slopes and kv_lens are on different devices")
    if not INTERPRETED and not query.is_cuda:
        raise UserError(
            f"the compiled kernel cannot run on {query.device}",
            hint="attnbench.kernels._interpreter.interpreted('flash') runs it on the CPU.",
        )
    for name, tensor, size, dtype in (
        ("alibi_slopes", alibi_slopes, heads, torch.float32),
        ("kv_lens", kv_lens, batch, torch.int32),
    ):
        if tensor is None:
            continue
        if tensor.shape != (size,) or tensor.dtype is not dtype or not tensor.is_contiguous():
            raise UserError(f"{name}: {_shape(tensor)} {tensor.dtype} is not [{size}] of {dtype}")
    if window is not None and window < 1:
        raise UserError(f"window: {window} is under 1")
    if sinks < 0 or (sinks and window is None):
        raise UserError(f"sinks: {sinks} needs a window, and is not negative")
    for name, number in (("soft_cap", soft_cap), ("scale", scale)):
        if number is not None and not 0.0 < number < math.inf:
            raise UserError(f"{name}: {number} is not over 0")


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
