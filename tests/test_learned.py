"""What a model learns beside query, key and value: sinks' logits, Linformer's projections.

A backend given tensors of one's own computes with them, and their gradients are those of
float64 autograd; the sinks' also those of the formula, written out.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant, variant_names
from attnbench.variants._protocol import Backend, Variant
from attnbench.variants._reference import variant_reference
from attnbench.variants._settings import settings_of
from attnbench.variants._support import torch_dtype

SMALL: dict[str, dict[str, Any]] = {
    "sliding_window": {"window": 9, "sink": 2},
    "strided": {"window": 6, "stride": 5},
    "longformer": {"window": 8, "global_tokens": 3},
    "bigbird": {"block": 4},
}
SHAPE = AttentionShape(
    batch=2, heads=4, kv_heads=2, seq_q=57, seq_kv=57, head_dim=16, causal=True, dtype=Dtype.FP64
)
WITH: list[dict[str, Any]] = [
    {},
    {"alibi": True, "soft_cap": 2.0, "padding": 0.4, "rope_theta": 500.0},
    {"varlen": 3},
]
LENGTHS = [(57, 57), (20, 57), (57, 20)]


def cases() -> Iterator[Any]:
    for name in variant_names():
        variant = load_variant(name)
        for backend in variant.backends:
            takes = "sink_logit" in variant.features and Mode.BWD in variant.modes
            if takes and backend.name in ("eager", "triton"):
                yield pytest.param(variant, backend, id=f"{name}-{backend.name}")


each_backend = pytest.mark.parametrize(("variant", "backend"), list(cases()))


def draw(shape: AttentionShape) -> list[Tensor]:
    """Query, key, value, gradient of the output, and the sinks' logits, which stay wide."""
    generator = torch.Generator().manual_seed(0)
    row, column = (shape.heads, shape.seq_q), (shape.kv_heads, shape.seq_kv)
    tensors = [
        torch.randn(shape.batch, *size, shape.head_dim, generator=generator).to(
            torch_dtype(shape.dtype)
        )
        for size in (row, column, column, row)
    ]
    wide = torch.float64 if shape.dtype is Dtype.FP64 else torch.float32
    return [*tensors, torch.randn(shape.heads, generator=generator).to(wide)]


