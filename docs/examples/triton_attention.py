"""A Triton kernel of one's own in attnbench: exact attention, forward only.

attnbench verify --variant docs/examples/triton_attention.py:Tiled
attnbench sweep --variants flash --modes fwd --variant docs/examples/triton_attention.py:Tiled

On a GPU it is compiled and timed; where there is none, Triton's interpreter runs it:
checked, never timed.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def _tiled(Q, K, V, O, heads, group, seq_q, seq_kv, scale,
           CAUSAL: tl.constexpr, D: tl.constexpr, M: tl.constexpr, N: tl.constexpr):  # fmt: skip
    # O = softmax(scale · Q Kᵀ + mask) V, one program per M query rows of one head.
    # Q, O [B, H, T, D]; K, V [B, H / group, S, D]; all contiguous, D a power of two.
    # Running maximum and sum in fp32, after Milakov & Gimelshein 2018, arXiv:1805.02867.
    head = tl.program_id(1).to(tl.int64)
    kv_head = head // heads * (heads // group) + head % heads // group
    row = tl.program_id(0) * M + tl.arange(0, M)
    width = tl.arange(0, D)
    at_q = (head * seq_q + row[:, None]) * D + width[None, :]
    q = tl.load(Q + at_q, mask=row[:, None] < seq_q, other=0.0)
    top = tl.full([M], -1e30, tl.float32)
    total = tl.zeros([M], tl.float32)
    out = tl.zeros([M, D], tl.float32)
    for start in range(0, seq_kv, N):
        key = start + tl.arange(0, N)
        at_kv = (kv_head * seq_kv + key[:, None]) * D + width[None, :]
        k = tl.load(K + at_kv, mask=key[:, None] < seq_kv, other=0.0)
        v = tl.load(V + at_kv, mask=key[:, None] < seq_kv, other=0.0)
        seen = key[None, :] < seq_kv
        if CAUSAL:
            seen = seen & (key[None, :] <= row[:, None] + seq_kv - seq_q)
        score = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        score = tl.where(seen, score, float("-inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        weight = tl.exp(score - higher[:, None])
        fade = tl.exp(top - higher)
        total = total * fade + tl.sum(weight, 1)
        out = out * fade[:, None] + tl.dot(weight.to(v.dtype), v, input_precision="ieee")
        top = higher
    out = out / tl.where(total == 0, 1.0, total)[:, None]  # a row that sees nothing is 0
    tl.store(O + at_q, out.to(O.dtype.element_ty), mask=row[:, None] < seq_q)


class Tiled:
    """The kernel above as attnbench calls it; `computes` is flash unless said."""

    modes = ("fwd", "decode")  # no backward

    def supports(self, shape, mode, params, device_type):
        """Why it cannot run this problem, or None."""
        if shape.head_dim not in (16, 32, 64, 128, 256):
            return f"Tiled takes head_dim 16 to 256, powers of two; not {shape.head_dim}"
        if shape.dtype == "fp64":
            return "Tiled sums in fp32"
        return None

    def forward(self, query, key, value, shape):
        """Without `prepare` the fourth argument is the shape."""
        query, key, value = (x.contiguous() for x in (query, key, value))
        out = torch.empty_like(query)
        grid = (triton.cdiv(shape.seq_q, 64), shape.batch * shape.heads)
        _tiled[grid](
            query, key, value, out, shape.heads, shape.group, shape.seq_q, shape.seq_kv,
            shape.head_dim**-0.5, CAUSAL=shape.causal, D=shape.head_dim, M=64, N=64,
        )  # fmt: skip
        return out
