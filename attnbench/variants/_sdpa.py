"""Torch's scaled_dot_product_attention, each of its own kernels by name."""

import math
from typing import NamedTuple

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
