"""What attention may be asked for beside its operands, checked, and as kernel arguments."""

import math
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from attnbench.errors import UserError

from ._targets import MAX_HEAD_DIM, AnyConfig

# Whether this copy of the module runs under Triton's interpreter; see `_interpreter.py`.
INTERPRETED = bool(triton.knobs.runtime.interpret)
_LOG2_E = 1.0 / math.log(2.0)


class Features(NamedTuple):
    """The settings of `flash_fwd` and its gradient; `flash.py` says what each means."""

    causal: bool = False
    window: int | None = None
    sinks: int = 0
    soft_cap: float | None = None
    alibi_slopes: Tensor | None = None
    kv_lens: Tensor | None = None
    scale: float | None = None

    def costly(self) -> bool:
        """Whether there is a window, soft-cap, bias or padding, which take registers."""
        wanted = (self.window, self.soft_cap, self.alibi_slopes, self.kv_lens)
        return any(x is not None for x in wanted)


def check(query: Tensor, key: Tensor, value: Tensor, features: Features) -> None:
    """Refuse what the kernels cannot do.

    Raises:
        UserError: shapes, dtypes, devices or settings that do not fit.
    """
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
    others = [t for t in (features.alibi_slopes, features.kv_lens) if t is not None]
    if len({t.device for t in (query, key, value, *others)}) > 1:
        raise UserError("query, key, value, alibi_slopes and kv_lens are on different devices")
    if not INTERPRETED and not query.is_cuda:
        raise UserError(
            f"the compiled kernel cannot run on {query.device}",
            hint="attnbench.kernels._interpreter.interpreted('flash') runs it on the CPU.",
        )
    _check_settings(features, heads=heads, batch=batch)


def _check_settings(features: Features, *, heads: int, batch: int) -> None:
    for name, tensor, size, dtype in (
        ("alibi_slopes", features.alibi_slopes, heads, torch.float32),
        ("kv_lens", features.kv_lens, batch, torch.int32),
    ):
        if tensor is None:
            continue
        if tensor.shape != (size,) or tensor.dtype is not dtype or not tensor.is_contiguous():
            raise UserError(f"{name}: {_shape(tensor)} {tensor.dtype} is not [{size}] of {dtype}")
    window, sinks = features.window, features.sinks
    if window is not None and window < 1:
        raise UserError(f"window: {window} is under 1")
    if sinks < 0 or (sinks and window is None):
        raise UserError(f"sinks: {sinks} needs a window, and is not negative")
    for name, number in (("soft_cap", features.soft_cap), ("scale", features.scale)):
        if number is not None and not 0.0 < number < math.inf:
            raise UserError(f"{name}: {number} is not over 0")


def scale_of(features: Features, head_dim: int) -> float:
    """What a product q·k is multiplied by to be a logit."""
    return 1.0 / math.sqrt(head_dim) if features.scale is None else features.scale


def kernel_arguments(
    query: Tensor,
    key: Tensor,
    spare: Tensor,
    features: Features,
    config: AnyConfig,
) -> dict[str, Any]:
    """The arguments that do not name an operand, alike in every kernel of exact attention.

    `spare` is any tensor: an unused pointer must still be one.
    """
    _, heads, seq_q, head_dim = query.shape
    seq_kv = key.shape[2]
    window, cap = features.window, features.soft_cap
    # Sizes past both ends of the sequence act alike; int32 in the kernel must hold them.
    reach = seq_q + seq_kv
    left = 0 if window is None else min(window - 1 if features.causal else window // 2, reach)
    block_d = max(16, triton.next_power_of_2(head_dim))
    return {
        "SLOPES": spare if features.alibi_slopes is None else features.alibi_slopes,
        "KV_LENS": spare if features.kv_lens is None else features.kv_lens,
        "heads": heads, "group": heads // key.shape[1],
        "seq_q": seq_q, "seq_kv": seq_kv, "head_dim": head_dim,
        "factor": scale_of(features, head_dim) * (1.0 if cap is not None else _LOG2_E),
        "cap": 0.0 if cap is None else cap,
        "left": left, "right": left, "sinks": min(features.sinks, seq_kv),
        "CAUSAL": features.causal, "WINDOW": window is not None,
        "SINKS": window is not None and features.sinks > 0,
        "ALIBI": features.alibi_slopes is not None,
        # How exact its tanh is: what rounding 16-bit inputs does hides the quick one's error.
        "SOFT_CAP": 0 if cap is None else 2 if query.dtype is torch.float32 else 1,
        "LENS": features.kv_lens is not None,
        "RAGGED": features.kv_lens is not None or seq_kv % config.block_n != 0,
        "BLOCK_M": config.block_m, "BLOCK_N": config.block_n,
        "BLOCK_D": block_d, "PADDED": block_d != head_dim,
    }  # fmt: skip


def compile_options(config: AnyConfig) -> dict[str, int | bool]:
    """How a kernel of `config` is compiled."""
    # Pinned: Triton 3.10 flips the fusion's default, which costs a tenth of the loop.
    options: dict[str, int | bool] = {
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
        "enable_fp_fusion": True,
    }
    if config.max_registers:
        options["maxnreg"] = config.max_registers
    return options


def strides(letter: str, tensor: Tensor) -> dict[str, int]:
    """The stride arguments of the operand that a kernel calls `letter`."""
    return {f"stride_{letter}{axis}": n for axis, n in zip("bhtd", tensor.stride(), strict=True)}


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
