"""The cost of training against published runs, and torch's own FLOP counter."""

import json

import msgspec
import pytest

from attnbench.calc.params import count
from attnbench.calc.training_cost import optimal_tokens, training_days, training_flops
from attnbench.catalog import load_model
from attnbench.cli import run
from attnbench.spec.model import Sliding

# What the papers state: tokens, FLOPs of the run, and how many digits they give.
PUBLISHED = {
    "llama-3.1-405b": (15_600_000_000_000, 3.8e25, 0.013),  # arXiv:2407.21783, section 3.2.1
    "gpt2": (10_000_000_000, 6 * 124_439_808 * 10_000_000_000, 0.0),  # by definition: 6ND
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_flops_of_published_runs(name: str) -> None:
    tokens, published, relative = PUBLISHED[name]
    found = training_flops(load_model(name), tokens=tokens, seq_len=8192)
    assert found.parameters == pytest.approx(published, rel=relative or 1e-12)


def test_attention_is_half_of_what_torch_counts_for_all_pairs() -> None:
    """Forward and backward of plain attention of a whole sequence, gpt2's 12 layers."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    s, heads, width = 64, 12, 64
    q, k, v = (torch.randn(1, heads, s, width, requires_grad=True) for _ in range(3))
    with FlopCounterMode(display=False) as counter:
        ((q @ k.transpose(-1, -2)).softmax(-1) @ v).sum().backward()
    found = training_flops(load_model("gpt2"), tokens=s, seq_len=s)
    assert found.attention == 12 * counter.get_total_flops() // 2


def test_a_window_is_a_mean_of_what_tokens_see() -> None:
    gemma = load_model("gemma-2-9b")
    layer = next(x for x in gemma.layers if isinstance(x.mixers[0], Sliding))
    mixer = layer.mixers[0]
    assert isinstance(mixer, Sliding)
    s = 3 * mixer.window
    seen = sum(min(i + 0.5, mixer.window) for i in range(s))  # self counts half while it grows
    each = 6 * layer.count * mixer.heads * (mixer.key_dim + mixer.value_dim)
    local = msgspec.structs.replace(gemma, layers=(layer,))
    found = training_flops(local, tokens=s, seq_len=s).attention
    assert found == pytest.approx(each * seen, rel=1e-4)


def test_experts_that_a_token_does_not_visit_cost_nothing() -> None:
    mixtral = load_model("mixtral-8x7b")
    found = training_flops(mixtral, tokens=1, seq_len=1)
    assert found.parameters == 6 * count(mixtral).active < 6 * count(mixtral).total


def test_adapters_leave_out_the_gradients_of_frozen_weights() -> None:
    model = load_model("llama-3-8b")
    found = training_flops(model, tokens=10, seq_len=10, adapters=1000)
    assert found.parameters == 10 * (4 * 8_030_261_248 + 6000)


def test_chinchillas_own_size() -> None:
    assert optimal_tokens(70_000_000_000) == 1_400_000_000_000
    assert training_days(10**20, gpus=2, peak_flops_per_s=1e15, mfu=0.5) == 1e5 / 86_400


def test_the_command_says_days(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["memory", "llama-3-8b", "--mode", "training", "--gpu", "h100-sxm", "--dp", "64"]
    asked = ["--zero", "3", "--recompute", "full", "--tokens", "1.5t", "--mfu", "0.5"]
    assert run([*arguments, *asked, "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)["training_cost"]
    flops = cost["parameter_flops"] + cost["attention_flops"]
    assert cost["total_flops"] == flops
    assert cost["days"] == pytest.approx(flops / (64 * 989.4e12 * 0.5) / 86_400)
    assert cost["gpu_hours"] == pytest.approx(cost["days"] * 24 * 64)
    assert cost["optimal_tokens"] == 20 * 8_030_261_248


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mode", "training", "--mfu", "1.5"], "--mfu"),
        (["--mode", "training", "--tokens", "many"], "--tokens"),
        (["--tokens", "1t"], "--mode training"),
        (["--mfu", "0.4"], "--mode training"),
    ],
)
def test_bad_input_is_named(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["memory", "gpt2", *arguments]) == 2
    assert says in capsys.readouterr().err
