"""The forward by TMA against float64: under Triton's interpreter, and on a GPU that has it."""

from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from _kernel_checks import breach  # noqa: E402
from _kernel_copies import GPU, mutants_of, operands, poison  # noqa: E402, F401
from attnbench.kernels import flash as compiled  # noqa: E402
from attnbench.kernels._interpreter import interpreted  # noqa: E402
from attnbench.kernels._targets import ForwardConfig, target_of  # noqa: E402
from attnbench.kernels.flash_fwd_configs import POINTER, TMA  # noqa: E402

SMALL = {"entry": TMA, "config": ForwardConfig(64, 32, 4, 1)}
HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and compiled.family(target_of(torch.device("cuda"))) not in (
        "sm_90",
        "sm_100",
    ):
        pytest.skip("this GPU has no TMA")
    return str(request.param)


def module(device: str) -> ModuleType:
    return interpreted("flash") if device == "cpu" else compiled


@pytest.mark.parametrize("dtype", [HALF, BRAIN, SINGLE], ids=["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(("seq_q", "seq_kv"), [(1, 1), (17, 127), (127, 17)])
def test_lengths_and_dtypes(
    device: str, seq_q: int, seq_kv: int, causal: bool, dtype: torch.dtype
) -> None:
    tensors = operands(device, seq_q, seq_kv, dtype=dtype)
    assert breach(module(device).flash_fwd, *tensors, causal=causal, **SMALL) is None


@pytest.mark.parametrize("head_dim", [8, 80, 128, 256])
def test_head_dims_and_groups(device: str, head_dim: int) -> None:
    tensors = operands(device, 65, 70, batch=2, heads=4, kv_heads=2, head_dim=head_dim)
    options = SMALL | {"config": ForwardConfig(32, 32, 4, 1)}
    assert breach(module(device).flash_fwd, *tensors, causal=True, **options) is None


@pytest.mark.parametrize(
    "features",
    [
        {"causal": True, "window": 33, "sinks": 5},
        {"window": 40},
        {"causal": True, "soft_cap": 5.0},
        {"alibi_slopes": True},
        {"causal": True, "kv_lens": True},
        {"causal": True, "window": 40, "sinks": 3, "soft_cap": 20.0, "kv_lens": True,
         "alibi_slopes": True, "scale": 0.3},
    ],
)  # fmt: skip
def test_features(device: str, features: dict[str, Any]) -> None:
    tensors = operands(device, 90, 127, batch=2, heads=2)
    given = {
        "alibi_slopes": torch.tensor([0.5, 0.0625], device=device),
        "kv_lens": torch.tensor([127, 60], dtype=torch.int32, device=device),
    }
    features = {name: given.get(name, value) for name, value in features.items()}
    assert breach(module(device).flash_fwd, *tensors, **features, **SMALL) is None


def test_strides_that_tma_can_take(device: str) -> None:
    query, key, value = operands(device, 70, 70, batch=2, heads=2, kv_heads=2, head_dim=128)
    tensors = (query[:, :, 3:50, 32:96], key[:, :, 5:, 32:96], value[:, :, 5:, :64])
    assert breach(module(device).flash_fwd, *tensors, causal=True, **SMALL) is None


def test_path_follows_target_dtype_and_layout() -> None:
    query, key, value = operands("cpu", 40, 40, heads=2, kv_heads=2)

    def chosen(target: str, *tensors: Any) -> str:
        return compiled.entry_for(target, *tensors)

    assert chosen("sm_90", query, key, value) == chosen("sm_103", query, key, value) == TMA
    for target in ("sm_80", "sm_89", "gfx942", "interpreter"):
        assert chosen(target, query, key, value) == POINTER
    assert chosen("sm_90", query.float(), key.float(), value.float()) == POINTER
    assert chosen("sm_90", query[..., 1:33], key[..., :32], value[..., :32]) == POINTER  # start
    assert chosen("sm_90", query[..., ::2], key[..., ::2], value[..., ::2]) == POINTER
    assert chosen("sm_90", query, key[:, :1].expand(1, 2, -1, -1), value) == POINTER
    odd = operands("cpu", 40, 40, head_dim=12)  # rows of 24 bytes
    assert chosen("sm_90", *odd) == POINTER
    # An axis of one element may have any stride.
    lone = query[:, :1].as_strided((1, 1, 40, 64), (3, 5, 128, 1))
    assert chosen("sm_90", lone, key, value) == TMA
    assert compiled._descriptor(lone, 32, 64).strides == [8, 8, 128, 1]


MUTATIONS = {
    "values_of_the_first_block": ("flash_fwd_tma.py", "_tile(V, batch, kv_head, at,",
                                  "_tile(V, batch, kv_head, first,"),
    "wrong_kv_head": ("flash_fwd_tma.py", "head // group", "head // (group + 1)"),
    "rescale_dropped": ("flash_fwd_tma.py", "acc * rescale[:, None]", "acc"),
    "mask_shifted": ("flash_fwd_tma.py", "+ (seq_kv - seq_q)\n", "+ (seq_kv - seq_q) + 1\n"),
}  # fmt: skip
mutant = mutants_of("flash")


def caught(flash: ModuleType) -> bool:
    tensors = operands("cpu", 70, 90, heads=3, kv_heads=3)
    with torch.no_grad():
        return breach(flash.flash_fwd, *tensors, causal=True, **SMALL) is not None


@pytest.mark.parametrize("mutant", MUTATIONS.values(), ids=MUTATIONS, indirect=True)
def test_a_mutant_is_caught(mutant: ModuleType) -> None:
    assert caught(mutant)


def test_the_kernel_itself_is_not_caught() -> None:
    assert not caught(interpreted("flash"))
