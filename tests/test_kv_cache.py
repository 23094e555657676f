"""`attnbench kv-cache`: the formula, the conventions, the command's JSON, table and errors."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.calc.kv_answer import answer
from attnbench.calc.kv_cache import (
    ConvWidth,
    Rules,
    Semantics,
    Window,
    bytes_per_token,
    kv_cache_bytes,
    per_gpu_bytes,
)
from attnbench.calc.stages import stage_ranges
from attnbench.catalog import load_model
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import ModelSpec

GIB = 1 << 30


@pytest.fixture(scope="module")
def llama() -> ModelSpec:
    return load_model("llama-3-8b")


def total(name: str, rules: Rules, seq_len: int = 4096, batch: int = 1) -> int:
    return kv_cache_bytes(load_model(name), seq_len=seq_len, batch=batch, rules=rules).total


def test_the_explainers_70b_example_is_10_gib_and_an_eighth_of_it() -> None:
    found = answer(load_model("llama-2-70b"), seq_len=4096, batch=1, rules=Rules(dtype=Dtype.FP16))
    assert found.compare.mha == 10_737_418_240 == 10 * GIB
    assert found.total_bytes == 10 * GIB // 8
    assert found.compare.mqa == 10 * GIB // 64


def test_the_explainers_example_from_a_config(
    attnbench: Callable[..., Any], tmp_path: Path
) -> None:
    fields = {
        "model_type": "llama", "num_hidden_layers": 80, "num_attention_heads": 64,
        "head_dim": 128, "hidden_size": 8192, "intermediate_size": 28672, "vocab_size": 32000,
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(fields))
    ran = attnbench("kv-cache", path, "--kv-dtype", "fp16", "--json")
    assert ran.json["total_bytes"] == 10_737_418_240
    table = attnbench("kv-cache", path, "--kv-dtype", "fp16").out
    assert "10.00 GiB" in table
    assert "10.74 GB" in table
    eighth = attnbench("kv-cache", path, "--kv-heads", 8, "--json").json
    assert eighth["total_bytes"] == 1_342_177_280


def test_json_has_every_key_of_the_contract(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("kv-cache", "llama-3-8b", "--json", "--seq-len", "8k", "--batch", 2)
    assert ran.code == 0
    found = ran.json
    assert next(iter(found)) == "schema"
    assert found["schema"] == "attnbench.kv-cache/1"
    expected = {
        "model": "llama-3-8b", "batch": 2, "seq_len": 8192, "kv_dtype": "bf16",
        "semantics": "ideal", "total_bytes": 2 * GIB, "kv_bytes": 2 * GIB, "state_bytes": 0,
        "cross_attention_bytes": 0, "bytes_per_token": 131_072, "per_gpu_bytes": 2 * GIB,
        "tp": 1, "pp": 1, "ideal_bytes": 2 * GIB, "steady_bytes": None, "admission_bytes": None,
    }  # fmt: skip
    assert expected.items() <= found.items()
    assert found["compare"] == {"mha": 8 * GIB, "gqa": 2 * GIB, "mqa": GIB // 4}
    assert found["layers"][0]["kind"] == "full"
    assert found["layers"][0]["count"] == 32
    assert sum(layer["bytes"] for layer in found["layers"]) == found["total_bytes"]
    assert found["assumptions"]


def test_csv_has_a_row_a_layer_kind(attnbench: Callable[..., Any]) -> None:
    lines = attnbench("kv-cache", "gemma-2-9b", "--format", "csv").out.splitlines()
    assert lines[0].startswith("kind,count,kv_heads")
    assert [line.split(",")[0] for line in lines[1:]] == ["sliding", "full"]


@pytest.mark.parametrize(
    ("window", "tokens"), [(Window.W, 4096), (Window.W_MINUS_1, 4095), (Window.ALL, 8192)]
)
def test_a_window_holds_what_its_convention_says(window: Window, tokens: int) -> None:
    found = total("mistral-7b-v0.1", Rules(window=window), seq_len=8192)
    assert found == 32 * 2 * 8 * 128 * 2 * tokens


def test_a_full_window_makes_a_token_free() -> None:
    model = load_model("mistral-7b-v0.1")
    assert bytes_per_token(model, seq_len=100, rules=Rules()) == 32 * 2 * 8 * 128 * 2
    assert bytes_per_token(model, seq_len=4096, rules=Rules()) == 0


def test_latent_attention_is_one_vector_a_token_whatever_tp() -> None:
    model = load_model("deepseek-v3")
    one = 61 * (512 + 64) * 2
    found = answer(model, seq_len=1000, batch=1, rules=Rules(), tp=8)
    assert found.total_bytes == found.per_gpu_bytes == 1000 * one
    apart = total("deepseek-v3", Rules(decompressed=True), seq_len=1000)
    assert apart == 1000 * 61 * 128 * (128 + 64 + 128) * 2


def test_kv_heads_are_copied_where_there_are_fewer_than_ranks(llama: ModelSpec) -> None:
    def on_gpu(tp: int, pp: int = 1) -> int:
        return per_gpu_bytes(llama, seq_len=4096, batch=1, rules=Rules(), tp=tp, pp=pp)

    whole = kv_cache_bytes(llama, seq_len=4096, batch=1, rules=Rules()).total
    assert [on_gpu(tp) for tp in (1, 2, 8, 16, 32)] == [whole // n for n in (1, 2, 8, 8, 8)]
    assert on_gpu(8, 4) == whole // 32
    assert on_gpu(1, 5) == whole * 7 // 32  # 32 layers over 5 stages: 7 at most


def test_stages_hold_every_layer_once() -> None:
    for layers in (1, 7, 32, 61):
        for pp in range(1, layers + 1):
            stages = stage_ranges(layers, pp)
            assert [i for stage in stages for i in stage] == list(range(layers))
            assert {len(stage) for stage in stages} <= {layers // pp, -(-layers // pp)}


def test_state_conventions_are_options() -> None:
    measured = total("bamba-9b", Rules())
    states = 29 * 128 * 64 * 128
    assert measured - total("bamba-9b", Rules(state_dtype=Dtype.BF16)) == 2 * states
    narrower = measured - total("bamba-9b", Rules(conv=ConvWidth.KERNEL_MINUS_1))
    assert narrower == 29 * 8448 * 2


def test_quantised_keys_leave_states_in_16_bits() -> None:
    model = load_model("bamba-9b")
    half, full = (
        kv_cache_bytes(model, seq_len=512, batch=1, rules=Rules(dtype=dtype))
        for dtype in (Dtype.FP8_E4M3, Dtype.BF16)
    )
    assert half.state == full.state
    assert 2 * half.kv == full.kv


def test_whisper_has_fixed_lengths() -> None:
    from attnbench.catalog.adapters import from_config

    fields = {
        "model_type": "whisper", "d_model": 384, "encoder_layers": 4, "decoder_layers": 4,
        "encoder_attention_heads": 6, "decoder_attention_heads": 6, "encoder_ffn_dim": 1536,
        "decoder_ffn_dim": 1536, "vocab_size": 51865, "num_mel_bins": 80,
    }  # fmt: skip
    spec = from_config(fields, label="whisper-tiny", name="whisper-tiny")
    found = kv_cache_bytes(spec, seq_len=4096, batch=1, rules=Rules())
    assert found.kv == 4 * 2 * 384 * 2 * 448
    assert found.cross == 4 * 2 * 384 * 2 * 1500


def test_the_encoders_length_is_an_option(attnbench: Callable[..., Any]) -> None:
    found = attnbench("kv-cache", "t5-small", "--seq-len", 100, "--encoder-len", 500, "--json").json
    assert found["cross_attention_bytes"] == 5 * found["kv_bytes"]


def test_beyond_the_stated_context_is_computed_with_a_note(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("kv-cache", "gpt2", "--seq-len", 2048)
    assert ran.code == 0
    assert "beyond the 1,024" in ran.err


def test_transformers_semantics_are_said(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("kv-cache", "gemma-2-9b", "--semantics", "transformers", "--seq-len", "8k")
    assert "w - 1" in ran.out
    assert Semantics.TRANSFORMERS in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lama-3-8b"], "llama-3-8b"),
        (["llama-3-8b", "--seq-len", "-1"], "--seq-len"),
        (["llama-3-8b", "--seq-len", "0"], "--seq-len"),
        (["llama-3-8b", "--batch", "0"], "--batch"),
        (["llama-3-8b", "--kv-dtype", "bf17"], "bf16"),
        (["llama-3-8b", "--semantics", "magic"], "ideal"),
        (["llama-3-8b", "--tp", "3"], "does not divide"),
        (["llama-3-8b", "--tp", "0"], "--tp"),
        (["llama-3-8b", "--pp", "33"], "32 layers"),
        (["llama-3-8b", "--kv-heads", "5"], "does not divide"),
        (["no/such/file/config.json"], "no such file"),
        ([""], "MODEL is empty"),
    ],
)
def test_bad_usage_exits_2_in_a_line_or_two(
    attnbench: Callable[..., Any], arguments: list[str], said: str
) -> None:
    ran = attnbench("kv-cache", *arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert said in ran.err
    assert len(ran.err.splitlines()) <= 2


def test_parallel_sizes_must_suit_the_model(llama: ModelSpec) -> None:
    with pytest.raises(UserError, match="--tp: 3"):
        answer(llama, seq_len=1, batch=1, rules=Rules(), tp=3)


def test_a_fresh_process_loads_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys; from attnbench.cli import run; run(['kv-cache', 'llama-3-8b', '--json']);"
        "heavy = {'torch', 'triton', 'numpy', 'pandas', 'scipy', 'huggingface_hub'};"
        "sys.exit(3 if heavy & set(sys.modules) else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ran.returncode == 0


def test_longcat_keeps_two_latents_a_layer() -> None:
    from attnbench.calc.params import count
    from attnbench.catalog.adapters import from_config

    fields = {
        "model_type": "longcat_flash", "vocab_size": 131072, "hidden_size": 6144,
        "num_layers": 28, "num_attention_heads": 64, "ffn_hidden_size": 12288,
        "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_topk": 12, "n_routed_experts": 512,
        "zero_expert_num": 256, "expert_ffn_hidden_size": 2048,
    }  # fmt: skip
    spec = from_config(fields, label="longcat", name="longcat")
    assert spec.num_layers == 28
    held = kv_cache_bytes(spec, seq_len=1000, batch=1, rules=Rules()).total
    assert held == 28 * 2 * 576 * 2 * 1000
    # "560B parameters, 18.6B to 31.3B activated, 27B on average": arXiv:2509.01322,
    # whose activated counts leave the embeddings out.
    counted = count(spec)
    assert round(counted.total / 1e9) in (560, 561)
    assert 26e9 < counted.active - 2 * 131072 * 6144 < 28.5e9


def test_a_warning_is_said_on_stderr_and_in_json(
    attnbench: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        '{"model_type": "novel", "hidden_size": 64, "num_hidden_layers": 2, '
        '"num_attention_heads": 4, "vocab_size": 100, "intermediate_size": 128}'
    )
    for command in ("kv-cache", "memory"):
        table = attnbench(command, path)
        assert table.code == 0
        assert "general rule" in table.err
        assert "general rule" not in table.out
        assert "general rule" in attnbench(command, path, "--json").json["warnings"][0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_behind_stdout_is_said_and_exits_3() -> None:
    import subprocess

    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "attnbench", "kv-cache", "llama-3-8b"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ran.returncode == 3
    assert ran.stderr == "attnbench: stdout: No space left on device\n"
