"""Attention in float64, and how far a kernel may be from it: shared by the kernels' tests."""

import math
from typing import Any

import torch
from torch import Tensor


def logits_of(
    query: Tensor, key: Tensor, *, causal: bool = False, window: int | None = None,
    sinks: int = 0, soft_cap: float | None = None, alibi_slopes: Tensor | None = None,
    kv_lens: Tensor | None = None, scale: float | None = None, pairs: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Logits [B, H, T, S] in the operands' dtype; -inf where a pair is not attended.

    `pairs` [T, S]: those that may be, whatever else is asked for.
    """
    seq_q, seq_kv, group = query.shape[2], key.shape[2], query.shape[1] // key.shape[1]
    row = torch.arange(seq_q, device=query.device)[:, None] + seq_kv - seq_q
    column = torch.arange(seq_kv, device=query.device)[None, :]
    logits = query @ key.repeat_interleave(group, dim=1).mT
    logits = logits * (query.shape[3] ** -0.5 if scale is None else scale)
    if soft_cap is not None:
        logits = soft_cap * torch.tanh(logits / soft_cap)
    if alibi_slopes is not None:
        logits = logits - alibi_slopes.to(logits)[:, None, None] * (row - column).abs()
    seen = torch.ones(seq_q, seq_kv, dtype=torch.bool, device=query.device)
    if window is not None and causal:
        seen &= (row - window < column) | (column < sinks)
    elif window is not None:
        seen &= (2 * (row - column).abs() <= window) | (column < sinks)
    if causal:
        seen &= column <= row
    if pairs is not None:
        seen &= pairs
    if kv_lens is not None:
        seen = seen & (column < kv_lens[:, None, None, None])
    return logits.masked_fill(~seen, -math.inf)


def attend(query: Tensor, key: Tensor, value: Tensor, **features: Any) -> tuple[Tensor, Tensor]:
    """Output and LSE of attention, every step in the operands' dtype."""
    logits = logits_of(query, key, **features)
    lse = torch.logsumexp(logits, dim=-1)
    weights = torch.softmax(logits, dim=-1).nan_to_num(0.0)  # a row that sees nothing
    return weights @ value.repeat_interleave(query.shape[1] // key.shape[1], dim=1), lse


def _of_logits(query: Tensor, key: Tensor, features: dict[str, Any]) -> float:
    """What a kernel's logits may be off by beyond plain attention's, under a soft-cap or ALiBi.

    In log2 units a logit is rounded once more, by log2 e. Of 16-bit inputs a kernel's tanh
    is quick, and off by cap · 2⁻²².
    """
    cap = features.get("soft_cap") or 0.0
    if query.dtype is not torch.float32:
        return cap * 2.0**-22
    if not cap and features.get("alibi_slopes") is None:
        return 0.0
    logits = logits_of(query, key, **features)
    return logits[logits.isfinite()].abs().max().item() * 2.0**-24


def breach(kernel: Any, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> str | None:
    """What is wrong with `kernel`'s output and LSE on these operands, or None.

    The output's error against float64 may be twice that of plain attention in the same
    dtype, plus one rounding of the largest value; the LSE's, whose scores are fp32
    whatever the inputs, likewise in fp32. Under a soft-cap or a bias logits may be off
    by a little more, see `_of_logits`.
    """
    out, lse = kernel(query, key, value, **options)
    features = {name: given for name, given in options.items() if name not in ("config", "entry")}
    exact, exact_lse = attend(query.double(), key.double(), value.double(), **features)
    plain, _ = attend(query, key, value, **features)
    _, plain_lse = attend(query.float(), key.float(), value.float(), **features)
    of_logits = _of_logits(query, key, features)
    if out.dtype is not query.dtype or lse.dtype is not torch.float32:
        return f"dtypes {out.dtype}, {lse.dtype}"
    if out.isnan().any() or lse.isnan().any():
        return "NaN"
    empty = exact_lse == -math.inf
    if not torch.equal(lse == -math.inf, empty) or out[empty].any():
        return "a row that sees nothing is not 0 and -inf"
    largest = exact.abs().max().item()
    rounding = torch.finfo(query.dtype).eps / 2 * largest
    error, allowed = (
        _error(out, exact),
        2 * _error(plain, exact) + rounding + 2 * of_logits * largest,
    )
    if error > allowed:
        return f"output off by {error:.3g}, allowed {allowed:.3g}"
    if empty.all():
        return None
    exact_lse, lse, plain_lse = (t[~empty] for t in (exact_lse, lse, plain_lse))
    rounding = torch.finfo(torch.float32).eps * max(1.0, exact_lse.abs().max().item())
    error, allowed = _error(lse, exact_lse), 2 * _error(plain_lse, exact_lse) + rounding + of_logits
    return f"LSE off by {error:.3g}, allowed {allowed:.3g}" if error > allowed else None


def _error(found: Tensor, exact: Tensor) -> float:
    return (found.double() - exact).abs().max().item()


def gradients(
    query: Tensor, key: Tensor, value: Tensor, grad_out: Tensor, **features: Any
) -> tuple[Tensor, ...]:
    """Autograd's gradients of `attend`, every step in the operands' dtype."""
    leaves = [t.detach().clone().requires_grad_() for t in (query, key, value)]
    out, _ = attend(*leaves, **features)
    return torch.autograd.grad(out, leaves, grad_out)


def grad_breach(
    found: tuple[Tensor, ...], query: Tensor, key: Tensor, value: Tensor, grad_out: Tensor,
    **features: Any,
) -> str | None:  # fmt: skip
    """What is wrong with the gradients `found` of query, key and value, or None.

    Each may be off from float64 by twice what plain attention's is in the same dtype,
    plus one rounding of the largest, as `breach` has it for the output. dQ and dK may
    also be off by what rounding the output does to delta = rowsum(dO ∘ O), and with it
    to every logit's gradient: where a row sees one key they are 0, of two equal terms.
    """
    operands = (query, key, value, grad_out)
    exact = gradients(*(t.double() for t in operands), **features)
    plain = gradients(*operands, **features)
    wide = [t.double() for t in operands]
    out, _ = attend(*wide[:3], **features)
    eps = torch.finfo(query.dtype).eps
    delta_error = eps * (out * wide[3]).abs().sum(-1, keepdim=True)
    scale = features.get("scale") or query.shape[3] ** -0.5
    weights = torch.softmax(logits_of(*wide[:2], **features), dim=-1).nan_to_num(0.0)
    through = scale * weights * delta_error
    group = query.shape[1] // key.shape[1]
    of_delta = {
        "q": (through.sum(-1) * wide[1].abs().max()).max().item(),
        "k": (through.sum(-2) * wide[0].abs().max()).max().item() * group,
        "v": 0.0,
    }
    of_logits = _of_logits(query, key, features)
    for name, ours, theirs, wanted in zip("qkv", found, plain, exact, strict=True):
        if ours.shape != wanted.shape or ours.dtype is not query.dtype:
            return f"d{name}: {list(ours.shape)} {ours.dtype}"
        if ours.isnan().any():
            return f"d{name}: NaN"
        largest = wanted.abs().max().item()
        error = _error(ours, wanted)
        allowed = 2 * _error(theirs, wanted) + (eps / 2 + 2 * of_logits) * largest + of_delta[name]
        if error > allowed:
            return f"d{name} off by {error:.3g}, allowed {allowed:.3g}"
    return None
