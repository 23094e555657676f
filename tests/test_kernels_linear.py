"""The linear-attention kernels against float64: interpreted, and on a GPU."""

from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from _kernel_copies import GPU, mutants_of, operands, poison  # noqa: E402, F401
from attnbench.kernels import linear as compiled  # noqa: E402
from attnbench.kernels._interpreter import interpreted  # noqa: E402
from attnbench.kernels.linear_configs import LinearConfig, config_for  # noqa: E402

from attnbench.errors import MachineError, UserError  # noqa: E402
from attnbench.variants.performer import draw_features  # noqa: E402

HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32
SMALL = LinearConfig(32, 16, 32, 4, 1)  # short sequences cross several chunks


def module(device: str) -> ModuleType:
    return interpreted("linear") if device == "cpu" else compiled


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def log_features(x: Any, omega: Any) -> Any:
    """log φ in the precision of x, less what cancels."""
    if omega is None:
        return x.clamp(max=0) + x.clamp(min=0).log1p()
    return x @ omega.to(x).T - 0.5 * x.shape[-1] ** -0.5 * (x * x).sum(-1, keepdim=True)


def attend(query: Any, key: Any, value: Any, omega: Any, causal: bool, lens: Any) -> Any:
    """Attention by weights φ(q)·φ(k) over their sum, pair by pair, in the operands' dtype."""
    group, seq_q, seq_kv = query.shape[1] // key.shape[1], query.shape[2], key.shape[2]
    key, value = (t.repeat_interleave(group, 1) for t in (key, value))
    phi_q, phi_k = log_features(query, omega), log_features(key, omega)
    phi_q = (phi_q - phi_q.amax(-1, keepdim=True)).exp()
    phi_k = (phi_k - phi_k.amax((-1, -2), keepdim=True)).exp()
    weights = phi_q @ phi_k.mT
    row = torch.arange(seq_kv - seq_q, seq_kv, device=query.device)[:, None]
    column = torch.arange(seq_kv, device=query.device)
    if causal:
        weights = weights * (column <= row)
    if lens is not None:
        weights = weights * (column < lens[:, None, None, None])
    total = weights.sum(-1, keepdim=True)
    return (weights / total.masked_fill(total == 0, 1)) @ value


def wrong(
    kernels: ModuleType, tensors: tuple[Any, ...], *, features: int = 0, causal: bool = True,
    lens: list[int] | None = None, config: LinearConfig | None = SMALL,
) -> str | None:  # fmt: skip
    """What is wrong with the output, or None.

    It may be twice as far from float64 as the formula in the inputs' dtype, and a rounding
    of the largest value; on a GPU dots of 16-bit inputs are tf32, whose rounding is fp16's.
    Sums over F features go before the quotient: √F roundings of fp32 more.
    """
    device, width = tensors[0].device, tensors[0].shape[3]
    omega = None
    if features:
        omega = (draw_features(features, width, 0) * width**-0.25).float().to(device)
    kv_lens = None if lens is None else torch.tensor(lens, dtype=torch.int32, device=device)
    out = kernels.linear_attention(
        *tensors, causal=causal, omega=omega, kv_lens=kv_lens, config=config
    )
    if out.isnan().any() or out.dtype is not tensors[0].dtype:
        return "NaN, or another dtype"
    exact = attend(*(t.double() for t in tensors), omega, causal, kv_lens)
    plain = attend(*tensors, omega, causal, kv_lens)
    if out[exact == 0].any():
        return "a row that sees nothing is not 0"
    fp32 = torch.finfo(torch.float32).eps * max(features, width) ** 0.5
    rounding = torch.finfo(out.dtype).eps / 2 + fp32
    error = (out.double() - exact).abs().max()
    allowed = 2 * (plain.double() - exact).abs().max() + rounding * exact.abs().max()
    return f"off by {error:.3g}, allowed {allowed:.3g}" if error > allowed else None


