"""Linformer's projections are weights to learn: gradients reach them."""

import pytest
import torch

from attnbench.spec.attention import AttentionShape
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant
from attnbench.variants._settings import settings_of

SHAPE = AttentionShape(
    batch=2, heads=4, kv_heads=2, seq_q=37, seq_kv=53, head_dim=16, causal=False, dtype=Dtype.FP64
)


@pytest.mark.parametrize("shared", [False, True])
def test_gradients_reach_the_projections(shared: bool) -> None:
    variant = load_variant("linformer")
    params = settings_of(variant, {"rank": 8, "shared": shared})
    generator = torch.Generator().manual_seed(0)

    def draw(heads: int, tokens: int) -> torch.Tensor:
        return torch.randn(2, heads, tokens, 16, generator=generator, dtype=torch.float64)

    q, k, v = draw(4, 37), draw(2, 53), draw(2, 53)
    backend = variant.backends[0]
    learned = {
        name: torch.randn(x.shape, generator=generator, dtype=torch.float64).requires_grad_()
        for name, x in variant.learned(SHAPE, params).items()
    }
    assert len(learned) == (1 if shared else 2)
    assert backend.learn is not None
    out = backend.forward(q, k, v, backend.learn(backend.prepare(SHAPE, params, "cpu"), learned))
    e, f = learned["e"], learned["e" if shared else "f"]
    # Wang et al. 2020, equation 7, written out.
    heads = [
        torch.softmax(q[:, h] @ (e @ k[:, h // 2]).transpose(1, 2) / 4.0, -1) @ (f @ v[:, h // 2])
        for h in range(4)
    ]
    wanted = torch.stack(heads, 1)
    upward = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    leaves = list(learned.values())
    ours = torch.autograd.grad(out, leaves, upward)
    theirs = torch.autograd.grad(wanted, leaves, upward)
    for a, b in zip(ours, theirs, strict=True):
        assert float(b.norm()) > 1
        assert float((a - b).norm()) < 1e-13 * float(b.norm())
