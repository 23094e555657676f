"""`attnbench phases`: what is timed, and cache growth against transformers' own caches."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from attnbench.phases.cache import cache_bytes  # noqa: E402
from attnbench.phases.run import Traffic, run_phases, total_ms  # noqa: E402

SMALL = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
MODELS = {
    "llama": {"model_type": "llama", **SMALL},
    "mistral": {"model_type": "mistral", **SMALL, "sliding_window": 16},
    "gemma2": {"model_type": "gemma2", **SMALL, "sliding_window": 16, "head_dim": 16},
    "qwen3_moe": {
        "model_type": "qwen3_moe", **SMALL, "head_dim": 16, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    },
    "gpt2": {
        "model_type": "gpt2", "vocab_size": 128, "n_positions": 256, "n_embd": 64, "n_layer": 3,
        "n_head": 4,
    },
}  # fmt: skip


def folder_of(tmp_path: Path, fields: dict[str, Any]) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(fields))
    return tmp_path


@pytest.mark.parametrize("name", MODELS)
def test_the_cache_grows_as_the_calculator_says(
    name: str, tmp_path: Path, attnbench: Callable[..., Any]
) -> None:
    ran = attnbench(
        "phases", folder_of(tmp_path, MODELS[name]), "--prompt-len", 24, "--new-tokens", 4,
        "--batch", 2, "--rounds", 2, "--dtype", "fp32", "--device", "cpu", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = ran.json
    assert found["schema"] == "attnbench.phases/1"
    assert [(row["phase"], row["tokens"]) for row in found["rows"]] == [
        ("prefill", 24), ("decode", 25), ("decode", 26), ("decode", 27),
        ("decode_without_cache", 25), ("decode_without_cache", 26), ("decode_without_cache", 27),
    ]  # fmt: skip
    for row in found["rows"]:
        if row["phase"] != "decode_without_cache":
            assert row["cache_bytes"] == row["predicted_cache_bytes"] > 0
    assert found["cache_bytes_per_token"] == found["predicted_bytes_per_token"]
    assert found["drawn"] is True
    assert found["ttft_ms"] > 0
    assert found["total_ms_without_cache"] > found["ttft_ms"]
    times = [row["time_ms"] for row in found["rows"] if row["phase"] == "decode"]
    assert found["total_ms"] == pytest.approx(found["ttft_ms"] + sum(times))


def test_weights_are_read_where_there_are_any(
    tmp_path: Path, attnbench: Callable[..., Any]
) -> None:
    config = transformers.AutoConfig.for_model(**MODELS["llama"])
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    arguments = ["phases", tmp_path, "--prompt-len", 8, "--new-tokens", 2, "--rounds", 2,
                 "--device", "cpu", "--no-uncached", "--json"]  # fmt: skip
    found = attnbench(*arguments).json
    assert found["drawn"] is False
    assert found["itl_ms_without_cache"] is found["total_ms_without_cache"] is None
    cut = attnbench(*arguments, "--layers", 1).json
    assert cut["drawn"] is True
    assert cut["parameters"] < found["parameters"]
    assert cut["predicted_bytes_per_token"] * 4 == found["predicted_bytes_per_token"]


class Counting(torch.nn.Module):
    """A model that keeps what it was asked, and gives a cache of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(vocab_size=50)
        self.asked: list[tuple[tuple[int, ...], bool, int]] = []

    def forward(
        self, input_ids: Any, logits_to_keep: int, use_cache: bool, past_key_values: Any = None
    ) -> Any:
        held = len(past_key_values or [])
        self.asked.append((tuple(input_ids.shape), use_cache, held))
        cache = [*(past_key_values or []), *torch.zeros(input_ids.shape[1])] if use_cache else None
        logits = torch.zeros(input_ids.shape[0], logits_to_keep, 50)
        return SimpleNamespace(logits=logits, past_key_values=cache)


def test_a_round_is_a_prefill_and_every_step_and_the_first_is_not_counted() -> None:
    model = Counting()
    traffic = Traffic(prompt_len=6, new_tokens=4, batch=3, rounds=2)
    found = run_phases(model, traffic, uncached=True)
    one = [
        ((3, 6), True, 0), ((3, 1), True, 6), ((3, 1), True, 7), ((3, 1), True, 8),
        ((3, 7), False, 0), ((3, 8), False, 0), ((3, 9), False, 0),
    ]  # fmt: skip
    assert model.asked == one * 3
    assert found.prefill.rounds == found.decode[9].rounds == found.uncached[7].rounds == 2
    assert found.cache_bytes == {6: 24, 7: 28, 8: 32, 9: 36}


def test_lengths_without_a_cache_are_first_last_and_some_between() -> None:
    def lengths(new_tokens: int) -> tuple[int, ...]:
        return Traffic(prompt_len=10, new_tokens=new_tokens, batch=1, rounds=2).uncached_lengths()

    assert lengths(2) == (11,)
    assert lengths(3) == (11, 12)
    assert lengths(32) == (11, 21, 31, 41)


def test_a_total_interpolates_between_lengths() -> None:
    assert total_ms(1.0, {4: 2.0}, [4]) == 3.0
    assert total_ms(0.0, {1: 1.0, 3: 3.0, 5: 7.0}, [1, 2, 3, 4, 5]) == 1 + 2 + 3 + 5 + 7


def test_the_bytes_of_a_cache_are_those_of_its_tensors_once() -> None:
    cache = transformers.DynamicCache()
    keys = torch.zeros(2, 3, 5, 7, dtype=torch.float16)
    cache.update(keys, torch.zeros_like(keys), 0)
    cache.update(keys, torch.zeros_like(keys), 1)
    assert cache_bytes(cache) == 4 * keys.numel() * 2
    assert cache_bytes([keys, {"again": keys}]) == keys.numel() * 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["llama-3-70b"], 3, "--layers"),
        (["no-such-model"], 2, "no-such-model"),
        (["./no/config.json"], 2, "no such file"),
        (["gone/config.json"], 2, "no such file"),
        (["gpt2", "--dtype", "fp8"], 2, "--dtype"),
        (["gpt2", "--new-tokens", "1"], 2, "--new-tokens"),
        (["gpt2", "--prompt-len", "2k"], 2, "1024"),
        (["gpt2", "--layers", "13"], 2, "--layers: 13"),
    ],
)
def test_bad_usage_is_named(
    arguments: list[str], code: int, said: str, attnbench: Callable[..., Any]
) -> None:
    ran = attnbench("phases", *arguments, "--device", "cpu")
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert len(ran.err.splitlines()) <= 2


def test_a_model_that_generates_nothing_is_refused(
    tmp_path: Path, attnbench: Callable[..., Any]
) -> None:
    ran = attnbench("phases", folder_of(tmp_path, {"model_type": "t5"}))
    assert ran.code == 2
    assert "no causal language model" in ran.err
