"""Decoding over a paged KV cache by our own kernels: checks, configuration, launches."""

import functools

import torch
import triton
from torch import Tensor

from attnbench.errors import UserError

from ._block_lists import Side
from ._features import (
    INTERPRETED,
    Features,
    check,
    compile_options,
    kernel_arguments,
    strides,
)
from ._launch import Launch
from ._targets import Config
from .block_sparse import combine
from .flash import on_device, target_for
from .paged_decode_configs import config_for, splits_for
from .paged_decode_split import _paged_decode


def paged_decode(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    block_table: Tensor,
    kv_lens: Tensor,
    *,
    page_size: int,
    splits: int | None = None,
    soft_cap: float | None = None,
    alibi_slopes: Tensor | None = None,
    scale: float | None = None,
    in_place: bool = False,
    config: Config | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of one query a sequence over its pages: output [B, H, 1, D], LSE [B, H, 1].

    `query` is [B, H, 1, D]. `key` and `value` are pools of rows [B, Hkv, rows, D], a
    sequence's own or one for all (expand it over the batch; a cache of [pages, page_size,
    Hkv, D] is `cache.flatten(0, 1).transpose(0, 1).expand(B, -1, -1, -1)`). Token t of
    sequence b is row `block_table[b, t // page_size]` · page_size + t mod page_size;
    `block_table` [B, pages] and `kv_lens` [B] are int32. `splits`: programs that share a
    sequence, by default what fills the device. Features as in `flash.flash_fwd`; a
    sequence of no token gives 0 and LSE -∞. There is no backward.

    `in_place`: a row's number is its token's position, in whatever order the table names
    the pages of [B, Hkv, S, D]; the query stands at S - 1, and rows under `kv_lens` are seen.

    Raises:
        UserError: shapes, dtypes, devices or settings that do not fit.
        MachineError: a device that has no configuration.
    """
    features = Features(soft_cap=soft_cap, alibi_slopes=alibi_slopes, kv_lens=kv_lens, scale=scale)
    check(query, key, value, features)
    _check(query, block_table, page_size, splits)
    # bf16 is not the interpreter's: see `flash.flash_fwd`.
    widened = INTERPRETED and query.dtype is torch.bfloat16
    if widened:
        query, key, value = query.float(), key.float(), value.float()
    batch, head_dim = query.shape[0], query.shape[3]
    tokens = block_table.shape[1] * page_size
    if config is None:
        config = config_for(target_for(query), head_dim=head_dim, dtype=query.dtype, tokens=tokens)
    if splits is None:
        programs = batch * key.shape[1]
        splits = splits_for(
            programs=programs, tokens=tokens, processors=_processors(query),
            num_warps=config.num_warps,
        )  # fmt: skip
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    lse = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
    with on_device(query):
        for launch in launches_of(
            query, key, value, out, lse, block_table, features, config,
            page_size=page_size, splits=splits, in_place=in_place,
        ):  # fmt: skip
            launch.kernel[launch.grid](**launch.arguments, **launch.options)
    return (out.bfloat16() if widened else out), lse


def launches_of(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    block_table: Tensor,
    features: Features,
    config: Config,
    *,
    page_size: int,
    splits: int,
    in_place: bool = False,
) -> list[Launch]:
    """The splits' kernel and the joining; ahead-of-time compilation asks for them too."""
    batch, heads, _, head_dim = query.shape
    kv_heads, device = key.shape[1], query.device
    slots = (batch, heads, splits if splits > 1 else 0)
    parts = torch.empty(*slots, head_dim, dtype=torch.float32, device=device)
    part_lse = torch.empty(slots, dtype=torch.float32, device=device)
    arguments = {
        **kernel_arguments(query, key, lse, features, config),
        "Q": query, "K": key, "V": value, "O": out, "LSE": lse,
        "PARTS": parts, "PART_LSE": part_lse, "TABLE": block_table,
        **strides("q", query), **strides("k", key), **strides("v", value), **strides("o", out),
        "stride_table": block_table.stride(0), "SPLITS": splits, "PAGE": page_size,
        "pages": block_table.shape[1], "IN_PLACE": in_place,
    }  # fmt: skip
    packs = triton.cdiv(heads // kv_heads, config.block_m)
    made = [
        Launch(
            kernel=_paged_decode,
            grid=(batch * kv_heads * packs, splits),
            arguments={name: arguments[name] for name in _paged_decode.arg_names},
            options=compile_options(config),
        )
    ]
    if splits > 1:
        made.append(combine(parts, part_lse, out, lse, _one_position(splits, device)))
    return made


@functools.cache
def _one_position(splits: int, device: torch.device) -> Side:
    """The slots of the one query: as many as splits, in order."""
    none = torch.empty(0, dtype=torch.int32, device=device)
    order = torch.arange(splits, dtype=torch.int32, device=device)
    ends = torch.tensor([0, splits], dtype=torch.int32, device=device)
    return Side(none, none, none, splits, 1, order[:1], ends, order)


def _processors(query: Tensor) -> int:
    if not query.is_cuda:
        return 1
    return torch.cuda.get_device_properties(query.device).multi_processor_count


def _check(query: Tensor, table: Tensor, page_size: int, splits: int | None) -> None:
    if query.shape[2] != 1:
        raise UserError(f"query {list(query.shape)}: paged_decode takes one query a sequence")
    if page_size < 1:
        raise UserError(f"page_size: {page_size} is under 1")
    if splits is not None and splits < 1:
        raise UserError(f"splits: {splits} is under 1")
    if table.dim() != 2 or table.shape[0] != query.shape[0] or table.dtype is not torch.int32:
        raise UserError(
            f"block_table: {list(table.shape)} {table.dtype} is not [{query.shape[0]}, pages]"
            " of torch.int32"
        )
    if table.stride(1) != 1 or table.device != query.device:
        raise UserError("block_table: not of stride 1 along pages, or not on the query's device")
