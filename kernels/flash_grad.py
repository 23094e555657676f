"""Exact attention that autograd can go through: the backward's launches."""

from collections.abc import Mapping
from typing import Any

import torch
import triton
from torch import Tensor

from attnbench.errors import UserError

from ._features import (
    INTERPRETED,
    Features,
    check,
    compile_options,
    kernel_arguments,
    scale_of,
    strides,
)
from ._launch import Launch
from ._targets import Config
from .flash import Choice, flash_fwd, on_device, target_for
from .flash_bwd import _flash_bwd_dkdv, _flash_bwd_dq
from .flash_bwd_configs import config_for

DQ, DKDV = "_flash_bwd_dq", "_flash_bwd_dkdv"


def flash(
    query: Tensor, key: Tensor, value: Tensor, *, choice: Choice | None = None, **settings: Any
) -> tuple[Tensor, Tensor]:
    """What `flash_fwd` answers under the same `settings`, differentiable in its operands.

    `choice` is the forward's: what `choose` answered, or None for the shipped one.

    Raises:
        UserError: shapes, dtypes, devices or settings that do not fit.
        MachineError: a device that has no configuration.
    """
    out, lse = _Flash.apply(  # type: ignore[no-untyped-call] # torch's has no types
        query, key, value, Features(**settings), choice
    )
    return out, lse


class _Flash(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        features: Features,
        choice: Choice | None,
    ) -> tuple[Tensor, Tensor]:
        chosen = {} if choice is None else choice._asdict()
        out, lse = flash_fwd(query, key, value, **features._asdict(), **chosen)
        context.save_for_backward(query, key, value, out, lse)
        context.features = features
        context.set_materialize_grads(False)
        return out, lse

    @staticmethod
    def backward(
        context: Any, grad_out: Tensor | None, grad_lse: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = context.saved_tensors
        if grad_out is None:
            grad_out = torch.zeros_like(out)
        grads = flash_bwd(
            query, key, value, out, lse, grad_out, grad_lse=grad_lse, features=context.features
        )
        return (*grads, None, None)


def flash_bwd(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    *,
    grad_lse: Tensor | None = None,
    features: Features = Features(),  # noqa: B008 - immutable
    configs: Mapping[str, Config] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value, from those of `flash_fwd`'s output and LSE.

    `out` and `lse` are what `flash_fwd` gave under the same `features`. The same inputs
    give the same bits. `configs` are those of `DQ` and `DKDV`; None for the shipped.

    Raises:
        UserError: shapes, dtypes, devices or settings that do not fit.
        MachineError: a device that has no configuration.
    """
    check(query, key, value, features)
    for name, tensor in (("out", out), ("grad_out", grad_out)):
        if tensor.shape != query.shape or tensor.dtype is not query.dtype:
            raise UserError(f"{name}: {list(tensor.shape)} {tensor.dtype} is not as query")
    if lse.shape != query.shape[:3] or not lse.is_contiguous():
        raise UserError(f"lse: {list(lse.shape)} is not what flash_fwd gave")
    dtype = query.dtype
    if INTERPRETED and dtype is torch.bfloat16:  # see flash_fwd
        query, key, value, out, grad_out = (t.float() for t in (query, key, value, out, grad_out))
    grads = [
        torch.empty_like(t, memory_format=torch.contiguous_format) for t in (query, key, value)
    ]
    if not query.numel() or not key.numel():
        return tuple(g.zero_().to(dtype) for g in grads)  # type: ignore[return-value]
    delta = torch.empty_like(lse)
    with on_device(query):
        for entry in (DQ, DKDV):  # in this order: DQ writes delta
            config = configs[entry] if configs else config_for(
                target_for(query), entry, head_dim=query.shape[3], dtype=query.dtype,
                seq_q=query.shape[2], seq_kv=key.shape[2], featured=features.costly(),
            )  # fmt: skip
            launch = launch_of(
                entry,
                query,
                key,
                value,
                out,
                lse,
                grad_out,
                grad_lse,
                delta,
                grads,
                features,
                config,
            )
            launch.kernel[launch.grid](**launch.arguments, **launch.options)
    grad_query, grad_key, grad_value = (g.to(dtype) for g in grads)
    return grad_query, grad_key, grad_value


def launch_of(
    entry: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    grad_lse: Tensor | None,
    delta: Tensor,
    grads: list[Tensor],
    features: Features,
    config: Config,
) -> Launch:
    """The launch of `DQ` or `DKDV`, of checked arguments; `grads` receive the gradients."""
    batch, heads, seq_q, head_dim = query.shape
    kv_heads, seq_kv = key.shape[1], key.shape[2]
    arguments = {
        "Q": query, "K": key, "V": value, "GRAD_O": grad_out, "LSE": lse, "DELTA": delta,
        **strides("q", query), **strides("k", key), **strides("v", value), **strides("g", grad_out),
        **kernel_arguments(query, key, lse, features, config),
        "scale": scale_of(features, head_dim),
    }  # fmt: skip
    if entry == DQ:
        arguments |= {"O": out, "GRAD_Q": grads[0], **strides("o", out)}
        arguments |= {"GRAD_LSE": lse if grad_lse is None else grad_lse}
        arguments["LSE_USED"] = grad_lse is not None
        programs = batch * heads * triton.cdiv(seq_q, config.block_m)
    else:
        arguments |= {"GRAD_K": grads[1], "GRAD_V": grads[2]}
        arguments["RAGGED"] = seq_q % config.block_m != 0
        programs = batch * kv_heads * triton.cdiv(seq_kv, config.block_n)
    return Launch(
        kernel=_flash_bwd_dq if entry == DQ else _flash_bwd_dkdv,
        grid=(programs,),
        arguments=arguments,
        options=compile_options(config),
    )
