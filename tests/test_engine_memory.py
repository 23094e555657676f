"""`memory --engine sglang` and `llama.cpp`, against what they print and their sources."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench import kv_cache, model
from attnbench.calc.engine_kinds import placed
from attnbench.calc.engine_pages import StateMode
from attnbench.calc.quantization import plain_scheme
from attnbench.engines import llama_cpp, sglang_policy, vllm
from attnbench.engines.llama_split import devices, weights
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype

GIB, MIB = 1 << 30, 1 << 20
Call = Callable[..., Any]


def engine_of(attnbench: Call, *arguments: object) -> Any:
    ran = attnbench("memory", *arguments, "--json")
    assert ran.code in (0, 1), ran.err
    return ran.json["engine"]


@pytest.mark.parametrize(
    ("version", "gpu_mib", "tp", "fraction"),
    [
        # By hand from the wheels' formulas.
        ((0, 4, 1), 81559, 8, 0.81),
        ((0, 4, 1), 24564, 1, 0.88),
        ((0, 4, 7), 98304, 1, 0.88),
        ((0, 4, 7), 143771, 1, 1 - 18 * 1024 / 143771),
        ((0, 4, 10), 81559, 1, round(1 - 10 * 1024 / 81559, 3)),
        ((0, 4, 10), 24564, 2, round(1 - 3.0 * 1024 / 24564, 3)),
        ((0, 5, 6), 81559, 1, round(1 - 13440 / 81559, 3)),
        ((0, 5, 6), 24564, 1, round(1 - (512 + 3072 + 48 + 128) / 24564, 3)),
        ((0, 5, 11), 81559, 8, round(1 - (512 + 12288 + 1024 + 1024 + 8 * 58) / 81559, 3)),
        ((0, 5, 23), 183359, 1, round(1 - (512 + 24576 + 1024 + 128 + 8 * 74) / 183359, 3)),
    ],
)
def test_the_static_part_by_release_and_gpu(
    version: tuple[int, ...], gpu_mib: float, tp: int, fraction: float
) -> None:
    steps = sglang_policy.steps(version, gpu_mib, tp)
    made = sglang_policy.static_fraction(
        version,
        gpu_mib=gpu_mib,
        tp=tp,
        pp=1,
        chunk=steps.chunk,
        graph_batch=steps.graph_batch,
        latent=False,
        drafted=False,
        vision=0,
    )
    assert made == pytest.approx(fraction)


def test_sglang_s_pool_of_a_published_log(attnbench: Call) -> None:
    # Qwen3-235B-A22B-FP8 on four H100, --mem-fraction-static 0.93: 16.46 "GB", 367,404 tokens.
    made = engine_of(
        attnbench, "qwen3-235b-a22b", "--weight-dtype", "fp8", "--engine", "sglang@0.4.9",
        "--gpu", "h100-sxm", "--tp", "4", "--utilization", "0.93", "--seq-len", "32k",
    )  # fmt: skip
    cache = made["kv_cache_bytes"]
    assert cache["low"] <= 16.46 * GIB <= cache["high"]
    assert cache["high"] - cache["low"] == 4 * GIB
    each = cache["middle"] / made["kv_tokens"]
    assert 16.46 * GIB / each == pytest.approx(367_404, rel=0.0006)
    (line, summary) = made["log_lines"]
    assert line.startswith(f"KV Cache is allocated. #tokens: {made['kv_tokens']}, K size: ")
    assert summary.startswith(f"max_total_num_tokens={made['kv_tokens']}, chunked_prefill_size=")


def test_sglang_s_windows_have_a_pool_from_0_5_8(attnbench: Call) -> None:
    asked = ("gpt-oss-20b", "--gpu", "h100-sxm", "--seq-len", "8k", "--engine")
    (tokens,) = engine_of(attnbench, *asked, "sglang@0.5.6")["pools"]
    full, window = engine_of(attnbench, *asked, "sglang@0.5.9")["pools"]
    assert window["count"] == int(full["count"] * 0.8)
    each = 12 * 2 * 8 * 64 * 2  # layers, keys and values, heads, width, bytes
    assert full["bytes"] == (full["count"] + 1) * each
    assert window["bytes"] == (window["count"] + 1) * each
    assert full["bytes"] + window["bytes"] == pytest.approx(tokens["bytes"], rel=1e-5)


def test_sglang_s_states_take_nine_tenths_of_the_tokens_bytes(attnbench: Call) -> None:
    made = engine_of(
        attnbench, "qwen3.5-27b", "--gpu", "h100-sxm", "--engine", "sglang", "--seq-len", "8k"
    )
    tokens, states = made["pools"]
    one = states["bytes"] // (states["count"] + 1)
    share = made["kv_cache_bytes"]["middle"] * 0.9 / 1.9
    assert 0 <= share - states["count"] * one <= one  # whole states
    assert tokens["bytes"] + states["count"] * one == pytest.approx(
        made["kv_cache_bytes"]["middle"], rel=1e-4
    )
    assert made["users"] <= states["count"] // 3
    assert made["log_lines"][0].startswith(
        f"Mamba Cache is allocated. max_mamba_cache_size: {states['count']}, conv_state size: "
    )


def test_a_sparse_cache_is_budgeted_as_it_is_stored_from_0_5_17(attnbench: Call) -> None:
    asked = ("deepseek-v3.2", "--gpu", "b200", "--tp", "8", "--kv-dtype", "fp8", "--engine")
    old, new = (engine_of(attnbench, *asked, f"sglang@0.5.{n}") for n in (13, 17))
    assert old["pools"][0]["bytes"] / (old["kv_tokens"] + 64) == 61 * (656 + 132)
    assert new["pools"][0]["bytes"] <= new["kv_cache_bytes"]["middle"] + 64 * 61 * 788
    assert old["pools"][0]["bytes"] > old["kv_cache_bytes"]["middle"]  # it takes more than it asked


@pytest.mark.parametrize("engine", ["sglang", "llama.cpp"])
@pytest.mark.parametrize("name", ["llama-3-8b", "gpt-oss-20b"])
def test_solving_is_checked_by_asking_again(attnbench: Call, engine: str, name: str) -> None:
    asked = ("memory", name, "--engine", engine, "--gpu", "l40s", "--json")

    def solved(*more: object) -> float:
        return float(attnbench(*asked, *more).json["engine"]["solved"])

    most = int(solved("--solve", "max-context", "--batch", 4))
    assert attnbench(*asked, "--seq-len", most, "--batch", 4).code == 0
    users = int(solved("--solve", "max-users", "--seq-len", "32k"))
    assert attnbench(*asked, "--seq-len", "32k", "--batch", users).code == 0
    assert attnbench(*asked, "--seq-len", "32k", "--batch", users + 1).code in (1, 2)
    least = solved("--solve", "utilization")
    assert attnbench(*asked, "--utilization", least).code == 0
    assert attnbench(*asked, "--utilization", round(least - 0.001, 3)).code == 1
    assert solved("--solve", "gpus") == 1


def test_gpus_that_llama_cpp_needs(attnbench: Call) -> None:
    asked = ("memory", "llama-3-70b", "--engine", "llama.cpp", "--gpu", "h100-sxm", "--json")
    assert attnbench(*asked, "--solve", "gpus").json["engine"]["solved"] == 2
    assert attnbench(*asked).code == 1
    assert attnbench(*asked, "--pp", "2").code == 0


def test_llama_cpp_s_lines_are_a_published_log_s(attnbench: Call) -> None:
    # gpt-oss: 12 layers at full length, 12 with a window of 128; cache f16.
    made = engine_of(
        attnbench, "gpt-oss-20b", "--gpu", "rtx-4090", "--engine", "llama.cpp", "--seq-len", "4k"
    )
    assert [line for line in made["log_lines"] if "size = " in line and "cells" in line] == [
        "llama_kv_cache: size =   96.00 MiB (  4096 cells,  12 layers,  1/1 seqs), "
        "K (f16):   48.00 MiB, V (f16):   48.00 MiB",
        "llama_kv_cache: size =   18.00 MiB (   768 cells,  12 layers,  1/1 seqs), "
        "K (f16):    9.00 MiB, V (f16):    9.00 MiB",
    ]


@pytest.mark.parametrize(
    ("build", "start"),
    [
        ((4000,), "llama_new_context_with_model: KV self size  ="),
        ((5400,), "llama_kv_cache_unified: KV self size  ="),
        ((5700,), "llama_kv_cache_unified: size =  128.00 MiB (  4096 cells,   4 layers,  1 seqs)"),
        (
            (6182,),
            "llama_kv_cache_unified: size =  128.00 MiB (  4096 cells,   4 layers,  1/1 seqs",
        ),
        (None, "llama_kv_cache: size =  128.00 MiB (  4096 cells,   4 layers,  1/1 seqs), K (f16)"),
    ],
)
def test_the_line_of_each_build(build: tuple[int, ...] | None, start: str) -> None:
    cache = llama_cpp.Cache(
        name="full", cells=4096, indices=(0, 1, 2, 3), keys=64 * MIB, values=64 * MIB
    )
    line = llama_cpp.cache_line(
        llama_cpp.policy(build), cache, kind="f16", sequences=1, streams=1, layers=4
    )
    assert line.startswith(start)


def test_latents_by_build() -> None:
    # DeepSeek-V3 at 65,536: K (f16): 4392.00 MiB, V (f16): 3904.00 MiB; and later no values.
    layers = placed(model("deepseek-v3"))
    (old,) = llama_cpp.caches(layers, ctx=65536, latents=llama_cpp.policy((6000,)).latents)
    assert (old.keys / MIB, old.values / MIB) == (4392.0, 3904.0)
    (new,) = llama_cpp.caches(layers, ctx=65536)
    assert (new.keys, new.values) == (old.keys, 0)


def test_sequences_share_a_stream_or_have_their_own() -> None:
    # 32 layers of 8 heads of 128 in q8_0: 2 · 32 · 1024 · 34/32 bytes a cell.
    layers = placed(model("mistral-7b"))
    size = llama_cpp.CACHE_BYTES["q8_0"]
    own = llama_cpp.caches(layers, ctx=512, sequences=10, element_bytes=size)
    shared = llama_cpp.caches(layers, ctx=512, sequences=10, element_bytes=size, unified=True)
    assert [(cache.cells, cache.bytes / MIB) for cache in (*own, *shared)] == [
        (512, 340.0), (5120, 340.0),
    ]  # fmt: skip


def test_layers_are_dealt_out_in_order() -> None:
    assert devices(4, gpus=2, offloaded=None) == (0, 0, 0, 1, 1)
    assert devices(4, gpus=1, offloaded=0) == (-1,) * 5
    assert devices(32, gpus=3, offloaded=20).count(-1) == 13


def test_layers_that_stay_behind_take_their_cache_along(attnbench: Call) -> None:
    asked = ("llama-3-8b", "--gpu", "rtx-4090", "--engine", "llama.cpp", "--seq-len", "8k")
    whole = engine_of(attnbench, *asked)
    some = engine_of(attnbench, *asked, "--gpu-layers", "17")
    assert "CPU KV buffer size =   512.00 MiB" in "\n".join(some["log_lines"])
    assert some["weights_bytes"] < whole["weights_bytes"]


def test_parts_of_the_weights_are_all_of_them() -> None:
    for name, tied in (("llama-3-8b", False), ("gemma-2-9b", True)):
        spec = model(name)
        made = weights(spec, plain_scheme(Dtype.BF16, Dtype.BF16))
        total = 2 * sum(tensor.elements * n for tensor, n in spec.parameters())
        again = 2 * spec.vocab_size * spec.hidden_size if tied else 0
        assert made.total == total + again


def test_a_gguf_file_s_weights_are_its_bytes(attnbench: Call, tmp_path: Path) -> None:
    gguf, np = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_block_count, 2), (writer.add_context_length, 4096),
        (writer.add_embedding_length, 256), (writer.add_feed_forward_length, 512),
        (writer.add_head_count, 4), (writer.add_head_count_kv, 2),
    ):  # fmt: skip
        add(value)
    shapes = {"attn_q": (256, 256), "attn_k": (128, 256), "attn_v": (128, 256),
              "attn_output": (256, 256), "ffn_gate": (512, 256), "ffn_up": (512, 256),
              "ffn_down": (256, 512)}  # fmt: skip
    kind = gguf.GGMLQuantizationType.Q8_0
    for layer in range(2):
        for name, (rows, columns) in shapes.items():
            raw = np.zeros((rows, columns // 32 * 34), dtype=np.uint8)
            writer.add_tensor(f"blk.{layer}.{name}.weight", raw, raw_dtype=kind)
    for name in ("token_embd", "output"):
        writer.add_tensor(f"{name}.weight", np.zeros((1000, 256), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    made = engine_of(attnbench, path, "--engine", "llama.cpp", "--gpu", "rtx-4090")
    a_layer = sum(rows * columns for rows, columns in shapes.values()) // 32 * 34
    assert made["weights_bytes"] == 2 * a_layer + 1000 * 256 * 2
    assert "CPU_Mapped model buffer size =     0.49 MiB" in "\n".join(made["log_lines"])
    stored = 2 * a_layer + 2 * 1000 * 256 * 2
    for engine in ("vllm", "sglang"):
        made = engine_of(attnbench, path, "--engine", engine, "--gpu", "rtx-4090")
        rotary = 2 * sum(model(str(path)).rotary)
        assert made["weights_bytes"] == pytest.approx(stored + rotary, rel=0.001)


def test_a_draft_model_has_layers_and_weights_of_its_own(attnbench: Call) -> None:
    asked = ("llama-3-70b", "--gpu", "h100-sxm", "--tp", "4", "--seq-len", "8k", "--engine")
    for engine in ("vllm@0.13.0", "sglang@0.5.23"):
        alone, drafted = (
            engine_of(attnbench, *asked, engine, *more)
            for more in ((), ("--draft-model", "llama-3.2-1b", "--speculative-tokens", "4"))
        )
        weights = drafted["weights_bytes"] - alone["weights_bytes"]
        drafter = model("llama-3.2-1b")
        rotary = 2 * sum(drafter.rotary)
        assert weights == pytest.approx(2 * 1_235_814_400 / 4 + rotary, rel=0.005)
        # 80 layers of 2 heads of 128 a rank, and 16 of 2 heads of 64.
        share = drafted["kv_tokens"] / drafted["kv_cache_bytes"]["middle"]
        share /= alone["kv_tokens"] / alone["kv_cache_bytes"]["middle"]
        draft = 16 * 2 * 64 / (80 * 2 * 128)
        assert share == pytest.approx(1 / (1 + draft), rel=0.002)


def test_the_api_answers_as_an_engine_does(attnbench: Call) -> None:
    made = kv_cache(
        "qwen3.5-27b", seq_len=5000, semantics="vllm@0.20.2", speculative_tokens=3, draft_layers=1
    )
    shown = attnbench(
        "kv-cache", "qwen3.5-27b", "--seq-len", "5000", "--semantics", "vllm@0.20.2",
        "--speculative-tokens", "3", "--draft-layers", "1", "--json",
    ).json  # fmt: skip
    assert (made.ideal_bytes, made.steady_bytes, made.admission_bytes) == (
        shown["ideal_bytes"], shown["steady_bytes"], shown["admission_bytes"],
    )  # fmt: skip
    assert made.engine is not None
    assert shown["engine"]["block_tokens"] == made.engine["block_tokens"] == 800
    assert [group["layers"] for group in shown["engine"]["groups"]] == [17, 16, 16, 16]
    assert shown["engine"]["padding_layers"] == 3
    with pytest.raises(UserError, match="pages"):
        kv_cache("gpt2", page_size=16)
    with pytest.raises(UserError, match="sglang has no such option"):
        kv_cache("gpt2", semantics="sglang", dcp=2)


@pytest.mark.parametrize(
    ("arguments", "figures"),
    [
        # tp over the KV heads: a head a rank, twice the ideal over all of them.
        (["llama-3-8b", "--tp", "16", "--seq-len", "4096"], (2, 2)),
        # MLA stands whole on each of eight ranks; eight context-parallel ones share tokens.
        (["deepseek-v3", "--tp", "8", "--seq-len", "4096"], (8, 8)),
        (["deepseek-v3", "--tp", "8", "--dcp", "8", "--seq-len", "4096"], (1, 1)),
        # 656 bytes in place of 576 at fp8.
        (["deepseek-v3", "--kv-dtype", "fp8_ds_mla", "--seq-len", "4096"], (656 / 576, 656 / 576)),
        (["llama-3-70b", "--kv-dtype", "fp8", "--seq-len", "4096"], (1, 1)),
        (["llama-3-8b", "--draft-layers", "1", "--seq-len", "4096"], (33 / 32, 33 / 32)),
    ],
)
def test_what_vllm_holds_beside_the_ideal(
    attnbench: Call, arguments: list[str], figures: tuple[float, float]
) -> None:
    made = attnbench("kv-cache", *arguments, "--semantics", "vllm", "--json").json
    assert made["steady_bytes"] / made["ideal_bytes"] == figures[0]
    assert made["admission_bytes"] / made["ideal_bytes"] == figures[1]


def test_the_stage_that_decides(attnbench: Call) -> None:
    made = attnbench("kv-cache", "llama-3-70b", "--pp", "3", "--semantics", "vllm", "--json").json[
        "engine"
    ]  # 27, 27 and 26 layers of 16 tokens of 4 KiB
    assert made["block_bytes_by_stage"] == [16 * 4096 * n for n in (27, 27, 26)]
    assert made["deciding_stage"] == 0


def test_a_short_prompt_that_pins_a_third_of_the_pool(attnbench: Call) -> None:
    # One full and three groups of states: four blocks for a token, of under twelve.
    def asked(share: float) -> Any:
        return attnbench(
            "memory", "qwen3.5-27b", "--weight-dtype", "int4", "--gpu", "rtx-4090",
            "--seq-len", "2k", "--engine", "vllm@0.25.1", "--max-num-seqs", "8",
            "--kv-dtype", "fp8", "--utilization", share,
        )  # fmt: skip

    found = []
    for percent in range(80, 100):
        made = re.search(r"Blocks: (\d+) of 1,568", asked(percent / 100).out)
        assert made is not None
        pins = "a prompt of one token pins 4 of" in asked(percent / 100).out
        assert pins == (0 < int(made[1]) <= 12)
        found.append(pins)
    assert any(found)
    assert not all(found)


@pytest.mark.parametrize(
    ("mode", "block", "blocks"),
    [("none", 528, 10 + 9), ("align", 528, 10 + 9 * 2), ("all", 768, 7 + 9 * 7)],
)
def test_states_by_mode(attnbench: Call, mode: str, block: int, blocks: int) -> None:
    # One group of 4 full layers, nine of 4 Mamba-2 layers, whose scan reads 256 tokens at once.
    made = attnbench(
        "kv-cache", "granite-4.0-h-micro", "--semantics", "vllm@0.15.1", "--seq-len", "5000",
        "--state-mode", mode, "--json",
    ).json["engine"]  # fmt: skip
    assert made["block_tokens"] == block
    assert made["state_mode"] == mode
    assert sum(group["blocks_admission"] for group in made["groups"]) == blocks


@pytest.mark.parametrize(("version", "align"), [((0, 15, 1), 64), ((0, 33), 128)])
def test_latents_align_a_hybrid_s_block(version: tuple[int, ...], align: int) -> None:
    assert vllm.state_align(version, latent=True, mode=StateMode.NONE, scan=0) == align
    assert vllm.state_align(version, latent=False, mode=StateMode.ALIGN, scan=256) == 16
    assert vllm.state_align(version, latent=False, mode=StateMode.ALL, scan=256) == 256
    assert vllm.state_align(version, latent=False, mode=StateMode.ALL, scan=0) == 2048


def test_the_error_that_stands_in_place_of_the_sizes(attnbench: Call) -> None:
    asked = ("llama-3-8b", "--gpu", "l4", "--seq-len", "128k", "--engine")
    (line,) = engine_of(attnbench, *asked, "vllm@0.15.1")["log_lines"]
    found = re.fullmatch(
        r"ValueError: To serve at least one request with the models's max seq len \(131072\), "
        r"\(16\.00 GiB KV cache is needed, which is larger than the available KV cache memory "
        r"\(([\d.]+) GiB\)\. Based on the available memory, the estimated maximum model length "
        r"is (\d+)\.",
        line,
    )
    assert found is not None, line
    rounding = 0.005 * GIB / (128 << 10) + 16  # 128 KiB a token, in blocks of 16
    assert abs(int(found[2]) - float(found[1]) * GIB / (128 << 10)) <= rounding
    assert "the model's max" in engine_of(attnbench, *asked, "vllm@0.33.0")["log_lines"][0]
    none = engine_of(attnbench, "llama-3-8b", "--gpu", "t4", "--engine", "sglang")["log_lines"]
    assert none == [
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."
    ]


def test_one_more_token_of_llama_cpp_costs_a_cell(attnbench: Call) -> None:
    for name, more, size in (
        ("deepseek-v3", "llama.cpp@b4000", 61 * 128 * (192 + 128) * 2),
        ("deepseek-v3", "llama.cpp", 61 * 576 * 2),
        ("gpt-oss-20b", "llama.cpp", 12 * 8 * 64 * 2 * 2),
    ):
        made = attnbench("kv-cache", name, "--semantics", more, "--batch", "2", "--json").json
        assert made["bytes_per_token"] == size, more
