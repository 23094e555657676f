"""`attnbench explain-log`: what a log says, rebuilt; and logs that are hardly any."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnbench.catalog.engine_log import read_log

VLLM = """\
(APIServer pid=100) INFO 12-11 00:05:00 [api_server.py:1351] vLLM API server version 0.12.0
(APIServer pid=100) INFO 12-11 00:05:00 [utils.py:253] non-default args: {'model': 'Qwen/Qwen3-4B', 'gpu_memory_utilization': 0.85, 'max_num_seqs': 64}
(EngineCore_DP0 pid=200) INFO 12-11 00:05:10 [core.py:93] Initializing a V1 LLM engine (v0.12.0) with config: model='Qwen/Qwen3-4B', speculative_config=None, dtype=torch.bfloat16, max_seq_len=40960, tensor_parallel_size=1, pipeline_parallel_size=1, decode_context_parallel_size=1, quantization=None, enforce_eager=False, kv_cache_dtype=auto
(EngineCore_DP0 pid=200) INFO 12-11 00:06:00 [gpu_model_runner.py:3551] Model loading took 7.5552 GiB memory and 2.1 seconds
(EngineCore_DP0 pid=200) INFO 12-11 00:06:30 [gpu_worker.py:359] Available KV cache memory: 39.28 GiB
(EngineCore_DP0 pid=200) INFO 12-11 00:06:30 [kv_cache_utils.py:1286] GPU KV cache size: 285,984 tokens
(EngineCore_DP0 pid=200) INFO 12-11 00:06:30 [kv_cache_utils.py:1291] Maximum concurrency for 40,960 tokens per request: 6.98x
"""  # noqa: E501
V0 = """\
INFO 03-19 10:00:00 llm_engine.py:234] Initializing a V0 LLM engine (v0.7.3) with config: model='meta-llama/Llama-3.3-70B-Instruct', dtype=torch.bfloat16, max_seq_len=131072, tensor_parallel_size=4, quantization=None, kv_cache_dtype=auto
INFO 03-19 10:03:00 worker.py:267] the current vLLM instance can use total_gpu_memory (79.33GiB) x gpu_memory_utilization (0.90) = 71.40GiB
INFO 03-19 10:03:00 worker.py:267] model weights take 32.95GiB; non_torch_memory takes 0.28GiB; PyTorch activation peak memory takes 1.30GiB; the rest of the memory reserved for KV Cache is 36.07GiB.
INFO 03-19 10:03:01 executor_base.py:111] # cuda blocks: 29547, # CPU blocks: 3276
INFO 03-19 10:03:01 executor_base.py:116] Maximum concurrency for 131072 tokens per request: 3.61x
"""  # noqa: E501
SGLANG = """\
[2025-07-21 03:00:00] server_args=ServerArgs(model_path='Qwen/Qwen3-235B-A22B-FP8', tp_size=4, kv_cache_dtype='auto', context_length=None)
[2025-07-21 03:01:00 TP0] Load weight end. type=Qwen3MoeForCausalLM, dtype=torch.bfloat16, avail mem=22.0 GB, mem usage=55.10 GB.
[2025-07-21 03:01:02 TP0] KV Cache is allocated. #tokens: 367404, K size: 8.23 GB, V size: 8.23 GB
"""  # noqa: E501
LLAMA = """\
build: 6150 (0123abc) with cc (Ubuntu) for x86_64-linux-gnu
print_info: n_embd_k_gqa     = 512
print_info: n_embd_v_gqa     = 512
llama_context: n_ctx         = 131072
llama_kv_cache_unified: size = 4608.00 MiB (131072 cells,  18 layers,  1/1 seqs), K (f16): 2304.00 MiB, V (f16): 2304.00 MiB
llama_kv_cache_unified: size =   45.00 MiB (  1280 cells,  18 layers,  1/1 seqs), K (f16):   22.50 MiB, V (f16):   22.50 MiB
"""  # noqa: E501

Call = Callable[..., Any]


@pytest.fixture
def explained(attnbench: Call, tmp_path: Path) -> Callable[[str | bytes], list[Any]]:
    def call(text: str | bytes) -> list[Any]:
        path = tmp_path / "server.log"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        ran = attnbench("explain-log", path, "--json")
        assert ran.code == 0, ran.err
        servers: list[Any] = ran.json["servers"]
        return servers

    return call


def figures(server: Any) -> dict[str, Any]:
    return {figure["name"]: figure for figure in server["figures"]}


def test_a_vllm_log(explained: Callable[[str], list[Any]]) -> None:
    (server,) = explained(VLLM)
    assert (server["engine"], server["version"], server["model"]) == (
        "vllm", "0.12.0", "Qwen/Qwen3-4B",
    )  # fmt: skip
    assert server["inputs"]["utilization"] == 0.85
    assert server["inputs"]["max_num_seqs"] == 64
    found = figures(server)
    for name in ("weights_gib", "kv_tokens", "max_concurrency"):
        assert found[name]["agrees"] is True, name
    assert any("num_blocks // groups" in text for text in server["warnings"])


def test_a_refusal_to_start(explained: Callable[[str], list[Any]]) -> None:
    # vLLM's own words for 36 layers of 8 heads of 128: 40,960 tokens in 4.50 GiB.
    refused = (
        "ValueError: To serve at least one request with the models's max seq len (40960), "
        "(5.62 GiB KV cache is needed, which is larger than the available KV cache memory "
        "(4.50 GiB). Based on the available memory, the estimated maximum model length is 32768. "
    )
    (server,) = explained("\n".join([*VLLM.splitlines()[:4], refused]))
    found = figures(server)
    assert found["needed_gib"]["rebuilt"] == 5.62
    assert found["longest"]["rebuilt"] == 32768
    assert found["longest"]["agrees"] is True


def test_the_lines_of_v0(explained: Callable[[str], list[Any]]) -> None:
    (server,) = explained(V0)
    found = figures(server)
    assert found["gpu_blocks"]["printed"] == 29547
    for name in ("weights_gib", "gpu_blocks", "max_concurrency"):
        assert found[name]["agrees"] is True, name
    assert found["activation_peak_gib"]["printed"] == 1.3
    assert server["inputs"]["gpu_total_gib"] == 79.33


def test_an_sglang_log_s_gb_are_gib(explained: Callable[[str], list[Any]]) -> None:
    (server,) = explained(SGLANG)
    found = figures(server)
    assert found["kv_tokens"]["agrees"] is True
    assert found["weights_gib"]["agrees"] is True
    assert any('"GB" are GiB' in text for text in server["warnings"])
    assert any("do not make the cache fp8" in text for text in server["warnings"])


def test_a_llama_cpp_log(explained: Callable[[str], list[Any]]) -> None:
    (server,) = explained(LLAMA)
    assert server["version"] == "b6150"
    assert [figure["agrees"] for figure in server["figures"]] == [True, True]


def test_the_option_that_accounts_for_a_difference(
    explained: Callable[[str], list[Any]],
) -> None:
    (server,) = explained(VLLM.replace("285,984", "572,000").replace("6.98x", "13.96x"))
    found = figures(server)
    assert found["kv_tokens"]["agrees"] is False
    assert found["kv_tokens"]["term"] == "the cache is in fp8_e4m3"
    assert found["max_concurrency"]["term"] == "the cache is in fp8_e4m3"


def test_the_rank_that_decides(explained: Callable[[str], list[Any]]) -> None:
    line = "INFO [gpu_worker.py:359] Available KV cache memory: 41.00 GiB\n"
    (server,) = explained(
        VLLM.replace("(EngineCore_DP0 pid=200) INFO 12-11 00:06:30 [kv", line + "[kv", 1)
    )
    assert figures(server)["kv_tokens"]["agrees"] is True
    assert any("the least decides" in text for text in server["warnings"])


def test_size_and_concurrency_in_one_line(explained: Callable[[str], list[Any]]) -> None:
    size, most = (line.split("] ")[-1].strip() for line in VLLM.splitlines()[-2:])
    (server,) = explained("\n".join(VLLM.splitlines()[:-2]) + f"\n{size}, {most}\n")
    assert {"kv_tokens", "max_concurrency"} <= figures(server).keys()


def test_colours_and_carriage_returns(explained: Callable[[str], list[Any]]) -> None:
    coloured = re.sub(r"^(\(\w+ pid=\d+\))", "\x1b[0;36m\\1\x1b[0;0m", VLLM, flags=re.MULTILINE)
    coloured = coloured.replace("cache size: 2", "cache \x1b[1msize: \x1b[0m2")
    (server,) = explained(coloured.replace("\n", "\r\n"))
    assert figures(server)["weights_gib"]["agrees"] is True


def test_utf_16_as_powershell_writes_it(explained: Callable[[bytes], list[Any]]) -> None:
    (server,) = explained(VLLM.encode("utf-16"))
    assert figures(server)["kv_tokens"]["agrees"] is True


def test_two_servers_one_after_the_other(explained: Callable[[str], list[Any]]) -> None:
    other = VLLM.replace("pid=100", "pid=300").replace("pid=200", "pid=400").replace("4B", "8B")
    first, second = explained(VLLM + other)
    assert (first["model"], second["model"]) == ("Qwen/Qwen3-4B", "Qwen/Qwen3-8B")
    assert second["line"] == 8


def test_two_servers_interleaved(explained: Callable[[str], list[Any]]) -> None:
    other = VLLM.replace("pid=100", "pid=300").replace("pid=200", "pid=400").replace("4B", "8B")
    other = other.replace("39.28", "20.00").replace("285,984", "145,616").replace("6.98", "3.55")
    mixed = [
        line for pair in zip(VLLM.splitlines(), other.splitlines(), strict=True) for line in pair
    ]
    first, second = explained("\n".join(mixed))
    assert figures(first)["kv_cache_gib"]["printed"] == 39.28
    assert figures(second)["kv_cache_gib"]["printed"] == 20
    assert any("another server" in text for text in first["warnings"])


def test_engines_side_by_side(explained: Callable[[str], list[Any]]) -> None:
    assert [server["engine"] for server in explained(VLLM + SGLANG + LLAMA)] == [
        "vllm", "sglang", "llama.cpp",
    ]  # fmt: skip


def test_an_unknown_version_and_model_are_named(explained: Callable[[str], list[Any]]) -> None:
    text = VLLM.replace("0.12.0", "main-build").replace("Qwen/Qwen3-4B", "in-house/secret")
    (server,) = explained(text)
    assert any("unknown, as newest" in text for text in server["warnings"])
    assert any("in-house/secret" in text for text in server["missing"])
    assert figures(server)["kv_tokens"]["term"] == "not rebuilt: an input is missing"


def test_bytes_that_are_no_text(attnbench: Call, tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(b"\xff\xfe\x00\x01" * 50 + b"\n" + VLLM.encode() + bytes(range(256)) * 40)
    assert attnbench("explain-log", path, "--json").code in (0, 5)
    path.write_bytes(bytes(range(128, 256)) * 9 + b"\n" + VLLM.encode() + bytes(range(256)) * 40)
    assert attnbench("explain-log", path).code == 0


@pytest.mark.parametrize(
    ("content", "code"), [(b"", 5), (b"\0" * 5000, 5), (b"nothing of interest\n" * 9, 5)]
)
def test_nothing_to_explain(attnbench: Call, tmp_path: Path, content: bytes, code: int) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(content)
    ran = attnbench("explain-log", path)
    assert (ran.code, ran.out) == (code, "")
    assert "no start-up line" in ran.err


@pytest.mark.parametrize("name", [".", "missing.log"])
def test_no_file_to_read(attnbench: Call, tmp_path: Path, name: str) -> None:
    assert attnbench("explain-log", tmp_path / name).code == 2


def test_standard_input(attnbench: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(VLLM.encode())))
    ran = attnbench("explain-log", "-", "--json")
    assert ran.json["file"] == "-"
    assert len(ran.json["servers"]) == 1


@given(cut=st.integers(0, len(VLLM + SGLANG + LLAMA)), start=st.integers(0, 500))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_log_cut_anywhere(attnbench: Call, tmp_path: Path, cut: int, start: int) -> None:
    path = tmp_path / "cut.log"
    path.write_text((VLLM + SGLANG + LLAMA)[start:cut])
    ran = attnbench("explain-log", path, "--json")
    assert ran.code in (0, 5)
    assert "unexpected" not in ran.err


def test_a_line_with_no_end_is_read_a_piece_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    path.write_bytes(b"x" * (3 << 20) + b" GPU KV cache size: 16 tokens " + b"y" * (3 << 20))
    (server,) = read_log(str(path)).servers
    assert server.number("kv_tokens") == 16


def test_repeated_figures_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "many.log"
    path.write_text("GPU KV cache size: 16 tokens\n" * 5000)
    (server,) = read_log(str(path)).servers
    assert len(server.facts["kv_tokens"]) == 256