def gradients(
    backend: Backend, shape: AttentionShape, params: Any, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The output, and the gradient of the sinks' logits."""
    assert backend.learn is not None
    query, key, value, upward, sinks = draw(shape)
    sinks.requires_grad_()
    state = backend.learn(backend.prepare(shape, params, device), {"sink_logit": sinks})
    out = backend.forward(query, key, value, state)
    return out.detach(), torch.autograd.grad(out, sinks, upward)[0]


def exactly(variant: Variant, shape: AttentionShape, params: Any) -> tuple[Tensor, Tensor]:
    """The same by autograd through the float64 reference."""
    query, key, value, upward, sinks = (x.double() for x in draw(shape))
    sinks.requires_grad_()
    learned = {"sink_logit": sinks}
    out = variant_reference(variant, query, key, value, shape, params, learned=learned)
    return out.detach(), torch.autograd.grad(out, sinks, upward)[0]


@each_backend
@pytest.mark.parametrize("given", WITH, ids=lambda given: "-".join(given) or "alone")
def test_the_sinks_gradient_is_that_of_float64(
    variant: Variant, backend: Backend, given: dict[str, Any]
) -> None:
    interpreted = "cpu" in backend.interpreted_on
    base = SHAPE
    lengths = LENGTHS
    if interpreted:  # slow: 32 bits, and few programs
        batch = 1 + ("padding" in given)
        base = msgspec.structs.replace(base, dtype=Dtype.FP32, batch=batch, heads=2, kv_heads=1)
        lengths = LENGTHS[:1] if given else LENGTHS[1:]
    for seq_q, seq_kv in lengths:
        shape = msgspec.structs.replace(base, seq_q=seq_q, seq_kv=seq_kv)
        own = {**SMALL.get(variant.name, {}), **given, "sink_logit": True}
        params = variant.resolve(shape, settings_of(variant, own))
        reason = backend.supports(shape, Mode.BWD, params, "cpu")
        assert reason is None, reason
        (out, ours), (wanted, theirs) = (
            gradients(backend, shape, params), exactly(variant, shape, params)
        )  # fmt: skip
        # A sum over all rows of products of 16 terms of order 1.
        limit = 4e-6 if interpreted else 1e-13
        assert float(theirs.norm()) > 1e-2
        assert float((out - wanted).norm()) <= limit * float(wanted.norm())
        assert float((ours - theirs).norm()) <= limit * (1 + float(theirs.norm()))


@pytest.mark.parametrize("name", ["naive", "sliding_window", "strided"])
def test_in_bf16_it_is_as_near_as_a_product_of_rounded_terms(name: str) -> None:
    variant = load_variant(name)
    shape = msgspec.structs.replace(SHAPE, dtype=Dtype.BF16, seq_q=200, seq_kv=200)
    params = settings_of(variant, {**SMALL.get(name, {}), "sink_logit": True})
    _, ours = gradients(variant.backends[0], shape, params)
    _, theirs = exactly(variant, shape, params)
    # Output, its gradient and each weight are rounded: three roundings of 2⁻⁸, relative to
    # terms that in their sum over rows partly cancel.
    assert float((ours - theirs).norm()) <= 4 * 3 * 2.0**-8 * float(theirs.norm())


def test_the_gradient_is_what_its_formula_says() -> None:
    """dS = −Σ over sequences and rows of p_sink · (dO · O), p_sink the sink's own weight."""
    variant = load_variant("flash")
    params = settings_of(variant, {"sink_logit": True})
    out, found = exactly(variant, SHAPE, params)
    query, key, _, upward, sinks = (x.double() for x in draw(SHAPE))
    scores = query @ key.repeat_interleave(2, 1).transpose(-1, -2) / 4.0
    scores = scores.masked_fill(torch.ones(57, 57, dtype=torch.bool).triu(1), -torch.inf)
    lse = torch.logsumexp(torch.cat([scores, sinks.view(4, 1, 1).expand(2, 4, 57, 1)], -1), -1)
    weight = (sinks[:, None] - lse).exp()
    by_formula = -(weight * (upward * out).sum(-1)).sum((0, 2))
    assert float((found - by_formula).norm()) < 1e-13 * float(found.norm())


def test_what_is_learned_is_named_with_its_shape() -> None:
    shape = msgspec.structs.replace(SHAPE, causal=False)
    for name in variant_names():
        variant = load_variant(name)
        assert variant.learned(shape, settings_of(variant, {})) == {} or name == "linformer"
        if "sink_logit" not in variant.features:
            continue
        learned = variant.learned(shape, settings_of(variant, {"sink_logit": True}))
        assert {key: list(x.shape) for key, x in learned.items()} == {"sink_logit": [4]}
        # Its own values change nothing.
        backend = next(b for b in variant.backends if b.name in ("eager", "triton"))
        assert backend.learn is not None
    linformer = load_variant("linformer")
    for shared, names in ((False, {"e", "f"}), (True, {"e"})):
        learned = linformer.learned(shape, settings_of(linformer, {"rank": 8, "shared": shared}))
        assert {n: list(x.shape) for n, x in learned.items()} == {n: [8, 57] for n in names}


@pytest.mark.parametrize("name", ["naive", "longformer", "paged_decode"])
def test_at_its_own_values_nothing_changes(name: str) -> None:
    variant = load_variant(name)
    decode = variant.modes == {Mode.DECODE}
    shape = msgspec.structs.replace(SHAPE, seq_q=1 if decode else 57)
    params = settings_of(variant, {**SMALL.get(name, {}), "sink_logit": True})
    query, key, value, _, _ = draw(shape)
    backend = variant.backends[0]
    state = backend.prepare(shape, params, "cpu")
    assert backend.learn is not None
    before = backend.forward(query, key, value, state)
    same = backend.learn(state, variant.learned(shape, params))
    assert torch.equal(backend.forward(query, key, value, same), before)
    other = backend.learn(state, {"sink_logit": torch.full((4,), 3.0, dtype=torch.float64)})
    assert not torch.equal(backend.forward(query, key, value, other), before)
