"""`attnbench explain-log` on logs in the form of each engine's releases, and its warnings."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SGLANG_TOKENS = """\
[2025-05-10 10:00:00] server_args=ServerArgs(model_path='meta-llama/Llama-3.1-8B-Instruct', tokenizer_path='meta-llama/Llama-3.1-8B-Instruct', dtype='auto', kv_cache_dtype='auto', quantization=None, context_length=None, mem_fraction_static=0.88, max_running_requests=None, max_total_tokens=None, chunked_prefill_size=8192, tp_size=1, pp_size=1, speculative_algorithm=None)
[2025-05-10 10:00:10] Init torch distributed begin.
[2025-05-10 10:00:11] Init torch distributed ends. mem usage=0.00 GB
[2025-05-10 10:00:11] Load weight begin. avail mem=78.58 GB
[2025-05-10 10:00:20] Load weight end. type=LlamaForCausalLM, dtype=torch.bfloat16, avail mem=63.53 GB, mem usage=15.05 GB.
[2025-05-10 10:00:20] KV Cache is allocated. #tokens: 443193, K size: 27.05 GB, V size: 27.05 GB
[2025-05-10 10:00:20] Memory pool end. avail mem=9.14 GB
[2025-05-10 10:00:21] Capture cuda graph begin. This can take up to several minutes. avail mem=8.58 GB
[2025-05-10 10:00:31] Capture cuda graph end. Time elapsed: 9.90 s. mem usage=0.60 GB. avail mem=7.98 GB.
[2025-05-10 10:00:31] max_total_num_tokens=443193, chunked_prefill_size=8192, max_prefill_tokens=16384, max_running_requests=4096, context_len=131072
"""  # noqa: E501
SGLANG_LATENT = """\
[2025-09-10 10:00:00 TP0] server_args=ServerArgs(model_path='deepseek-ai/DeepSeek-V3', tp_size=8, mem_fraction_static=0.85, kv_cache_dtype='auto', quantization='fp8')
[2025-09-10 10:00:11 TP0] Load weight begin. avail mem=138.09 GB
[2025-09-10 10:01:20 TP0] Load weight end. type=DeepseekV3ForCausalLM, dtype=torch.bfloat16, avail mem=57.53 GB, mem usage=80.56 GB.
[2025-09-10 10:01:20 TP0] KV Cache is allocated. #tokens: 562390, KV size: 36.81 GB
[2025-09-10 10:01:20 TP3] KV Cache is allocated. #tokens: 562390, KV size: 36.81 GB
[2025-09-10 10:01:21 TP0] Memory pool end. avail mem=20.4 GB
[2025-09-10 10:01:31 TP0] max_total_num_tokens=562390, chunked_prefill_size=8192, max_prefill_tokens=16384, max_running_requests=4096, context_len=163840, available_gpu_mem=19.51 GB
"""  # noqa: E501
SGLANG_WINDOWS = """\
[2026-02-10 10:00:00] server_args=ServerArgs(model_path='openai/gpt-oss-20b', tp_size=1, mem_fraction_static=0.835, kv_cache_dtype='auto', quantization='mxfp4')
[2026-02-10 10:00:11] Load weight begin. avail mem=78.58 GB
[2026-02-10 10:00:20] Load weight end. type=GptOssForCausalLM, dtype=torch.bfloat16, avail mem=65.10 GB, mem usage=13.48 GB.
[2026-02-10 10:00:20] Use sliding window memory pool. full_layer_tokens=1265438, swa_layer_tokens=1012350
[2026-02-10 10:00:20] KV Cache is allocated. #tokens: 1012350, K size: 11.59 GB, V size: 11.59 GB
[2026-02-10 10:00:20] KV Cache is allocated. #tokens: 1265438, K size: 14.48 GB, V size: 14.48 GB
[2026-02-10 10:00:20] SWAKVPool mem usage: 52.13 GB, swa size: 1012350, full size: 1265438
[2026-02-10 10:00:31] max_total_num_tokens=1265438, chunked_prefill_size=8192, max_prefill_tokens=16384, max_running_requests=4096, context_len=131072, available_gpu_mem=11.51 GB
"""  # noqa: E501
SGLANG_STATES = """\
[2026-02-10 10:00:00] server_args=ServerArgs(model_path='Qwen/Qwen3-Next-80B-A3B-Instruct', tp_size=4, mem_fraction_static=0.8, kv_cache_dtype='auto')
[2026-02-10 10:00:20 TP0] Load weight end. elapsed=40.12 s, type=Qwen3NextForCausalLM, avail mem=39.10 GB, mem usage=37.48 GB.
[2026-02-10 10:00:20 TP0] Mamba Cache is allocated. max_mamba_cache_size: 1358, conv_state size: 0.56GB, ssm_state size: 11.94GB 
[2026-02-10 10:00:20 TP0] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 1214286, K size: 6.95 GB, V size: 6.95 GB
[2026-02-10 10:00:31 TP0] max_total_num_tokens=1214286, chunked_prefill_size=8192, max_prefill_tokens=16384, max_running_requests=452, context_len=262144, available_gpu_mem=11.51 GB
"""  # noqa: E501
LLAMA_OLD = """\
main: build = 3600 (2fb92678)
llama_model_loader: loaded meta data with 26 key-value pairs and 291 tensors from model.gguf (version GGUF V3 (latest))
llm_load_print_meta: n_layer          = 32
llm_load_print_meta: n_embd_k_gqa     = 1024
llm_load_print_meta: n_embd_v_gqa     = 1024
llm_load_print_meta: general.name     = Meta-Llama-3-8B-Instruct
llm_load_tensors: offloaded 33/33 layers to GPU
llm_load_tensors:        CPU buffer size =   281.81 MiB
llm_load_tensors:      CUDA0 buffer size =  4155.99 MiB
llama_new_context_with_model: n_ctx      = 8192
llama_new_context_with_model: n_batch    = 2048
llama_new_context_with_model: n_ubatch   = 512
llama_kv_cache_init:      CUDA0 KV buffer size =  1024.00 MiB
llama_new_context_with_model: KV self size  = 1024.00 MiB, K (f16):  512.00 MiB, V (f16):  512.00 MiB
llama_new_context_with_model:      CUDA0 compute buffer size =   560.00 MiB
"""  # noqa: E501
LLAMA_WINDOWS = """\
build: 10819 (abcdef0) with GNU 13.3.0 for Linux x86_64
print_info: general.name          = gpt-oss-20b
print_info: n_layer               = 24
print_info: n_swa                 = 128
print_info: n_embd_k_gqa          = 512
print_info: n_embd_v_gqa          = 512
load_tensors: offloaded 25/25 layers to GPU
load_tensors:   CPU_Mapped model buffer size =   586.82 MiB
load_tensors:        CUDA0 model buffer size = 10949.38 MiB
llama_context: n_seq_max             = 4
llama_context: n_ctx                 = 16384
llama_context: n_ctx_seq             = 4096
llama_context: n_batch               = 2048
llama_context: n_ubatch              = 512
llama_context: kv_unified            = false
llama_kv_cache_iswa: creating non-SWA KV cache, size = 4096 cells
llama_kv_cache:      CUDA0 KV buffer size =   384.00 MiB
llama_kv_cache: size =  384.00 MiB (  4096 cells,  12 layers,  4/4 seqs), K (f16):  192.00 MiB, V (f16):  192.00 MiB
llama_kv_cache_iswa: creating     SWA KV cache, size = 768 cells
llama_kv_cache:      CUDA0 KV buffer size =    72.00 MiB
llama_kv_cache: size =   72.00 MiB (   768 cells,  12 layers,  4/4 seqs), K (f16):   36.00 MiB, V (f16):   36.00 MiB
sched_reserve:      CUDA0 compute buffer size =   398.38 MiB
"""  # noqa: E501
LLAMA_LATENT = """\
build: 8200 (abcdef0) with GNU 13.3.0 for Linux x86_64
print_info: general.name     = DeepSeek-V3
print_info: n_layer          = 61
print_info: n_embd_k_gqa     = 576
print_info: n_embd_v_gqa     = 512
llama_context: n_seq_max     = 1
llama_context: n_ctx         = 65536
llama_context: n_ubatch      = 512
llama_kv_cache:      CUDA0 KV buffer size =  4392.00 MiB
llama_kv_cache: size = 4392.00 MiB ( 65536 cells,  61 layers,  1/1 seqs), K (f16): 4392.00 MiB, V (f16):    0.00 MiB
"""  # noqa: E501
LLAMA_STATES = """\
build: 9000 (abcdef0) with GNU 13.3.0 for Linux x86_64
print_info: general.name     = Qwen3.5-27B
print_info: n_layer          = 64
print_info: n_embd_k_gqa     = [0, 0, 0, 1024, 0, 0, 0, 1024]
print_info: n_embd_v_gqa     = [0, 0, 0, 1024, 0, 0, 0, 1024]
llama_context: n_seq_max     = 1
llama_context: n_ctx         = 32768
llama_kv_cache: size = 2048.00 MiB ( 32768 cells,  16 layers,  1/1 seqs), K (f16): 1024.00 MiB, V (f16): 1024.00 MiB
llama_memory_recurrent:      CUDA0 RS buffer size =   149.62 MiB
llama_memory_recurrent: size =  149.62 MiB (     1 cells,  64 layers,  1 seqs), R (f32):    5.62 MiB, S (f32):  144.00 MiB
"""  # noqa: E501

Call = Callable[..., Any]
VLLM = (
    "INFO [core.py:93] Initializing a V1 LLM engine (v{version}) with config: model='{model}', "
    "dtype=torch.bfloat16, max_seq_len={length}, tensor_parallel_size=1, quantization={packed}, "
    "kv_cache_dtype=auto\n"
    "INFO [gpu_worker.py:359] Available KV cache memory: 16.25 {unit}\n"
    "INFO [kv_cache_utils.py:1286] GPU KV cache size: {tokens:,} tokens\n"
)


@pytest.fixture
def explained(attnbench: Call, tmp_path: Path) -> Callable[[str | bytes], Any]:
    def call(text: str | bytes) -> Any:
        path = tmp_path / "server.log"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        ran = attnbench("explain-log", path, "--json")
        assert ran.code == 0, ran.err
        return ran.json

    return call


def vllm(**values: Any) -> str:
    plain = {"version": "0.13.0", "model": "google/gemma-3-12b-it", "length": 9900,
             "packed": None, "unit": "GiB", "tokens": 44368}  # fmt: skip
    return VLLM.format(**{**plain, **values})


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        (SGLANG_TOKENS, {"weights_gib": 15.05, "kv_cache_gib": 54.1, "kv_tokens": 443_193}),
        (SGLANG_LATENT, {"kv_cache_gib": 36.81, "kv_tokens": 562_390}),
        (SGLANG_WINDOWS, {"kv_cache_gib": 52.14, "window_tokens": 1_012_350,
                          "kv_tokens": 1_265_438}),
        (SGLANG_STATES, {"kv_tokens": 1_214_286, "states": 1_358}),
        (LLAMA_OLD, {"cache_mib": 1024}),
        (LLAMA_WINDOWS, {"cache_mib": 72}),
        (LLAMA_LATENT, {"cache_mib": 4392}),
        (LLAMA_STATES, {"cache_mib": 2048, "state_mib": 149.62}),
    ],
)  # fmt: skip
def test_every_figure_of_a_log_is_rebuilt(
    explained: Call, text: str, figures: dict[str, float]
) -> None:
    (server,) = explained(text)["servers"]
    found = {figure["name"]: figure for figure in server["figures"]}
    for name, printed in figures.items():
        assert found[name]["printed"] == pytest.approx(printed), name
        assert found[name]["agrees"] is True, name
        assert found[name]["rebuilt"] == pytest.approx(printed, rel=0.003 + 0.02 * (printed < 16))
    assert all(figure["agrees"] in (True, None) for figure in server["figures"])


def test_a_pool_that_does_not_follow_from_the_free_memory(explained: Call) -> None:
    (server,) = explained(SGLANG_TOKENS.replace("0.88", "0.80"))["servers"]
    (pool,) = (figure for figure in server["figures"] if figure["name"] == "kv_cache_gib")
    assert pool["agrees"] is False
    assert pool["rebuilt"] == pytest.approx(63.53 - 78.58 * 0.2, abs=1e-4)
    assert "static part" in pool["term"]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        # The three meanings of vLLM's line, by version.
        (vllm(version="0.8.5"), '"GPU KV cache size" of vLLM 0.8.5 is num_blocks x 16'),
        (vllm(version="0.13.0"), "is num_blocks // groups x block, which understates hybrids"),
        (vllm(version="0.22.0"), "is int(max_concurrency x max_model_len), which changes"),
        # fp8 weights do not imply an fp8 cache.
        (vllm(packed="fp8"), "do not make the cache fp8"),
        (SGLANG_LATENT, "do not make the cache fp8"),
        # Padding: gemma-3-1b's 4 full and 22 sliding layers.
        (vllm(model="google/gemma-3-1b-it"), "2 padding layers are allocated and hold nothing"),
        (vllm(model="in-house/secret") + "WARNING Add 5 padding layers, may waste", "5 padding"),
        # Groups: tokens are not blocks times block size.
        (vllm(), "stand in 6 groups"),
        # The rank that decides.
        (vllm() + "INFO Available KV cache memory: 17.00 GiB\n", "16.25 to 17 GiB for the cache"),
        # "GB" that is GiB.
        (vllm(version="0.8.5", unit="GB"), '"GB" are GiB'),
        (SGLANG_TOKENS, '"GB" are GiB'),
        # What SGLang's and llama.cpp's lines are taken for.
        (SGLANG_TOKENS, "max_total_num_tokens counts the tokens of all requests"),
        (SGLANG_WINDOWS, "Windows have a pool of their own"),
        (SGLANG_STATES, "up to three of max_mamba_cache_size"),
        (LLAMA_WINDOWS, "n_ctx 16,384 is all 4 sequences' together: each has 4,096"),
        (LLAMA_WINDOWS, "none of them alone"),
        (LLAMA_LATENT, "keys and values in one"),
        (LLAMA_OLD, "MiB (2^20 bytes)"),
    ],
)
def test_the_warning_that_a_log_calls_for(explained: Call, text: str, warning: str) -> None:
    (server,) = explained(text)["servers"]
    assert any(warning in said for said in server["warnings"]), server["warnings"]


def test_an_fp8_cache_beside_fp8_weights_is_not_warned_of(explained: Call) -> None:
    (server,) = explained(vllm(packed="fp8").replace("=auto", "=fp8_e4m3"))["servers"]
    assert not any("do not make" in said for said in server["warnings"])


def test_services_in_one_log_are_told_apart(explained: Call) -> None:
    other = SGLANG_TOKENS.replace("443193", "100000").replace("27.05", "6.10")
    pairs = zip(SGLANG_TOKENS.splitlines(), other.splitlines(), strict=True)
    mixed = [line for a, b in pairs for line in (f"one-1  | {a}", f"two-1  | {b}")]
    first, second = explained("\n".join(mixed))["servers"]
    tokens = [
        {f["printed"] for f in server["figures"] if f["name"] == "kv_tokens"}
        for server in (first, second)
    ]
    assert tokens == [{443193.0}, {100000.0}]


def test_servers_without_a_mark_are_said_to_be_mixed(explained: Call) -> None:
    other = SGLANG_TOKENS.replace("443193", "100000").replace("27.05", "6.10")
    pairs = zip(SGLANG_TOKENS.splitlines(), other.splitlines(), strict=True)
    found = explained("\n".join(line for pair in pairs for line in pair))
    assert any("figures may be mixed" in note for note in found["notes"])


def test_llama_cpp_s_caches_are_printed_twice_by_fit(explained: Call) -> None:
    caches = [line for line in LLAMA_WINDOWS.splitlines() if "llama_kv_cache" in line]
    (server,) = explained(LLAMA_WINDOWS + "\n".join(caches))["servers"]
    assert [figure["printed"] for figure in server["figures"]] == [384, 72]


@pytest.mark.parametrize("encoding", ["gb18030", "cp1251", "utf-8", "utf-16"])
def test_a_log_in_another_language(explained: Call, encoding: str) -> None:
    words = "启动服务器" if encoding == "gb18030" else "запуск сервера"
    text = f"{words}\n{SGLANG_TOKENS}{words} 443\n{words}\n"
    (server,) = explained(text.encode(encoding))["servers"]
    assert all(figure["agrees"] for figure in server["figures"])


@pytest.mark.parametrize("text", [SGLANG_WINDOWS, SGLANG_STATES, LLAMA_WINDOWS, LLAMA_STATES])
def test_logs_of_any_length_are_explained(attnbench: Call, tmp_path: Path, text: str) -> None:
    path = tmp_path / "cut.log"
    for cut in range(0, len(text), 97):
        path.write_text(text[:cut])
        ran = attnbench("explain-log", path, "--json")
        assert ran.code in (0, 5)
        assert not re.search(r"NaN|Infinity", ran.out)