@pytest.mark.parametrize("features", [0, 40], ids=["elu", "random"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize(("seq_q", "seq_kv"), [(1, 1), (70, 70), (40, 75), (75, 40), (1, 70)])
def test_lengths(device: str, seq_q: int, seq_kv: int, causal: bool, features: int) -> None:
    tensors = operands(device, seq_q, seq_kv, head_dim=16, dtype=SINGLE)
    assert wrong(module(device), tensors, features=features, causal=causal) is None


@pytest.mark.parametrize("features", [0, 40], ids=["elu", "random"])
@pytest.mark.parametrize("dtype", [HALF, BRAIN], ids=["fp16", "bf16"])
def test_dtypes(device: str, dtype: torch.dtype, features: int) -> None:
    tensors = operands(device, 50, 50, head_dim=32, dtype=dtype)
    assert wrong(module(device), tensors, features=features) is None


@pytest.mark.parametrize(("features", "head_dim"), [(0, 48), (256, 64), (24, 16)])
def test_widths_groups_and_padding(device: str, features: int, head_dim: int) -> None:
    tensors = operands(device, 50, 60, batch=2, heads=4, kv_heads=2, head_dim=head_dim,
                       dtype=SINGLE)  # fmt: skip
    config = LinearConfig(32, 64, 64, 4, 1)
    for causal in (True, False):
        found = wrong(module(device), tensors, features=features, causal=causal, lens=[60, 7],
                      config=config)  # fmt: skip
        assert found is None


@pytest.mark.parametrize(("features", "head_dim"), [(0, 32), (0, 256), (40, 256)])
def test_narrow_and_wide_heads(device: str, features: int, head_dim: int) -> None:
    tensors = operands(device, 37, 37, head_dim=head_dim, dtype=SINGLE)
    config = LinearConfig(32, 128, 128, 4, 1)
    assert wrong(module(device), tensors, features=features, config=config) is None


def test_shipped_configuration(device: str) -> None:
    tensors = operands(device, 300, 300, head_dim=64, dtype=HALF)
    for features in (0, 256):
        assert wrong(module(device), tensors, features=features, config=None) is None


@pytest.mark.parametrize("features", [0, 40], ids=["elu", "random"])
def test_strides_that_are_not_contiguous(device: str, features: int) -> None:
    query, key, value = operands(device, 50, 50, batch=2, heads=2, kv_heads=2, dtype=SINGLE)
    tensors = (query[:, :, 3:40, ::2], key[:1].expand(2, -1, -1, -1)[..., :32], value[..., 32:])
    assert wrong(module(device), tensors, features=features) is None


def test_a_nan_stays_in_its_row(device: str) -> None:
    query, key, value = operands(device, 40, 40, head_dim=16, dtype=SINGLE)
    query[:, :, 7, 3] = float("nan")
    out = module(device).linear_attention(query, key, value, causal=True, config=SMALL)
    rows = out.isnan().all(-1).squeeze()
    assert rows.nonzero().flatten().tolist() == [7]
    assert not out[:, :, ~rows].isnan().any()


def test_scales_that_grow_and_fall_do_not_overflow(device: str) -> None:
    query, key, value = operands(device, 90, 90, head_dim=16, dtype=SINGLE)
    size = torch.linspace(0.1, 9, 90, device=device)[:, None]
    for scaled in (size, size.flip(0)):
        assert wrong(module(device), (query, key * scaled, value), features=40) is None


CHUNKS = "linear_chunks.py"
MUTATIONS = {
    "rescale_dropped": (CHUNKS, "state = state * old", "state = state"),
    "fade_forgotten": (CHUNKS, "acc = acc * faded[:, None]", "acc = acc"),
    "mask_shifted": (CHUNKS, "place[:, None] >= place", "place[:, None] > place"),
    "prefix_includes_its_own": (CHUNKS, "before = tl.maximum(chunk, 0)", "before = chunk + 1"),
    "last_chunk_skipped": (
        "linear.py",
        "_chunk_states, kv_programs * chunks,",
        "_chunk_states, kv_programs * (chunks - 1),",
    ),
    "sum_forgotten": (CHUNKS, "total += tl.reduce(wanted", "total += 0 * tl.reduce(wanted"),
    "scale_not_the_key_s": (CHUNKS, "top - half_root * square", "top"),
    "elu_without_exp": (
        CHUNKS,
        "propagate_nan=tl.PropagateNan.ALL) + power",
        "propagate_nan=tl.PropagateNan.ALL) + 0 * power",
    ),
    "wrong_kv_head": (CHUNKS, "(head // group)", "(head // (group + 1))"),
}
mutant = mutants_of("linear")


def caught(kernels: ModuleType) -> bool:
    """Whether a point that reaches every line mutated is in breach."""
    tensors = operands("cpu", 80, 80, heads=2, kv_heads=2, head_dim=16, dtype=SINGLE)
    return any(wrong(kernels, tensors, features=features) for features in (20, 0))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of what a mutant does
@pytest.mark.parametrize("mutant", MUTATIONS.values(), ids=MUTATIONS, indirect=True)
def test_a_mutant_is_caught(mutant: ModuleType) -> None:
    assert caught(mutant)


def test_the_kernels_themselves_are_not_caught() -> None:
    assert not caught(interpreted("linear"))


ROUNDED = (CHUNKS, "return made.to(tl.bfloat16) if NARROW else made.to(tl.float32)",
           "return made.to(tl.bfloat16).to(tl.float32)")  # fmt: skip


@pytest.mark.parametrize("mutant", [ROUNDED], ids=["rounded"], indirect=True)
def test_products_of_bf16_keep_the_tolerance(mutant: ModuleType) -> None:
    """The interpreter has no bf16 product: here it rounds what a compiled one would take."""
    config = LinearConfig(64, 64, 64, 4, 1)
    for features, head_dim, causal in ((0, 64, True), (0, 128, False), (128, 64, True)):
        tensors = operands("cpu", 150, 150, head_dim=head_dim, dtype=BRAIN)
        assert wrong(mutant, tensors, features=features, causal=causal, config=config) is None


def test_bad_input() -> None:
    tensors = operands("cpu", 8, 8, dtype=SINGLE)
    attention = interpreted("linear").linear_attention
    with pytest.raises(UserError, match=r"omega: \[4, 32\]"):
        attention(*tensors, causal=True, omega=torch.zeros(4, 32))
    with pytest.raises(UserError, match="kv_lens"):
        attention(*tensors, causal=True, kv_lens=torch.ones(1))
    with pytest.raises(MachineError, match="no configuration for sm_75"):
        config_for("sm_75", head_dim=64, dtype=HALF, tokens=8, features=8)


def test_tf32_operands_on_sm_80_take_fewer_features_at_once() -> None:
    sizes = {"head_dim": 64, "tokens": 4096, "features": 64}
    assert config_for("sm_80", dtype=BRAIN, **sizes).block_f == 32
    for target in ("sm_80", "sm_86"):
        assert config_for(target, dtype=HALF, **sizes).block_f == 16
