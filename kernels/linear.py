"""Linear attention by our own kernels: checks, workspace, launches. Forward only."""

import math
from typing import Any

import torch
import triton
from torch import Tensor

from attnbench.errors import UserError

from ._features import INTERPRETED, Features, check, strides
from ._launch import Launch
from .flash import on_device, target_for
from .linear_chunks import _chunk_states, _outputs, _prefix, _prefix_tops, _random_features
from .linear_configs import LinearConfig, config_for


def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool,
    omega: Tensor | None = None,
    kv_lens: Tensor | None = None,
    config: LinearConfig | None = None,
) -> Tensor:
    """Normalised φ(Q)(φ(K)ᵀV): [B, H, T, D], in the inputs' dtype.

    `query` is [B, H, T, D]; `key` and `value` are [B, Hkv, S, D], of one dtype (fp16, bf16,
    fp32) and any strides. φ is elu + 1, or with `omega` [F, D] (fp32: directions over D^¼)
    the positive random features of Performer. Causal is aligned bottom-right; `kv_lens` [B]
    (int32) hides each sequence's keys from that one on; a row that sees nothing gives 0.

    Raises:
        UserError: shapes, dtypes, devices or settings that do not fit.
        MachineError: a device that has no configuration.
    """
    check(query, key, value, Features(causal=causal, kv_lens=kv_lens))
    head_dim = query.shape[3]
    if omega is not None and (
        omega.dim() != 2 or omega.shape[1] != head_dim or omega.dtype is not torch.float32
        or omega.device != query.device
    ):  # fmt: skip
        raise UserError(
            f"omega: {list(omega.shape)} {omega.dtype} on {omega.device} is not"
            f" [features, {head_dim}] of torch.float32 on {query.device}"
        )
    # bf16 is not the interpreter's: see `flash.flash_fwd`.
    widened = INTERPRETED and query.dtype is torch.bfloat16
    if widened:
        query, key, value = query.float(), key.float(), value.float()
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    if config is None:
        config = config_for(
            target_for(query), head_dim=head_dim, dtype=query.dtype, tokens=key.shape[2],
            features=head_dim if omega is None else omega.shape[0],
        )  # fmt: skip
    with on_device(query):
        for launch in launches_of(
            query, key, value, out, causal=causal, omega=omega, kv_lens=kv_lens, config=config
        ).values():
            launch.kernel[launch.grid](**launch.arguments, **launch.options)
    return out.bfloat16() if widened else out


def launches_of(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    *,
    causal: bool,
    omega: Tensor | None,
    kv_lens: Tensor | None,
    config: LinearConfig,
) -> dict[str, Launch]:
    """The launches in order, by the kernel's name; ahead-of-time compilation asks for them too."""
    batch, heads, seq_q, head_dim = query.shape
    kv_heads, seq_kv = key.shape[1], key.shape[2]
    features = head_dim if omega is None else omega.shape[0]
    chunk = config.block_c
    chunks = triton.cdiv(seq_kv, chunk)
    offset = seq_kv - seq_q if causal else 0
    first_tile = offset // chunk
    tiles = (offset + seq_q - 1) // chunk - first_tile + 1

    def room(*sizes: int) -> Tensor:
        return torch.empty(*sizes, dtype=torch.float32, device=query.device)

    states = room(batch, kv_heads, chunks + 1, features, head_dim)
    sums = room(batch, kv_heads, chunks + 1, features)
    random = omega is not None
    # An unused pointer must still be one.
    tops = room(batch, kv_heads, chunks + 1) if random else sums
    phi_q, phi = (
        torch.empty(*t.shape[:3], features, dtype=t.dtype, device=t.device) if random else sums
        for t in (query, key)
    )
    scale_q, scale = (room(*t.shape[:3]) if random else sums for t in (query, key))
    shared: dict[str, Any] = {
        "Q": query, "K": key, "V": value, "O": out, "OMEGA": sums if omega is None else omega,
        "PHI_Q": phi_q, "PHI": phi, "SCALE": scale, "STATES": states, "SUMS": sums, "TOPS": tops,
        "KV_LENS": sums if kv_lens is None else kv_lens,
        **strides("q", query), **strides("k", key), **strides("v", value), **strides("o", out),
        "heads": heads, "kv_heads": kv_heads, "group": heads // kv_heads, "chunks": chunks,
        "tiles": tiles, "first_tile": first_tile, "offset": offset, "seq_q": seq_q,
        "seq_kv": seq_kv, "features": features, "head_dim": head_dim,
        "half_root": 0.5 / math.sqrt(head_dim),
        "RANDOM": random, "CAUSAL": causal, "LENS": kv_lens is not None,
        "BLOCK_C": chunk, "BLOCK_M": chunk, "BLOCK_F": config.block_f,
        "BLOCK_D": max(16, triton.next_power_of_2(head_dim)),
        "NARROW": bool(config.narrow) and query.dtype is torch.bfloat16,
        "PRECISION": "ieee" if query.dtype is torch.float32 else "tf32",
    }  # fmt: skip

    def made(kernel: Any, programs: int, **others: Any) -> Launch:
        given = shared | others
        return Launch(
            kernel=kernel,
            grid=(programs,),
            arguments={name: given[name] for name in kernel.arg_names},
            options={
                "num_warps": config.num_warps,
                "num_stages": config.num_stages,
                "enable_fp_fusion": True,
            },
        )

    kv_programs = batch * kv_heads
    launches = {}
    if random:
        rows: dict[str, Any] = {"BLOCK_F": config.state_f, "tokens": seq_q}
        rows |= {"X": query, "PHI": phi_q, "SCALE": scale_q}
        programs = batch * heads * triton.cdiv(seq_q, chunk)
        launches["_random_features of Q"] = made(
            _random_features, programs, **rows, **strides("x", query)
        )
        rows |= {"X": key, "PHI": phi, "SCALE": scale, "heads": kv_heads, "tokens": seq_kv}
        programs = kv_programs * chunks
        launches["_random_features"] = made(_random_features, programs, **rows, **strides("x", key))
    launches["_chunk_states"] = made(_chunk_states, kv_programs * chunks, BLOCK_F=config.state_f)
    few = min(config.block_f, 16)  # the chunks are walked in turn: many programs
    programs = kv_programs * triton.cdiv(features, few)
    launches["_prefix"] = made(_prefix, programs, BLOCK_F=few)
    if random and causal:
        launches["_prefix_tops"] = made(_prefix_tops, kv_programs)
    launches["_outputs"] = made(_outputs, batch * heads * tiles)
    return launches
