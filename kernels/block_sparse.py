"""Block-sparse attention by our own kernels: configuration, launches, gradients."""

from typing import Any

import torch
import triton
from torch import Tensor

from attnbench.errors import UserError

from ._block_lists import BlockLists, Side
from ._combine import _combine
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
from .block_sparse_bwd import _block_sparse_dkdv, _block_sparse_dq
from .block_sparse_configs import config_for
from .block_sparse_fwd import _block_sparse_fwd
from .flash import on_device, target_for


def block_sparse(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lists: BlockLists,
    *,
    soft_cap: float | None = None,
    alibi_slopes: Tensor | None = None,
    kv_lens: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Softmax attention over the pairs of `lists`: output [B, H, T, D] and LSE [B, H, T].

    Operands and features are those of `flash.flash_fwd`; which pairs are attended, causal
    ones or not, is the lists' (`_block_lists.make_lists`, on the operands' device). LSE is
    fp32, natural log. Both have gradients for query, key and value. A row that sees nothing
    gives 0 and LSE -∞.

    Raises:
        UserError: shapes, dtypes, devices or settings that do not fit.
        MachineError: a device that has no configuration.
    """
    features = Features(soft_cap=soft_cap, alibi_slopes=alibi_slopes, kv_lens=kv_lens, scale=scale)
    check(query, key, value, features)
    lengths = (query.shape[2], key.shape[2])
    if lengths != (lists.seq_q, lists.seq_kv):
        raise UserError(f"lengths {lengths}: the lists are for {(lists.seq_q, lists.seq_kv)}")
    if lists.rows.items.device != query.device:
        raise UserError(f"lists on {lists.rows.items.device}, query on {query.device}")
    # bf16 is not the interpreter's: see `flash.flash_fwd`.
    widened = INTERPRETED and query.dtype is torch.bfloat16
    if widened:
        query, key, value = query.float(), key.float(), value.float()
    out, lse = _BlockSparse.apply(  # type: ignore[no-untyped-call] # torch's has no types
        query, key, value, lists, features
    )
    return (out.bfloat16() if widened else out), lse


class _BlockSparse(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, lists: BlockLists, features: Features
    ) -> tuple[Tensor, Tensor]:
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        lse = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
        config = _config("fwd", query)
        with on_device(query):
            _run(launches_fwd(query, key, value, out, lse, lists, features, config))
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.lists, ctx.features = lists, features
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        query, key, value, out, lse = ctx.saved_tensors
        upward, lse_grad = grads
        upward = torch.zeros_like(out) if upward is None else upward
        made = [torch.empty_like(t, memory_format=torch.contiguous_format)
                for t in (query, key, value)]  # fmt: skip
        delta = torch.empty_like(lse)
        saved = (query, key, value, out, upward, lse, delta)
        with on_device(query):
            config = _config("dq", query)
            _run(launches_dq(*saved, lse_grad, made[0], ctx.lists, ctx.features, config))
            config = _config("dkdv", query)
            _run(launches_dkdv(*saved, made[1], made[2], ctx.lists, ctx.features, config))
        return *made, None, None


def _config(entry: str, query: Tensor) -> Config:
    return config_for(entry, target_for(query), head_dim=query.shape[3], dtype=query.dtype)


def _run(launches: list[Launch]) -> None:
    for launch in launches:
        launch.kernel[launch.grid](**launch.arguments, **launch.options)


def launches_fwd(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    lists: BlockLists,
    features: Features,
    config: Config,
) -> list[Launch]:
    """The forward's kernel, and the joining of split rows; ahead-of-time compiling asks too."""
    batch, heads = query.shape[:2]
    slots = (batch, heads, lists.rows.slots)
    parts = torch.empty(*slots, query.shape[3], dtype=torch.float32, device=query.device)
    part_lse = torch.empty(slots, dtype=torch.float32, device=query.device)
    made = [
        _launch(
            _block_sparse_fwd, lists.rows, batch * heads, query, key, lists, features, config,
            {"Q": query, "K": key, "V": value, "O": out},
            LSE=lse, PARTS=parts, PART_LSE=part_lse,
        )
    ]  # fmt: skip
    if lists.rows.slots:
        made.append(combine(parts, part_lse, out, lse, lists.rows))
    return made


