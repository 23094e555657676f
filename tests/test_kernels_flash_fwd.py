"""The forward kernel against float64: under Triton's interpreter, and on a GPU."""

from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from _kernel_checks import attend, breach  # noqa: E402
from _kernel_copies import GPU, mutants_of, operands, poison  # noqa: E402, F401
from attnbench.kernels import _features  # noqa: E402
from attnbench.kernels import flash as compiled  # noqa: E402
from attnbench.kernels._interpreter import interpreted  # noqa: E402
from attnbench.kernels._targets import ForwardConfig as Config  # noqa: E402
from attnbench.kernels.flash_fwd_configs import POINTER, config_for  # noqa: E402

from attnbench.errors import MachineError, UserError  # noqa: E402

# Tiles small enough that short sequences cross several of them, and not square.
SMALL = Config(64, 32, 4, 1)
LARGE = Config(256, 128, 8, 1)
HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def module(device: str) -> ModuleType:
    return interpreted("flash") if device == "cpu" else compiled


@pytest.mark.parametrize("dtype", [HALF, BRAIN, SINGLE], ids=["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(("seq_q", "seq_kv"), [(1, 1), (17, 127), (127, 127)])
def test_lengths_and_dtypes(
    device: str, seq_q: int, seq_kv: int, causal: bool, dtype: torch.dtype
) -> None:
    tensors = operands(device, seq_q, seq_kv, dtype=dtype)
    assert breach(module(device).flash_fwd, *tensors, causal=causal, config=SMALL) is None


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_a_thousand_tokens(device: str, causal: bool) -> None:
    tensors = operands(device, 1000, 1000)
    assert breach(module(device).flash_fwd, *tensors, causal=causal, config=LARGE) is None


def test_shipped_configuration(device: str) -> None:
    tensors = operands(device, 300, 300, dtype=BRAIN)
    assert breach(module(device).flash_fwd, *tensors, causal=True) is None


@pytest.mark.parametrize(
    ("seq_q", "seq_kv", "heads", "kv_heads"), [(70, 70, 4, 2), (70, 70, 3, 1), (1, 127, 4, 2)]
)
def test_grouped_heads(device: str, seq_q: int, seq_kv: int, heads: int, kv_heads: int) -> None:
    tensors = operands(device, seq_q, seq_kv, heads=heads, kv_heads=kv_heads)
    assert breach(module(device).flash_fwd, *tensors, causal=True, config=SMALL) is None


@pytest.mark.parametrize("head_dim", [8, 32, 80, 96, 128, 256])
def test_head_dims(device: str, head_dim: int) -> None:
    tensors = operands(device, 65, 70, head_dim=head_dim)
    config = Config(32, 32, 4, 1)
    assert breach(module(device).flash_fwd, *tensors, causal=True, config=config) is None


def test_more_queries_than_keys_leaves_rows_that_see_nothing(device: str) -> None:
    tensors = operands(device, 127, 17)
    assert breach(module(device).flash_fwd, *tensors, causal=True, config=SMALL) is None
    out, lse = module(device).flash_fwd(*tensors, causal=True, config=SMALL)
    assert not out[:, :, :110].any()
    assert (lse[:, :, :110] == -torch.inf).all()
    assert lse[:, :, 110:].isfinite().all()


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
    features = {"causal": causal, "window": window, "sinks": sinks}
    assert breach(module(device).flash_fwd, *tensors, **features, config=SMALL) is None


@pytest.mark.parametrize("dtype", [HALF, SINGLE], ids=["fp16", "fp32"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("feature", ["soft_cap", "wide_cap", "alibi", "both"])
def test_logits(device: str, causal: bool, feature: str, dtype: torch.dtype) -> None:
    tensors = operands(device, 70, 70, heads=2, dtype=dtype)
    features: dict[str, Any] = {"causal": causal, "scale": 0.5}
    if feature == "wide_cap":  # logits far under it: nothing may be lost beside its 1
        features |= {"scale": 0.1, "soft_cap": 50.0}
    elif feature != "alibi":
        features["soft_cap"] = 5.0
    if feature in ("alibi", "both"):
        features["alibi_slopes"] = torch.tensor([0.5, 0.0625], device=device)
    assert breach(module(device).flash_fwd, *tensors, **features, config=SMALL) is None


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_padding(device: str, causal: bool) -> None:
    tensors = operands(device, 96, 96, batch=4)
    lens = torch.tensor([0, 5, 64, 96], dtype=torch.int32, device=device)
    features = {"causal": causal, "kv_lens": lens}
    assert breach(module(device).flash_fwd, *tensors, **features, config=SMALL) is None


def test_all_features_at_once(device: str) -> None:
    tensors = operands(device, 90, 127, batch=2, heads=4, kv_heads=2, head_dim=48)
    features = {
        "causal": True, "window": 40, "sinks": 3, "soft_cap": 20.0, "scale": 0.3,
        "alibi_slopes": torch.tensor([0.5, 0.25, 0.1, 0.0], device=device),
        "kv_lens": torch.tensor([127, 60], dtype=torch.int32, device=device),
    }  # fmt: skip
    assert breach(module(device).flash_fwd, *tensors, **features, config=SMALL) is None


@pytest.mark.parametrize("how", ["strided_head_dim", "expanded", "sliced", "transposed_out"])
def test_strides_that_are_not_contiguous(device: str, how: str) -> None:
    query, key, value = operands(device, 70, 70, batch=2, heads=2, kv_heads=2, head_dim=128)
    if how == "strided_head_dim":
        tensors = (query[..., ::2], key[..., ::2], value[..., 1::2])
    elif how == "expanded":
        tensors = (query, key[:1].expand(2, -1, -1, -1), value[:1, :1].expand(2, 2, -1, -1))
    elif how == "sliced":
        tensors = (query[:, :, 3:50, 32:96], key[:, :, 5:, 32:96], value[:, :, 5:, :64])
    else:
        tensors = tuple(t.mT.contiguous().mT for t in (query, key, value))
    assert breach(module(device).flash_fwd, *tensors, causal=True, config=SMALL) is None


def test_large_logits_do_not_overflow(device: str) -> None:
    query, key, value = operands(device, 70, 70, dtype=SINGLE)
    features = {"causal": True, "scale": 30.0}
    assert breach(module(device).flash_fwd, query, key, value, **features, config=SMALL) is None


def test_reference_agrees_with_flex_attention() -> None:
    """The float64 reference itself, against torch's, which nobody here wrote."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    query, key, value = (t.double() for t in operands("cpu", 50, 70, heads=4, kv_heads=2))
    slopes = torch.tensor([0.5, 0.25, 0.1, 0.0], dtype=torch.float64)

    def score(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        return 9.0 * torch.tanh(s / 9.0) - slopes[h] * (i + 20 - j).abs()

    def mask(b: Any, h: Any, i: Any, j: Any) -> Any:
        return (j <= i + 20) & ((i + 20 - j < 16) | (j < 3))

    block_mask = create_block_mask(mask, None, None, 50, 70, device="cpu")
    options = {"score_mod": score, "block_mask": block_mask, "enable_gqa": True}
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not compiled: wanted here
        out, lse = flex_attention(query, key, value, return_lse=True, **options)
    ours, our_lse = attend(
        query, key, value, causal=True, window=16, sinks=3, soft_cap=9.0, alibi_slopes=slopes
    )
    assert (ours - out).abs().max() < 1e-12
    assert (our_lse - lse).abs().max() < 1e-12


MUTATIONS = {
    "rescale_dropped": ("_softmax.py", "tl.exp2(top - new_top)", "tl.exp2(top - top)"),
    "causal_mask_one_left": ("_softmax.py", "seen = distance >= 0", "seen = distance >= 1"),
    "causal_mask_one_right": ("_softmax.py", "seen = distance >= 0", "seen = distance >= -1"),
    "window_one_short": ("_softmax.py", "distance <= left", "distance < left"),
    "empty_row_divides_by_zero": ("_softmax.py", "tl.where(empty, 1.0, total)", "total"),
    "natural_base": ("_features.py", "_LOG2_E = 1.0 / math.log(2.0)", "_LOG2_E = 1.0"),
    "last_key_dropped": ("_softmax.py", "(key_at < keys,", "(key_at < keys - 1,"),
    "wrong_kv_head": ("flash_fwd.py", "head // group", "head // (group + 1)"),
    "whole_blocks_one_too_many": (
        "_softmax.py", "tl.maximum(first_at + 1, 0) //", "tl.maximum(first_at + BLOCK_N, 0) //",
    ),
    "carried_block_twice": ("flash_fwd.py", "    at = next_at", "    at = at"),
    "alignment_top_left": ("flash_fwd.py", "query_at = row + (seq_kv - seq_q)", "query_at = row"),
}  # fmt: skip
mutant = mutants_of("flash")


@pytest.mark.parametrize(
    ("seq_q", "seq_kv", "features"),
    [
        (64, 160, {}), (64, 32, {}), (127, 127, {}), (17, 127, {}), (127, 127, {"causal": True}),
        (127, 17, {"causal": True}), (150, 150, {"window": 90, "sinks": 5}),
        (150, 150, {"causal": True, "window": 90, "soft_cap": 5.0}),
    ],
)  # fmt: skip
def test_products_carried_through_the_loop(
    device: str, seq_q: int, seq_kv: int, features: dict[str, Any]
) -> None:
    tensors = operands(device, seq_q, seq_kv)
    config = SMALL._replace(carry=1)
    assert breach(module(device).flash_fwd, *tensors, **features, config=config) is None


def caught(flash: ModuleType) -> bool:
    """Whether any of three points, which together reach every line mutated, is in breach."""
    points = (
        (operands("cpu", 70, 90, heads=3, kv_heads=3), {"causal": True}),
        (operands("cpu", 80, 64), {"causal": True, "window": 20}),
        (operands("cpu", 16, 96), {"config": SMALL._replace(carry=1)}),
    )
    with torch.no_grad():
        return any(
            breach(flash.flash_fwd, *tensors, **{"config": SMALL} | options) is not None
            for tensors, options in points
        )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of what a mutant does
@pytest.mark.parametrize("mutant", MUTATIONS.values(), ids=MUTATIONS, indirect=True)
def test_a_mutant_is_caught(mutant: ModuleType) -> None:
    assert caught(mutant)


def test_the_kernel_itself_is_not_caught() -> None:
    assert not caught(interpreted("flash"))


def test_interpreted_copy_leaves_the_process_alone() -> None:
    import os

    import triton

    assert interpreted("_features").INTERPRETED
    assert not triton.knobs.runtime.interpret
    assert "TRITON_INTERPRET" not in os.environ
    assert not _features.INTERPRETED
    assert type(compiled._flash_fwd).__name__ == "JITFunction"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"query": (1, 3, 8, 64)}, "does not divide"),
        ({"query": (2, 2, 8, 64)}, "differ in batch or head_dim"),
        ({"query": (1, 2, 8, 32)}, "differ in batch or head_dim"),
        ({"query": (2, 8, 64)}, "not \\[B, H, T, D\\]"),
        ({"window": 0}, "window: 0"),
        ({"sinks": 2}, "sinks: 2 needs a window"),
        ({"soft_cap": 0.0}, "soft_cap: 0.0"),
        ({"scale": -1.0}, "scale: -1.0"),
        ({"alibi_slopes": torch.ones(3)}, "alibi_slopes: \\[3\\]"),
        ({"kv_lens": torch.ones(1)}, "kv_lens: \\[1\\] torch.float32"),
    ],
)
def test_bad_input(change: dict[str, Any], says: str) -> None:
    shape = change.pop("query", (1, 2, 8, 64))
    query, key, value = torch.zeros(shape), torch.zeros(1, 2, 8, 64), torch.zeros(1, 2, 8, 64)
    with pytest.raises(UserError, match=says):
        interpreted("flash").flash_fwd(query, key, value, **change)


def test_bad_dtypes_devices_and_targets() -> None:
    query, key, value = operands("cpu", 8, 8, dtype=SINGLE)
    with pytest.raises(UserError, match="dtypes"):
        interpreted("flash").flash_fwd(query.half(), key, value)
    with pytest.raises(UserError, match="cannot run on cpu"):
        compiled.flash_fwd(query, key, value)
    with pytest.raises(MachineError, match="no configuration for sm_75"):
        config_for("sm_75", POINTER, head_dim=64, dtype=HALF, seq_q=8, seq_kv=8,
                   causal=False, featured=False)  # fmt: skip
