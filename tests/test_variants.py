"""Every variant and backend against float64: outputs, gradients, leakage, unwritten memory.

Tolerance: the error of the plain formula in the same precision, twice, and one rounding.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor
from torch.nn.functional import elu

from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant, variant_names
from attnbench.variants._protocol import Backend, Variant
from attnbench.variants._reference import pattern_reference
from attnbench.variants._support import torch_dtype
from attnbench.variants.linformer import draw_projections
from attnbench.variants.performer import draw_features, log_features

# One row a variant: settings to test beside its defaults.
SETTINGS: dict[str, list[dict[str, int | bool]]] = {
    "naive": [],
    "flash": [],
    "sliding_window": [
        {"window": 5},
        {"window": 30, "sink": 4},
        {"window": 9, "dilation": 3, "sink": 5},
    ],
    "strided": [{"window": 20, "stride": 7}, {"window": 1, "stride": 1}],
    "longformer": [{"window": 50}, {"window": 7, "global_tokens": 40}],
    "bigbird": [{"block": 8}, {"block": 16, "seed": 3}],
    "performer": [{"features": 40, "seed": 1}],
    "linformer": [{"rank": 16, "shared": True}],
    "linear": [],
    "paged_decode": [{"page_size": 8, "splits": 3, "seed": 2}, {"page_size": 1000}],
}

LENGTHS = [(1, 1), (17, 17), (127, 127), (1000, 1000), (60, 333), (333, 60), (1, 500)]
SHAPE = AttentionShape(
    batch=2, heads=4, kv_heads=2, seq_q=127, seq_kv=127, head_dim=16, causal=True,
    dtype=Dtype.FP32,
)  # fmt: skip


def test_every_variant_has_its_row() -> None:
    assert sorted(SETTINGS) == list(variant_names())


def backends() -> Iterator[Any]:
    for name in variant_names():
        for backend in load_variant(name).backends:
            if backend.name == "flex":
                continue  # compiles for seconds a shape: tests/test_flex.py
            yield pytest.param(load_variant(name), backend, id=f"{name}-{backend.name}")


each_backend = pytest.mark.parametrize(("variant", "backend"), list(backends()))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small problems: a second thread costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shapes(
    variant: Variant, backend: Backend, base: AttentionShape = SHAPE, *, most: int = 1000
) -> Iterator[AttentionShape]:
    """Odd lengths, crossed lengths and each causal form that the variant has."""
    if "cpu" in backend.interpreted_on:  # slow, and proven in the kernel's own tests
        most = 17
        base = msgspec.structs.replace(base, batch=1, head_dim=max(16, base.head_dim))
    for (seq_q, seq_kv), causal in itertools.product(LENGTHS, sorted(variant.causal_forms)):
        if max(seq_q, seq_kv) > most:
            continue
        seq_q = 1 if variant.modes == {Mode.DECODE} else seq_q
        yield msgspec.structs.replace(base, seq_q=seq_q, seq_kv=seq_kv, causal=causal)


def draw(shape: AttentionShape, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def one(heads: int, tokens: int) -> Tensor:
        drawn = torch.randn(shape.batch, heads, tokens, shape.head_dim, generator=generator)
        return drawn.to(torch_dtype(shape.dtype))

    kv = (shape.kv_heads, shape.seq_kv)
    return one(shape.heads, shape.seq_q), one(*kv), one(*kv)


def skip_unless_it_runs(
    variant: Variant, backend: Backend, shape: AttentionShape, mode: Mode | None = None
) -> Any:
    params = variant.resolve(shape, variant.defaults)
    mode = mode or (Mode.FWD if Mode.FWD in variant.modes else Mode.DECODE)
    if mode not in variant.modes:
        pytest.skip(f"{mode} is not among its modes")
    reason = backend.supports(shape, mode, params, "cpu")
    if reason is not None:
        pytest.skip(reason)
    return params


def reference(variant: Variant, inputs: Any, shape: AttentionShape, params: Any) -> Tensor:
    if variant.pattern is not None:
        return pattern_reference(*inputs, variant.pattern(shape, params))
    assert variant.reference is not None
    return variant.reference(*inputs, shape, params)


def error(value: Tensor, wanted: Tensor) -> float:
    norm = float(wanted.detach().norm())
    gap = float((value.detach().double() - wanted.detach()).norm())
    return gap / norm if norm else gap


def limit(variant: Variant, shape: AttentionShape, params: Any) -> float:
    """Twice the error of the plain formula in this precision, and one rounding.

    Attention through features first sums over features, in fp32, where the plain
    formula has a single weight: √features roundings of fp32 more.
    """
    q, k, v = draw(msgspec.structs.replace(shape, seq_q=max(shape.seq_q, shape.seq_kv)))
    k, v = (x.repeat_interleave(shape.group, 1) for x in (k, v))
    plain = {"linear": plain_linear, "performer": plain_performer, "linformer": plain_linformer}
    formula = plain.get(variant.name, plain_attention)
    exact = formula(q.double(), k.double(), v.double(), shape, params)
    rounding = torch.finfo(q.dtype).eps
    if formula in (plain_linear, plain_performer):
        rounding += params.get("features", shape.head_dim) ** 0.5 * torch.finfo(torch.float32).eps
    return 2 * error(formula(q, k, v, shape, params), exact) + rounding


def hidden_in(weights: Tensor, shape: AttentionShape) -> Tensor:
    later = torch.ones(weights.shape[-2:], dtype=torch.bool).triu(1)
    return later & shape.causal


def plain_attention(q: Tensor, k: Tensor, v: Tensor, shape: AttentionShape, _: Any) -> Tensor:
    scores = q @ k.transpose(-1, -2) / shape.head_dim**0.5
    return torch.softmax(scores.masked_fill(hidden_in(scores, shape), -torch.inf), -1) @ v


def plain_linear(q: Tensor, k: Tensor, v: Tensor, shape: AttentionShape, _: Any) -> Tensor:
    weights = (elu(q) + 1) @ (elu(k) + 1).transpose(-1, -2)
    weights = weights.masked_fill(hidden_in(weights, shape), 0)
    return weights / weights.sum(-1, keepdim=True) @ v


def plain_performer(q: Tensor, k: Tensor, v: Tensor, shape: AttentionShape, params: Any) -> Tensor:
    omega = draw_features(params["features"], shape.head_dim, params["seed"]).to(q.dtype)
    logs = (log_features(x, omega) for x in (q, k))  # without a maximum fp16 overflows
    phi_q, phi_k = ((x - x.amax((-1, -2), keepdim=True)).exp() for x in logs)
    weights = phi_q @ phi_k.transpose(-1, -2)
    weights = weights.masked_fill(hidden_in(weights, shape), 0)
    return weights / weights.sum(-1, keepdim=True) @ v


def plain_linformer(q: Tensor, k: Tensor, v: Tensor, shape: AttentionShape, params: Any) -> Tensor:
    e, f = (x.to(q.dtype) for x in draw_projections(shape, params))
    scores = q @ (e @ k).transpose(-1, -2) / shape.head_dim**0.5
    return torch.softmax(scores, -1) @ (f @ v)


@each_backend
def test_double_precision_is_the_reference(variant: Variant, backend: Backend) -> None:
    for shape in shapes(variant, backend, msgspec.structs.replace(SHAPE, dtype=Dtype.FP64)):
        skip_unless_it_runs(variant, backend, shape)
        for settings in [{}, *SETTINGS[variant.name]]:
            params = variant.resolve(shape, {**variant.defaults, **settings})
            inputs = draw(shape)
            out = backend.forward(*inputs, backend.prepare(shape, params, "cpu"))
            assert out.shape == inputs[0].shape
            assert out.dtype == torch.float64
            # Sums of under 1,100 terms of order 1: within 1,100 roundings.
            assert error(out, reference(variant, inputs, shape, params)) < 1100 * 2.3e-16, shape


@each_backend
@pytest.mark.parametrize("dtype", [Dtype.FP32, Dtype.BF16, Dtype.FP16])
def test_error_is_that_of_plain_attention(variant: Variant, backend: Backend, dtype: Dtype) -> None:
    for shape in shapes(variant, backend, msgspec.structs.replace(SHAPE, dtype=dtype, head_dim=64)):
        params = skip_unless_it_runs(variant, backend, shape)
        inputs = draw(shape)
        out = backend.forward(*inputs, backend.prepare(shape, params, "cpu"))
        assert out.dtype == inputs[0].dtype
        assert error(out, reference(variant, inputs, shape, params)) <= limit(
            variant, shape, params
        ), shape


@each_backend
def test_gradients_are_those_of_the_reference(variant: Variant, backend: Backend) -> None:
    wide = msgspec.structs.replace(SHAPE, dtype=Dtype.FP64, batch=1)
    for shape in shapes(variant, backend, wide, most=333):
        skip_unless_it_runs(variant, backend, shape, Mode.BWD)
        for settings in [{}, *SETTINGS[variant.name]]:
            params = variant.resolve(shape, {**variant.defaults, **settings})
            inputs = tuple(x.requires_grad_() for x in draw(shape))
            upward = draw(shape, seed=1)[0]
            out = backend.forward(*inputs, backend.prepare(shape, params, "cpu"))
            wanted = reference(variant, inputs, shape, params)
            ours = torch.autograd.grad(out, inputs, upward)
            theirs = torch.autograd.grad(wanted, inputs, upward)
            for a, b in zip(ours, theirs, strict=True):
                assert float((a - b).norm()) <= 1e-12 * (1 + float(b.norm())), (shape, params)


@each_backend
@pytest.mark.parametrize("dtype", [Dtype.FP32, Dtype.BF16])
def test_gradients_in_low_precision_are_near(
    variant: Variant, backend: Backend, dtype: Dtype
) -> None:
    causal = True in variant.causal_forms
    shape = msgspec.structs.replace(SHAPE, dtype=dtype, causal=causal)
    params = skip_unless_it_runs(variant, backend, shape, Mode.BWD)
    inputs = tuple(x.requires_grad_() for x in draw(shape))
    upward = draw(shape, seed=1)[0]
    out = backend.forward(*inputs, backend.prepare(shape, params, "cpu"))
    wide = tuple(x.detach().double().requires_grad_() for x in inputs)
    exact = torch.autograd.grad(reference(variant, wide, shape, params), wide, upward.double())
    # A gradient is a chain of four products where the output is one of two.
    for ours, theirs in zip(torch.autograd.grad(out, inputs, upward), exact, strict=True):
        assert error(ours, theirs) <= 4 * limit(variant, shape, params)


@each_backend
@pytest.mark.parametrize("seq_kv", [300, 700])
def test_no_row_sees_a_later_token(variant: Variant, backend: Backend, seq_kv: int) -> None:
    if variant.modes == {Mode.DECODE} or True not in variant.causal_forms:
        pytest.skip("nothing is later")
    if "cpu" in backend.interpreted_on:
        pytest.skip("slow; in the kernel's own tests")
    shape = msgspec.structs.replace(SHAPE, seq_q=300, seq_kv=seq_kv)
    params = skip_unless_it_runs(variant, backend, shape)
    query, key, value = draw(shape)
    state = backend.prepare(shape, params, "cpu")
    before = backend.forward(query, key, value, state)
    for row in (0, 63, 64, 150, 298):
        later = row + shape.offset + 1
        other_key, other_value = key.clone(), value.clone()
        other_key[:, :, later:] = 7.0
        other_value[:, :, later:] = -1e4
        after = backend.forward(query, other_key, other_value, state)
        assert torch.equal(before[:, :, : row + 1], after[:, :, : row + 1])
        assert not torch.equal(before[:, :, row + 1 :], after[:, :, row + 1 :])


@each_backend
def test_every_element_is_written(variant: Variant, backend: Backend) -> None:
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        for shape in shapes(variant, backend):
            params = skip_unless_it_runs(variant, backend, shape)
            out = backend.forward(*draw(shape), backend.prepare(shape, params, "cpu"))
            assert bool(out.isfinite().all()), shape
    finally:
        torch.use_deterministic_algorithms(False)


@each_backend
def test_a_second_run_gives_the_same(variant: Variant, backend: Backend) -> None:
    causal = True in variant.causal_forms
    seq_q = 1 if variant.modes == {Mode.DECODE} else 333
    shape = msgspec.structs.replace(SHAPE, seq_q=seq_q, seq_kv=333, causal=causal)
    params = skip_unless_it_runs(variant, backend, shape)
    runs = [backend.forward(*draw(shape), backend.prepare(shape, params, "cpu")) for _ in "12"]
    assert torch.equal(*runs)


@each_backend
def test_rows_that_see_nothing_are_zero(variant: Variant, backend: Backend) -> None:
    if variant.modes == {Mode.DECODE} or True not in variant.causal_forms:
        pytest.skip("every row sees something")
    shape = msgspec.structs.replace(SHAPE, seq_q=60, seq_kv=20)
    params = skip_unless_it_runs(variant, backend, shape)
    out = backend.forward(*draw(shape), backend.prepare(shape, params, "cpu"))
    assert not bool(out[:, :, :40].any())
    assert bool(out[:, :, 40:].any(-1).all())


@each_backend
def test_what_it_cannot_run_it_says(variant: Variant, backend: Backend) -> None:
    shape = msgspec.structs.replace(SHAPE, dtype=Dtype.INT8)
    params = variant.resolve(shape, variant.defaults)
    for mode in Mode:
        reason = backend.supports(shape, mode, params, "cpu")
        assert reason
        assert "\n" not in reason


@each_backend
def test_costs_and_workspace_are_said_for_every_mode(variant: Variant, backend: Backend) -> None:
    for shape, mode in itertools.product(shapes(variant, backend), sorted(variant.modes)):
        params = variant.resolve(shape, variant.defaults)
        cost = variant.cost(shape, mode, params)
        assert cost.bytes_min > 0
        assert 0 < cost.pairs <= shape.batch * shape.heads * shape.seq_q * shape.seq_kv
        assert cost.flops > 0
        assert backend.workspace_bytes(shape, mode, params) > 0
