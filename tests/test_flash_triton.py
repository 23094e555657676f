"""The `triton` backend of the variants: what it supports, and that it is attention."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from attnbench.spec.attention import AttentionShape, Mode  # noqa: E402
from attnbench.spec.dtype import Dtype  # noqa: E402
from attnbench.variants import load_variant  # noqa: E402
from attnbench.variants._flash_triton import INTERPRETED_SCORES  # noqa: E402
from attnbench.variants._protocol import Backend  # noqa: E402
from attnbench.variants._reference import pattern_reference  # noqa: E402


def triton_of(variant: str) -> Backend:
    return next(b for b in load_variant(variant).backends if b.name == "triton")


BACKEND = triton_of("flash")


def shape(**changes: object) -> AttentionShape:
    sizes = {
        "batch": 1, "heads": 2, "kv_heads": 1, "seq_q": 100, "seq_kv": 100,
        "head_dim": 64, "causal": True, "dtype": Dtype.FP32,
    }  # fmt: skip
    return AttentionShape(**(sizes | changes))  # type: ignore[arg-type]


def test_name_and_where_it_is_interpreted() -> None:
    assert BACKEND.name == "triton"
    assert BACKEND.interpreted_on == {"cpu"}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [Dtype.FP32, Dtype.FP16, Dtype.BF16])
@pytest.mark.parametrize(("seq_q", "mode"), [(100, Mode.FWD), (1, Mode.DECODE)])
def test_output_is_attention(seq_q: int, mode: Mode, dtype: Dtype, causal: bool) -> None:
    at = shape(seq_q=seq_q, causal=causal, dtype=dtype)
    assert BACKEND.supports(at, mode, {}, "cpu") is None
    torch_dtype = {Dtype.FP32: torch.float32, Dtype.FP16: torch.float16}.get(dtype, torch.bfloat16)
    query = torch.randn(1, 2, seq_q, 64).to(torch_dtype)
    key, value = (torch.randn(1, 1, 100, 64).to(torch_dtype) for _ in range(2))
    out = BACKEND.forward(query, key, value, BACKEND.prepare(at, {}, "cpu"))
    mask = torch.ones(seq_q, 100, dtype=torch.bool)
    exact = torch.nn.functional.scaled_dot_product_attention(
        query.double(), key.double(), value.double(),
        attn_mask=mask.tril(100 - seq_q) if causal else mask, enable_gqa=True,
    )  # fmt: skip
    # Rounding of P and of the output: each at most eps/2 of values that are at most |V|'s.
    limit = torch.finfo(torch_dtype).eps * value.abs().max().item()
    assert (out.double() - exact).abs().max() <= max(limit, 4e-6)


@pytest.mark.parametrize(
    ("changes", "mode", "device", "says"),
    [
        ({"seq_q": 8192, "seq_kv": 8192}, Mode.BWD, "cpu", "take minutes"),
        ({"dtype": Dtype.FP8_E4M3}, Mode.FWD, "cpu", "not fp8_e4m3"),
        ({"head_dim": 320}, Mode.FWD, "cpu", "not 320"),
        ({"seq_q": 32768, "seq_kv": 32768}, Mode.FWD, "cpu", "take minutes"),
        ({}, Mode.FWD, "mps", "no backend for mps"),
    ],
)
def test_reasons(changes: dict[str, object], mode: Mode, device: str, says: str) -> None:
    reason = BACKEND.supports(shape(**changes), mode, {}, device)
    assert reason is not None
    assert says in reason


def test_interpreter_is_capped_by_the_scores_it_computes() -> None:
    edge = {"heads": 2, "seq_q": 8192, "seq_kv": 8192}
    assert 2 * 8192 * (8192 + 1024) <= INTERPRETED_SCORES < 3 * 8192 * (8192 + 1024)
    assert BACKEND.supports(shape(**edge, causal=False), Mode.FWD, {}, "cpu") is None
    assert BACKEND.supports(shape(**edge | {"heads": 3}, causal=False), Mode.FWD, {}, "cpu")
    assert BACKEND.supports(shape(**edge | {"heads": 3}, causal=True), Mode.FWD, {}, "cpu") is None


def test_triton_that_is_missing_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reason = BACKEND.supports(shape(), Mode.FWD, {}, "cpu")
    assert reason == "triton is not installed: pip install 'attnbench[bench]'"


@pytest.mark.parametrize("causal", [False, True])
def test_sliding_window_with_sinks(causal: bool) -> None:
    variant, backend = load_variant("sliding_window"), triton_of("sliding_window")
    at, params = shape(causal=causal), {"window": 8, "dilation": 1, "sink": 3}
    assert backend.supports(at, Mode.FWD, params, "cpu") is None
    query, key = torch.randn(1, 2, 100, 64), torch.randn(1, 1, 100, 64)
    out = backend.forward(query, key, key, backend.prepare(at, params, "cpu"))
    assert variant.pattern is not None
    place = torch.arange(100)
    mask = variant.pattern(at, params).allows(place[:, None], place[None, :])
    exact = torch.nn.functional.scaled_dot_product_attention(
        query, key, key, attn_mask=mask, enable_gqa=True
    )
    assert (out - exact).abs().max() < 4e-6


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_dilated_window_goes_to_the_block_sparse_kernel(dilation: int) -> None:
    backend, params = triton_of("sliding_window"), {"window": 8, "dilation": dilation, "sink": 0}
    chosen, _ = backend.prepare(shape(), params, "cpu")
    inputs = (torch.randn(1, 2, 100, 64), *(torch.randn(1, 1, 100, 64) for _ in "kv"))
    out = backend.forward(*inputs, backend.prepare(shape(), params, "cpu"))
    pattern = load_variant("sliding_window").pattern
    assert pattern is not None
    assert (out - pattern_reference(*inputs, pattern(shape(), params))).abs().max() < 4e-6
    flash_memory = backend.workspace_bytes(shape(), Mode.FWD, params | {"dilation": 1})
    memory = backend.workspace_bytes(shape(), Mode.FWD, params)
    assert (memory == flash_memory) == (dilation == 1)
    assert chosen.workspace_bytes(shape(), Mode.FWD, params) == memory


def test_workspace_is_the_lse_and_what_a_backward_keeps() -> None:
    rows = 2 * 100
    assert BACKEND.workspace_bytes(shape(), Mode.FWD, {}) == rows * 4
    assert BACKEND.workspace_bytes(shape(), Mode.FWD_BWD, {}) == rows * (4 + 4 + 64 * 4)


@pytest.mark.parametrize("variant", ["flash", "sliding_window"])
def test_autograd_runs_through(variant: str) -> None:
    backend, of = triton_of(variant), load_variant(variant)
    params = {"window": 30, "dilation": 1, "sink": 2} if variant == "sliding_window" else {}
    at = shape()
    assert backend.supports(at, Mode.FWD_BWD, params, "cpu") is None
    leaves = [torch.randn(1, h, 100, 64, requires_grad=True) for h in (2, 1, 1)]
    exact = [t.detach().double().requires_grad_() for t in leaves]
    grad = torch.randn(1, 2, 100, 64)
    backend.forward(*leaves, backend.prepare(at, params, "cpu")).backward(grad)
    assert of.pattern is not None
    place = torch.arange(100)
    mask = of.pattern(at, params).allows(place[:, None], place[None, :])
    torch.nn.functional.scaled_dot_product_attention(
        *exact, attn_mask=mask, enable_gqa=True
    ).backward(grad.double())
    for ours, theirs in zip(leaves, exact, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert (ours.grad - theirs.grad).abs().max() < 1e-5


def test_loading_the_variant_imports_neither_torch_nor_triton() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from attnbench.variants import load_variant; load_variant('flash');"
        "sys.exit(any(m in sys.modules for m in ('torch', 'triton', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
