"""The gradient's kernels against float64: under Triton's interpreter, and on a GPU."""

from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from _kernel_checks import grad_breach, gradients, logits_of  # noqa: E402
from _kernel_copies import GPU, mutants_of, operands, poison  # noqa: E402, F401
from attnbench.kernels import flash_grad as compiled  # noqa: E402
from attnbench.kernels._interpreter import interpreted  # noqa: E402
from attnbench.kernels._targets import Config  # noqa: E402

from attnbench.errors import UserError  # noqa: E402

# Tiles small enough that short sequences cross several of them, and not square.
SMALL = {compiled.DQ: Config(64, 32, 4, 1), compiled.DKDV: Config(32, 64, 4, 1)}
HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def module(device: str) -> ModuleType:
    return interpreted("flash_grad") if device == "cpu" else compiled


def broken(
    grad: ModuleType, tensors: tuple[Any, Any, Any], *, configs: Any = SMALL, seed: int = 0,
    **settings: Any,
) -> str | None:  # fmt: skip
    """What is wrong with the gradients that `grad` gives under `settings`, or None."""
    query = tensors[0]
    source = torch.Generator().manual_seed(seed)
    grad_out = torch.randn(query.shape, generator=source).to(query)
    features = grad.Features(**settings)
    out, lse = grad.flash_fwd(*tensors, **settings)
    found = grad.flash_bwd(*tensors, out, lse, grad_out, features=features, configs=configs)
    return grad_breach(found, *tensors, grad_out, **settings)