def launches_dq(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    upward: Tensor,
    lse: Tensor,
    delta: Tensor,
    lse_grad: Tensor | None,
    grad: Tensor,
    lists: BlockLists,
    features: Features,
    config: Config,
) -> list[Launch]:
    """dQ into `grad`, and `delta`, which `launches_dkdv` reads."""
    batch, heads = query.shape[:2]
    slots = (batch, heads, lists.rows.slots)
    parts = torch.empty(*slots, query.shape[3], dtype=torch.float32, device=query.device)
    made = [
        _launch(
            _block_sparse_dq, lists.rows, batch * heads, query, key, lists, features, config,
            {"Q": query, "K": key, "V": value, "O": out, "DO": upward, "DQ": grad},
            LSE=lse, DELTA=delta, PARTS=parts, scale=scale_of(features, query.shape[3]),
            DLSE=lse if lse_grad is None else lse_grad.contiguous(),
            LSE_GRAD=lse_grad is not None,
        )
    ]  # fmt: skip
    if lists.rows.slots:
        made.append(combine(parts, None, grad, None, lists.rows))
    return made


def launches_dkdv(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    upward: Tensor,
    lse: Tensor,
    delta: Tensor,
    key_grad: Tensor,
    value_grad: Tensor,
    lists: BlockLists,
    features: Features,
    config: Config,
) -> list[Launch]:
    """DK and dV into `key_grad` and `value_grad`."""
    batch, kv_heads = key.shape[:2]
    slots = (2, batch, kv_heads, lists.keys.slots)
    parts = torch.empty(*slots, key.shape[3], dtype=torch.float32, device=key.device)
    made = [
        _launch(
            _block_sparse_dkdv, lists.keys, batch * kv_heads, query, key, lists, features, config,
            {"Q": query, "K": key, "V": value, "DO": upward, "DK": key_grad, "DV": value_grad},
            LSE=lse, DELTA=delta, PARTS=parts, scale=scale_of(features, key.shape[3]),
        )
    ]  # fmt: skip
    if lists.keys.slots:
        made.append(combine(parts[0], None, key_grad, None, lists.keys))
        made.append(combine(parts[1], None, value_grad, None, lists.keys))
    return made


def _launch(
    kernel: Any, side: Side, heads: int, query: Tensor, key: Tensor, lists: BlockLists,
    features: Features, config: Config, operands: dict[str, Tensor], **others: Any,
) -> Launch:  # fmt: skip
    # Elements that a tile spans, at most.
    stride = max(abs(n) for tensor in operands.values() for n in tensor.stride())
    reach = (max(lists.tile_m, lists.tile_n) * side.longest_step + query.shape[3]) * stride
    arguments = {
        **kernel_arguments(query, key, others["LSE"], features, config),
        # Of a tile held all, of one streamed as much at a time as registers bear.
        "TILE_M": lists.tile_m, "TILE_N": lists.tile_n,
        "BLOCK_M": lists.tile_m if side is lists.rows else min(config.block_m, lists.tile_m),
        "BLOCK_N": lists.tile_n if side is lists.keys else min(config.block_n, lists.tile_n),
        "items": len(side.items), "slots": side.slots, "SPLIT": side.slots > 0,
        "STEPPED": side.longest_step > 1, "WIDE": reach >= 2**31,
        "ITEMS": side.items, "ENTRIES": side.entries, "MASKS": side.masks,
        **operands, **others,
    }  # fmt: skip
    for letter, tensor in operands.items():
        arguments.update(strides(letter.lower(), tensor))
    return Launch(
        kernel=kernel,
        grid=(heads * len(side.items),),
        arguments={name: arguments[name] for name in kernel.arg_names},
        options=compile_options(config),
    )


def combine(
    parts: Tensor, part_lse: Tensor | None, out: Tensor, lse: Tensor | None, side: Side
) -> Launch:
    """Join the slots of split positions: [B, H, slots, D] into `out` [B, H, T, D]."""
    batch, heads, tokens, head_dim = out.shape
    block_d = max(16, triton.next_power_of_2(head_dim))
    block_r = 256 if INTERPRETED else 16
    # At 64 channels on sm_80, Triton 3.7 spills 8 bytes of 8 warps that join softmaxes, and of 4
    # that sum.
    num_warps = 4 if lse is not None and block_d <= 64 else 8
    return Launch(
        kernel=_combine,
        grid=(batch * heads * triton.cdiv(len(side.split), block_r),),
        arguments={
            "PARTS": parts, "PART_LSE": parts if part_lse is None else part_lse,
            "OUT": out, "LSE": parts if lse is None else lse,
            "SPLIT": side.split, "SPLIT_START": side.split_start, "SPLIT_SLOTS": side.split_slots,
            **strides("o", out),
            "splits": len(side.split), "heads": heads, "tokens": tokens, "slots": side.slots,
            "head_dim": head_dim,
            "SOFTMAX": lse is not None, "BLOCK_R": block_r, "BLOCK_S": 2,
            "BLOCK_D": block_d, "PADDED": block_d != head_dim,
        },
        options={"num_warps": num_warps, "num_stages": 2, "enable_fp_fusion": True},
    )  # fmt: skip
