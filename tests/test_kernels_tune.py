"""Choosing a configuration by time, with a clock of the test's own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from _kernel_copies import operands  # noqa: E402
from attnbench.kernels._interpreter import interpreted  # noqa: E402
from attnbench.kernels._targets import SHARED_LIMIT_BYTES  # noqa: E402
from attnbench.kernels._tune import fastest  # noqa: E402
from attnbench.kernels.flash_fwd_configs import ALTERNATIVES, POINTER, TMA  # noqa: E402
from triton.runtime.errors import OutOfResources  # noqa: E402


def clock_of(times: dict[str, list[float]]) -> Callable[[Callable[[], object]], float]:
    left: dict[str, Iterator[float]] = {name: iter(spent) for name, spent in times.items()}

    def clock(call: Callable[[], object]) -> float:
        return next(left[str(call())])

    return clock


def test_the_least_median_wins_whatever_one_round_says() -> None:
    times = {"shipped": [3.0] * 5, "other": [1.0, 2.0, 9.0, 2.0, 2.0], "slow": [0.1] + [4.0] * 4}
    assert fastest(list(times), lambda name: name, time_ms=clock_of(times)) == "other"


def test_the_shipped_one_stays_where_none_is_faster() -> None:
    times = {"shipped": [2.0] * 5, "other": [2.0] * 5}
    assert fastest(list(times), lambda name: name, time_ms=clock_of(times)) == "shipped"


def test_what_does_not_fit_the_device_is_left_out() -> None:
    def run(name: str) -> str:
        if name == "large":
            raise OutOfResources(300_000, 200_000, "shared memory")
        return name

    times = {"shipped": [2.0] * 5}
    assert fastest(["shipped", "large"], run, time_ms=clock_of(times)) == "shipped"
    with pytest.raises(OutOfResources):
        fastest(["large", "shipped"], run, time_ms=clock_of(times))


def test_one_candidate_is_never_run() -> None:
    def run(name: str) -> Any:
        raise AssertionError

    assert fastest(["shipped"], run) == "shipped"


def test_on_the_cpu_the_shipped_configuration_is_chosen() -> None:
    flash = interpreted("flash")
    tensors = operands("cpu", 40, 40)
    choice = flash.choose(*tensors, causal=True)
    assert (choice.entry, choice.config) == flash.shipped_choice(
        *tensors, flash.Features(causal=True)
    )
    assert str(choice) == "flash_fwd 64x64 w1 s1"


def test_alternatives_are_few_and_of_known_targets() -> None:
    for (target, _), choices in ALTERNATIVES.items():
        assert target in SHARED_LIMIT_BYTES
        assert len(choices) <= 4
        assert all(entry in (POINTER, TMA) for entry, _ in choices)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA or ROCm device")
def test_a_device_chooses_among_what_it_can_run() -> None:
    from attnbench.kernels import flash

    tensors = operands("cuda", 512, 512, heads=4, kv_heads=4, dtype=torch.bfloat16)
    choice = flash.choose(*tensors, causal=True)
    out, _ = flash.flash_fwd(*tensors, causal=True, **choice._asdict())
    expected, _ = flash.flash_fwd(*tensors, causal=True)
    # Two blockings of one sum, each rounded once.
    assert (out - expected).abs().max() <= 2 * torch.finfo(torch.bfloat16).eps