@pytest.mark.parametrize("dtype", [HALF, BRAIN, SINGLE], ids=["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(("seq_q", "seq_kv"), [(1, 1), (1, 90), (17, 127), (127, 127)])
def test_lengths_and_dtypes(
    device: str, seq_q: int, seq_kv: int, causal: bool, dtype: torch.dtype
) -> None:
    tensors = operands(device, seq_q, seq_kv, dtype=dtype)
    assert broken(module(device), tensors, causal=causal) is None


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_lengths_that_blocks_divide(device: str, causal: bool) -> None:
    tensors = operands(device, 128, 192, heads=2)
    assert broken(module(device), tensors, causal=causal) is None


def test_a_thousand_tokens_in_the_shipped_configuration(device: str) -> None:
    tensors = operands(device, 1000, 1000)
    assert broken(module(device), tensors, causal=True, configs=None) is None


@pytest.mark.parametrize(
    ("seq_q", "seq_kv", "heads", "kv_heads"), [(70, 70, 4, 2), (70, 90, 3, 1), (1, 127, 4, 2)]
)
def test_gradients_of_grouped_heads_are_summed(
    device: str, seq_q: int, seq_kv: int, heads: int, kv_heads: int
) -> None:
    tensors = operands(device, seq_q, seq_kv, batch=2, heads=heads, kv_heads=kv_heads)
    assert broken(module(device), tensors, causal=True) is None


@pytest.mark.parametrize("head_dim", [8, 80, 128, 256])
def test_head_dims(device: str, head_dim: int) -> None:
    configs = dict.fromkeys(SMALL, Config(32, 32, 4, 1))
    tensors = operands(device, 65, 70, head_dim=head_dim)
    assert broken(module(device), tensors, causal=True, configs=configs) is None


def test_rows_that_see_nothing_have_no_gradient(device: str) -> None:
    grad, tensors = module(device), operands(device, 127, 17)
    assert broken(grad, tensors, causal=True) is None
    leaves = [t.clone().requires_grad_() for t in tensors]
    grad.flash(*leaves, causal=True)[0].sum().backward()
    assert not leaves[0].grad[:, :, :110].any()


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(
    ("window", "sinks", "seq_q", "seq_kv"),
    [(1, 0, 90, 90), (40, 0, 127, 127), (33, 5, 150, 150), (500, 3, 90, 90), (16, 60, 70, 130),
     (20, 0, 130, 40)],
)  # fmt: skip
def test_window(
    device: str, causal: bool, window: int, sinks: int, seq_q: int, seq_kv: int
) -> None:
    tensors = operands(device, seq_q, seq_kv)
    settings = {"causal": causal, "window": window, "sinks": sinks}
    assert broken(module(device), tensors, **settings) is None


@pytest.mark.parametrize("dtype", [HALF, SINGLE], ids=["fp16", "fp32"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("feature", ["soft_cap", "wide_cap", "alibi", "both"])
def test_logits(device: str, causal: bool, feature: str, dtype: torch.dtype) -> None:
    tensors = operands(device, 70, 70, heads=2, dtype=dtype)
    settings: dict[str, Any] = {"causal": causal, "scale": 0.5}
    if feature == "wide_cap":  # logits far under it: nothing may be lost beside its 1
        settings |= {"scale": 0.1, "soft_cap": 50.0}
    elif feature != "alibi":
        settings["soft_cap"] = 5.0
    if feature in ("alibi", "both"):
        settings["alibi_slopes"] = torch.tensor([0.5, 0.0625], device=device)
    assert broken(module(device), tensors, **settings) is None


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_padding(device: str, causal: bool) -> None:
    tensors = operands(device, 96, 96, batch=4)
    lens = torch.tensor([0, 5, 64, 96], dtype=torch.int32, device=device)
    assert broken(module(device), tensors, causal=causal, kv_lens=lens) is None


def test_all_features_at_once(device: str) -> None:
    tensors = operands(device, 90, 127, batch=2, heads=4, kv_heads=2, head_dim=48)
    settings = {
        "causal": True, "window": 40, "sinks": 3, "soft_cap": 20.0, "scale": 0.3,
        "alibi_slopes": torch.tensor([0.5, 0.25, 0.1, 0.0], device=device),
        "kv_lens": torch.tensor([127, 60], dtype=torch.int32, device=device),
    }  # fmt: skip
    assert broken(module(device), tensors, **settings) is None


def test_large_logits_of_hidden_pairs_do_not_overflow(device: str) -> None:
    query, key, value = operands(device, 70, 70, dtype=SINGLE)
    lens = torch.tensor([33], dtype=torch.int32, device=device)
    key[:, :, 33:] = 40 * query[:, :, 33:]  # exp of what is hidden would be infinite
    settings = {"causal": True, "scale": 1.0, "kv_lens": lens}
    assert broken(module(device), (query, key, value), **settings) is None


@pytest.mark.parametrize("how", ["strided_head_dim", "expanded", "sliced"])
def test_strides_that_are_not_contiguous(device: str, how: str) -> None:
    query, key, value = operands(device, 70, 70, batch=2, heads=2, kv_heads=2, head_dim=128)
    if how == "strided_head_dim":
        tensors = (query[..., ::2], key[..., ::2], value[..., 1::2])
    elif how == "expanded":
        tensors = (query, key[:1].expand(2, -1, -1, -1), value[:1, :1].expand(2, 2, -1, -1))
    else:
        tensors = (query[:, :, 3:50, 32:96], key[:, :, 5:, 32:96], value[:, :, 5:, :64])
    assert broken(module(device), tensors, causal=True) is None


def test_autograd_takes_a_gradient_of_any_strides(device: str) -> None:
    """`sum().backward()` hands over one number, expanded; a tensor gets what it asked for."""
    query, key, value = operands(device, 40, 40, dtype=SINGLE)
    leaf = query.clone().requires_grad_()
    module(device).flash(leaf, key, value, causal=True)[0].sum().backward()
    assert leaf.grad is not None
    ones = torch.ones_like(query)
    _, *others = gradients(query, key, value, ones, causal=True)
    assert grad_breach((leaf.grad, *others), query, key, value, ones, causal=True) is None
    assert key.grad is None


def test_gradient_of_the_lse(device: str) -> None:
    """Of Σ LSE², whose gradient is softmax · 2 LSE; a row that sees nothing has none."""
    tensors = operands(device, 50, 40, heads=2, dtype=SINGLE)
    ours, exact = (
        [t.detach().to(dtype, copy=True).requires_grad_() for t in tensors]
        for dtype in (SINGLE, torch.float64)
    )
    _, lse = module(device).flash(*ours, causal=True)
    (lse[:, :, 10:] ** 2).sum().backward()
    logits = logits_of(*exact[:2], causal=True)[:, :, 10:]
    (torch.logsumexp(logits, -1) ** 2).sum().backward()
    for found, wanted in zip(ours, exact, strict=True):
        if wanted.grad is None:  # value
            assert not found.grad.any()
        else:
            assert (found.grad - wanted.grad).abs().max() < 1e-5 * wanted.grad.abs().max()


def test_the_same_inputs_give_the_same_bits(device: str) -> None:
    tensors = operands(device, 90, 90, heads=4, kv_heads=1)
    grad = module(device)
    out, lse = grad.flash_fwd(*tensors, causal=True)
    features = grad.Features(causal=True)
    first, again = (
        grad.flash_bwd(*tensors, out, lse, tensors[0], features=features, configs=SMALL)
        for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


MUTATIONS = {
    "delta_forgotten": ("flash_bwd.py", "(grad_weights - delta)", "(grad_weights)"),
    "natural_lse": ("flash_bwd.py", "lse * LOG2_E)", "lse)"),
    "scale_forgotten": ("flash_bwd.py", "(acc * scale)", "acc"),
    "key_scale_forgotten": ("flash_bwd.py", "(grad_key * scale)", "grad_key"),
    "causal_mask_shifted": ("_softmax.py", "seen = distance >= 0", "seen = distance >= 1"),
    "group_of_one": ("flash_bwd.py", "range(0, group * count)", "range(0, count)"),
    "last_rows_dropped": ("flash_bwd.py", "in_rows = row < seq_q\n        queries",
                          "in_rows = row < seq_q - 1\n        queries"),
    "last_key_dropped": ("flash_bwd.py", "inside = key_at < keys", "inside = key_at < keys - 1"),
    "whole_rows_one_early": ("_softmax.py", "whole = last_key - offset",
                             "whole = first_key - offset"),
    "window_rows_short": ("_softmax.py", "last_key + left - offset + 1",
                          "first_key + left - offset + 1"),
    "hidden_keys_kept": ("flash_bwd.py", "    if HIDDEN:", "    if False:"),
    "tanh_slope_forgotten": ("flash_bwd.py", "grads * (1.0 - tanh * tanh)", "grads"),
}  # fmt: skip
mutant = mutants_of("flash_grad")


def caught(grad: ModuleType) -> bool:
    """Whether any of three points, which together reach every line mutated, is in breach."""
    lens = torch.tensor([40], dtype=torch.int32)
    points = (
        (operands("cpu", 70, 90, heads=2, kv_heads=1), {"causal": True, "kv_lens": lens}),
        (operands("cpu", 90, 70), {"causal": True, "window": 20, "soft_cap": 2.0}),
    )
    return any(broken(grad, tensors, **settings) is not None for tensors, settings in points)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of what a mutant does
@pytest.mark.parametrize("mutant", MUTATIONS.values(), ids=MUTATIONS, indirect=True)
def test_a_mutant_is_caught(mutant: ModuleType) -> None:
    assert caught(mutant)


def test_the_kernels_themselves_are_not_caught() -> None:
    assert not caught(interpreted("flash_grad"))


def test_operands_that_are_not_the_forwards_are_refused() -> None:
    grad, (query, key, value) = interpreted("flash_grad"), operands("cpu", 8, 8)
    out, lse = grad.flash_fwd(query, key, value)
    with pytest.raises(UserError, match=r"grad_out: \[1, 1, 8, 32\]"):
        grad.flash_bwd(query, key, value, out, lse, out[..., :32])
    with pytest.raises(UserError, match=r"lse: \[1, 1, 4\]"):
        grad.flash_bwd(query, key, value, out, lse[:, :, :4], out)
