"""Torch's scaled_dot_product_attention, each of its own kernels by name."""

import math
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

from attnbench.spec.attention import AttentionShape

_KERNELS = {
    "sdpa.flash": SDPBackend.FLASH_ATTENTION,
    "sdpa.efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa.cudnn": SDPBackend.CUDNN_ATTENTION,
}


class SdpaState(NamedTuple):
    """How to call torch: the kernel (None: torch's choice), and the causal form.

    `blind`: query rows that see nothing. `mask`: for seq_q < seq_kv, where torch's
    `is_causal` (top-left) is not the bottom-right alignment.
    """

    kernel: SDPBackend | None
    causal: bool
    blind: int
    mask: Tensor | None


def prepare(shape: AttentionShape, device: str, name: str) -> SdpaState:
    """The state for `shape`: a mask is made only where torch has no flag for it."""
    kernel = _KERNELS.get(name)
    if not shape.causal or (shape.seq_q == 1 and shape.seq_kv >= 1):
        return SdpaState(kernel, False, 0, None)
    if shape.seq_q >= shape.seq_kv:  # the rows that see something make a square
        return SdpaState(kernel, True, shape.seq_q - shape.seq_kv, None)
    if torch.device(device).type == "cuda":
        return SdpaState(kernel, False, 0, causal_lower_right(shape.seq_q, shape.seq_kv))
    rows = torch.arange(shape.offset, shape.seq_kv, device=device)
    mask = torch.arange(shape.seq_kv, device=device)[None, :] <= rows[:, None]
    return SdpaState(kernel, False, 0, mask)


class PaddedState(NamedTuple):
    """A padded batch, one sequence after another, so that no key is read in vain.

    Each sequence: the keys it has; the rows up to its last key, and how to call torch for
    them (None: there are none); the rows after it see every key it has.
    """

    sequences: "tuple[tuple[int, int, SdpaState | None], ...]"
    after: SdpaState


def prepare_batch(
    shape: AttentionShape, device: str, name: str, lens: tuple[int, ...] | None
) -> SdpaState | PaddedState:
    """The state for `shape`, of whose keys each sequence has `lens` (None: all)."""
    if lens is None:
        return prepare(shape, device, name)
    sequences = []
    for length in lens:
        rows = min(shape.seq_q, max(0, length - shape.offset)) if shape.causal else shape.seq_q
        state = None
        if rows:
            at = msgspec.structs.replace(shape, seq_q=rows, seq_kv=length)
            state = prepare(at, device, name)
        sequences.append((length, rows, state))
    return PaddedState(tuple(sequences), SdpaState(_KERNELS.get(name), False, 0, None))


def forward_batch(
    query: Tensor, key: Tensor, value: Tensor, state: SdpaState | PaddedState
) -> Tensor:
    """Exact attention by torch: [batch, heads, seq_q, head_dim]."""
    if isinstance(state, SdpaState):
        return forward(query, key, value, state)
    outputs = []
    for i, (length, rows, alone) in enumerate(state.sequences):
        q, k, v = query[i : i + 1], key[i : i + 1, :, :length], value[i : i + 1, :, :length]
        parts = [] if alone is None else [forward(q[:, :, :rows], k, v, alone)]
        if rows < query.shape[2]:
            parts.append(forward(q[:, :, rows:], k, v, state.after))
        outputs.append(torch.cat(parts, 2))
    return torch.cat(outputs, 0)


def forward(query: Tensor, key: Tensor, value: Tensor, state: SdpaState) -> Tensor:
    """Exact attention by torch: [batch, heads, seq_q, head_dim]."""
    if state.kernel is None:
        return _attend(query, key, value, state)
    with sdpa_kernel(state.kernel):
        return _attend(query, key, value, state)


def _attend(query: Tensor, key: Tensor, value: Tensor, state: SdpaState) -> Tensor:
    out = torch.nn.functional.scaled_dot_product_attention(
        query[:, :, state.blind :],
        key,
        value,
        attn_mask=state.mask,
        is_causal=state.causal,
        scale=1 / math.sqrt(query.shape[3]),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    if not state.blind:
        return out
    return torch.cat([torch.zeros_like(query[:, :, : state.blind]), out], 2)
