"""Engines' allocation, against what their start-up logs and sources say."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench import model
from attnbench.calc.engine_budget import sparse_workspace
from attnbench.calc.engine_kinds import Widths, kinds, placed
from attnbench.calc.engine_pages import (
    Group,
    Held,
    Kind,
    Load,
    Plan,
    StateMode,
    aligned_block,
    blocks_held,
    blocks_needed,
    longest,
    plan,
)
from attnbench.calc.engine_weights import Pad, weights_on_rank
from attnbench.calc.parallel import Parallel
from attnbench.calc.quantization import plain_scheme
from attnbench.catalog.adapters import from_config
from attnbench.catalog.engine_rows import RowLayers, placed_layers
from attnbench.catalog.hardware import load_gpu
from attnbench.catalog.loose_names import gpus_for, profile_for
from attnbench.catalog.quantization_config import scheme_of
from attnbench.catalog.stated_formats import (
    Unstated,
    kv_format,
    stated_kv,
    stated_scheme,
    weight_format,
)
from attnbench.engines import llama_cpp, sglang, vllm
from attnbench.engines._versions import parse_version
from attnbench.engines.launch import Launch, budget_of, bytes_per_token, layout, pool
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Full, Sliding

GIB = 1 << 30
QWEN_27B = RowLayers(
    full=16, gdn=48, kv=4, hd=256, lk=16, lv=48, dk=128, dv=128, conv=4, ssm=4
)  # Qwen3.5-27B's config.json


def launch(layers: RowLayers, **values: Any) -> Launch:
    wide = Dtype.FP32 if layers.ssm == 4 else Dtype.BF16
    return Launch(layers=placed_layers(layers), state_dtype=wide, **values)


@pytest.mark.parametrize(
    ("layers", "values", "block"),
    [
        # "Setting attention block size to N tokens", vLLM's logs of these models.
        (RowLayers(full=8, gdn=24, kv=4, hd=256, lk=16, lv=32, dk=128, dv=128, conv=4, ssm=4),
         {"tp": 4}, 528),
        (RowLayers(full=12, gdn=36, kv=2, hd=256, lk=16, lv=32, dk=128, dv=128, conv=4, ssm=2),
         {"tp": 2}, 544),
        (QWEN_27B, {"tp": 4}, 784),
        (QWEN_27B, {"speculative": 3}, 800),
        (QWEN_27B, {"speculative": 3, "kv": Dtype.FP8_E4M3}, 1600),
        (QWEN_27B, {"tp": 2, "kv": Dtype.FP8_E4M3}, 1568),
        (RowLayers(full=10, gdn=30, kv=2, hd=256, lk=16, lv=32, dk=128, dv=128, conv=4, ssm=4),
         {"speculative": 3}, 1072),
    ],
)  # fmt: skip
def test_a_hybrid_s_block_is_the_one_its_log_prints(
    layers: RowLayers, values: dict[str, Any], block: int
) -> None:
    assert layout(launch(layers, **values)).block == block


def test_a_hybrid_with_drafts_is_the_published_pool() -> None:
    # Qwen3.8-27B-INT4 with three speculative tokens, vLLM 0.25.1: 80.17 GiB.
    start = launch(QWEN_27B, version=(0, 25, 1), speculative=3, drafts=1, max_model_len=262144)
    made = pool(start, int(80.17 * GIB))
    assert [len(group.indices) + group.padding for group in made.plan.groups] == [17] * 4
    assert made.plan.padding == 3
    assert made.blocks == 1545
    assert made.blocks_of_request == 328 + 3 * 4
    assert made.tokens == 1_191_213
    assert made.lines[0] == "GPU KV cache size: 1,191,213 tokens"


def test_gemma_3_1b_is_padded_by_two_layers() -> None:
    assert layout(Launch(layers=placed(model("gemma-3-1b")))).padding == 2


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("llama-3.3-70b", {"tp": 4}, 81_920),
        ("qwen3-235b-a22b", {"tp": 8, "kv": Dtype.FP8_E4M3}, 24_064),
        ("kimi-k2", {"tp": 8}, 70_272),
        ("kimi-k2", {"tp": 8, "dcp": 8}, 70_272),
        ("glm-5.1", {"tp": 8, "kv": Dtype.FP8_E4M3}, 78 * (656 + 132)),
    ],
)
def test_bytes_of_a_token_on_a_gpu(name: str, values: dict[str, Any], expected: int) -> None:
    assert bytes_per_token(Launch(layers=placed(model(name)), **values)) == expected


def test_the_printed_line_means_three_things() -> None:
    layers = RowLayers(full=8, swa=40, win=1024, kv=8, hd=256)
    size = int(16.25 * GIB)

    def tokens(version: tuple[int, ...]) -> int | None:
        return pool(launch(layers, version=version, max_model_len=9900), size).tokens

    assert tokens((0, 8, 5)) == size // (131072 * 48) * 16  # windows at full length
    assert tokens((0, 13)) == 44_368  # as the log of gemma-3-12b prints
    assert tokens((0, 22)) == int(size // (131072 * 8) / (619 + 5 * 193) * 9900)


def test_a_group_size_is_the_largest_where_kinds_are_near() -> None:
    near = RowLayers(full=13, swa=12, win=128, kv=8, hd=64)
    assert [g.padding for g in layout(launch(near, version=(0, 15))).groups] == [0, 1]
    assert len(layout(launch(near, version=(0, 11))).groups) == 3
    wider = RowLayers(full=16, swa=12, win=128, kv=8, hd=64)  # 1.33 times
    assert len(layout(launch(wider, version=(0, 15))).groups) == 3
    assert len(layout(launch(wider, version=(0, 18))).groups) == 2


def test_pages_of_two_sizes_are_made_one() -> None:
    # Gemma 4: windows of 16 heads of 256, global layers of 4 heads of 512.
    layers = RowLayers(full=10, swa=50, win=1024, kv=16, hd=256, gkv=4, ghd=512)
    planned = layout(launch(layers))
    blocks = {group.kind.name: group.kind.block for group in planned.groups}
    assert blocks == {"full": 32, "sliding": 16}
    assert planned.block_bytes == (10 * 16 * 16 * 512 * 2,)


def test_the_fullest_stage_decides() -> None:
    layers = RowLayers(full=10, kv=8, hd=128)
    two = layout(launch(layers, pp=4))
    assert [size // (16 * 8 * 256 * 2) for size in two.block_bytes] == [2, 3, 3, 2]
    assert pool(launch(layers, pp=4, max_model_len=16), GIB).blocks == GIB // max(two.block_bytes)


def test_context_parallel_ranks_share_tokens() -> None:
    start = Launch(
        layers=placed(model("kimi-k2")), tp=8, dcp=8, max_model_len=65536, version=(0, 12)
    )
    made = pool(start, int(46.8 * GIB))
    assert made.tokens == pytest.approx(5_721_088, rel=0.0003)  # as its log prints
    assert made.blocks_of_request == 65536 // 8 // 16


@pytest.mark.parametrize(
    ("mode", "blocks"), [(StateMode.NONE, 4), (StateMode.ALIGN, 5), (StateMode.ALL, 2)]
)
def test_states_of_a_request(mode: StateMode, blocks: int) -> None:
    state = Kind(name="mamba", held=Held.STATE, indices=(0,), state_bytes=1, block=528)
    alone = Plan(groups=(Group(kind=state, indices=(0,)),), block_bytes=(1,), uniform=True)
    assert blocks_needed(alone, 1000, Load(step_tokens=1, speculative=3, mode=mode)) == blocks


@given(
    tokens=st.integers(1, 300_000),
    window=st.integers(1, 9000),
    block=st.sampled_from([1, 16, 32, 784]),
    step=st.integers(1, 20_000),
)
def test_what_is_held_never_passes_what_was_asked(
    tokens: int, window: int, block: int, step: int
) -> None:
    mixers = (
        (Full(heads=1, kv_heads=1, key_dim=8, value_dim=8), (0, 2)),
        (Sliding(heads=1, kv_heads=1, key_dim=8, value_dim=8, window=window), (1, 3, 4)),
    )
    planned = plan(kinds(mixers, Widths(kv=2, block=block)), (range(5),), pad_below=1.5)
    load = Load(step_tokens=step)
    asked = blocks_needed(planned, tokens, load)
    assert blocks_held(planned, tokens, load) <= asked
    assert longest(planned, asked, load, 400_000) >= tokens
    assert longest(planned, 0, load, 400_000) == 0


def test_an_aligned_block_holds_a_state() -> None:
    block = aligned_block(3_268_608, 4096, align=16, least=16)
    assert block == 800
    assert (block - 16) * 4096 < 3_268_608 <= block * 4096
    assert aligned_block(10, 4096, align=16, least=32) == 32


@pytest.mark.parametrize(
    ("words", "version"),
    [
        ("0.20.2rc1.dev249+glm20260514", (0, 20, 2)),
        ("image vllm/vllm-openai:v0.9.2", (0, 9, 2)),
        ("V0, 2025-03-19 (worker.py:267)", (0, 7)),
        ("2025-11 build", (0, 11, 0)),
        ("latest", None),
        (None, None),
    ],
)
def test_a_release_by_number_engine_or_date(words: str | None, version: Any) -> None:
    assert vllm.version_of(words) == version


def test_a_build_number_is_a_version() -> None:
    assert parse_version("b6150") == (6150,)


@pytest.mark.parametrize(
    ("version", "utilization", "meaning", "graphs"),
    [
        ((0, 15, 1), 0.90, vllm.TokensLine.PER_GROUP, False),
        ((0, 20, 0), 0.92, vllm.TokensLine.PER_GROUP, True),
        ((0, 20, 2), 0.92, vllm.TokensLine.CONCURRENCY, True),
        (None, 0.92, vllm.TokensLine.CONCURRENCY, True),
    ],
)
def test_rules_by_release(
    version: Any, utilization: float, meaning: vllm.TokensLine, graphs: bool
) -> None:
    rules = vllm.policy(version)
    assert (rules.utilization, rules.tokens_line, rules.graphs_in_budget) == (
        utilization, meaning, graphs,
    )  # fmt: skip


def test_hybrids_cache_prefixes_and_lines_merge_from_0_28() -> None:
    assert vllm.policy((0, 27)).state_mode is StateMode.NONE
    assert vllm.policy((0, 28)).state_mode is StateMode.ALIGN
    start = launch(QWEN_27B, version=(0, 28), max_model_len=4096)
    (line,) = pool(start, 40 * GIB).lines
    assert "tokens, Maximum concurrency for 4,096 tokens per request: " in line


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "llama-3.1-8b"),
        ("Qwen2___5-3B", "qwen2.5-3b"),
        ("lukealonso/GLM-5.1-NVFP4-MTP", "glm-5.1"),
        ("cpatonn/Qwen3-Coder-30B-A3B-Instruct-GPTQ-4bit", "qwen3-30b-a3b"),
        ("/models/openai/gpt-oss-120b", "gpt-oss-120b"),
        ("DeepSeek-R1-Distill-Qwen-32B Q4_K_M (n_layer 64)", "qwen2.5-32b"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "llama-3.1-8b"),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistral-small-3.1-24b"),
        ("zai-org/GLM-4.6-FP8", "glm-4.5"),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", "nemotron-3-nano-30b-a3b"),
        ("mistralai/Mistral-Large-3-675B-Instruct-2512", None),
        ("somebody/never-seen", None),
        ("", None),
    ],
)
def test_a_model_by_the_name_in_a_log(words: str, name: str | None) -> None:
    assert profile_for(words) == name


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("NVIDIA H100 80GB HBM3 (log: device_name)", ["h100-sxm"]),
        ("2x RTX 3090", ["rtx-3090"]),
        ("NVIDIA A100-SXM4-40GB (same file)", ["a100-40gb-sxm"]),
        ("A100", ["a100-40gb-sxm", "a100-80gb-sxm"]),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", ["rtx-pro-6000-blackwell"]),
        ("CUDA device", []),
    ],
)
def test_a_gpu_by_the_name_in_a_log(words: str, names: list[str]) -> None:
    assert [gpu.name for gpu in gpus_for(words)] == names


@pytest.mark.parametrize(
    ("words", "model_name", "expected"),
    [
        ("bfloat16 / quantization=fp8", "Qwen3-235B-A22B-FP8", Dtype.FP8_E4M3),
        ("bfloat16 / quantization=compressed-tensors", "x/Y-14B-FP8-dynamic", Dtype.FP8_E4M3),
        ("bfloat16 / quantization=compressed-tensors", "x/Y-GPTQ-4bit", Dtype.INT4),
        ("bfloat16 / quantization=modelopt_fp4", "GLM", Dtype.NVFP4),
        ("bfloat16 / quantization=gptq_marlin", "x/Y-30B-gptq-8bit", Dtype.INT8),
        ("bfloat16", "unsloth/gpt-oss-20b-BF16", Dtype.BF16),
        ("float16 / quantization=bitsandbytes", "x", "nf4"),
        ("bf16/fp16 (unstated)", "x", None),
        (None, "x", None),
    ],
)
def test_a_format_as_a_log_states_it(words: str | None, model_name: str, expected: Any) -> None:
    assert weight_format(words, model_name) == expected


def test_a_format_that_is_not_said_is_no_guess() -> None:
    with pytest.raises(Unstated, match="not said"):
        weight_format("bfloat16 / quantization=compressed-tensors", "org/plain-name")


def test_fp8_weights_leave_the_cache_as_it_is() -> None:
    assert kv_format("auto", Dtype.BF16, "quantization=fp8") is Dtype.BF16
    assert kv_format("fp8_e4m3", Dtype.BF16) is Dtype.FP8_E4M3


@pytest.mark.parametrize(
    ("tp", "gpu", "words", "gib"),
    [
        # "Model loading took", gpt-oss-120b: Hopper's kernel, Marlin on it, Marlin on A100.
        (1, "h100-sxm", "", 64.38),
        (1, "h100-sxm", "mxfp4 (marlin)", 65.9651),
        (4, "a100-80gb-sxm", "", 17.2217),
    ],
)
def test_mxfp4_kernels_pad_experts(tp: int, gpu: str, words: str, gib: float) -> None:
    spec = model("gpt-oss-120b")
    scheme = scheme_of(spec)
    loader = vllm.loader((0, 11), load_gpu(gpu), scheme, words)
    made = weights_on_rank(spec, scheme, Parallel(tp=tp), loader=loader) / GIB
    assert made == pytest.approx(gib, rel=0.005)


@pytest.mark.parametrize(
    ("name", "tp", "gib"),
    [
        # "Model loading took" as vLLM 0.9 to 0.18 printed it on GPUs of NVIDIA, 16 bits.
        ("qwen2.5-3b", 1, 5.7916),
        ("qwen3-4b", 1, 7.5552),
        ("qwen2.5-7b", 1, 14.2488),
        ("qwen2.5-7b", 2, 7.1217),
        ("qwen2.5-14b", 4, 6.9461),
        ("qwen3-32b", 8, 7.6871),
        ("llama-3-8b", 4, 3.7418),
        ("qwen3-30b-a3b", 2, 28.4571),
        ("qwen3-vl-30b-a3b", 2, 29.3114),
    ],
)
def test_the_allocator_rounds_weights_as_logs_show(name: str, tp: int, gib: float) -> None:
    spec = model(name)
    made = weights_on_rank(spec, scheme_of(spec), Parallel(tp=tp)) / GIB
    assert made == pytest.approx(gib, abs=0.007)


@pytest.mark.parametrize(
    ("name", "tp", "gib"), [("gemma-3-12b", 1, 13.5273), ("qwen3-14b", 2, 7.8555)]
)
def test_amd_figures_are_what_the_device_has_in_use(name: str, tp: int, gib: float) -> None:
    # RedHatAI's FP8-dynamic checkpoints on a Radeon AI PRO R9700, vLLM 0.13.
    spec = model(name)
    scheme = plain_scheme(Dtype.FP8_E4M3, Dtype.BF16)
    loader = vllm.loader((0, 13), load_gpu("r9700"), scheme, "")
    made = weights_on_rank(spec, scheme, Parallel(tp=tp), loader=loader) / GIB
    assert made == pytest.approx(gib, rel=0.003)


@pytest.mark.parametrize(
    ("config", "elements"),
    [
        ({"rope_scaling": {"rope_type": "linear", "factor": 8.0}}, 8 * 4096 * 64),
        ({"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 1024}},
         4 * 1024 * 64),
        ({"rope_scaling": {"rope_type": "default", "mrope_section": [8, 12, 12]}}, 4 * 4096 * 64),
        ({"partial_rotary_factor": 0.5}, 4096 * 32),
        ({}, 4096 * 64),
    ],
)  # fmt: skip
def test_rotary_tables_have_the_rows_of_their_kind(config: dict[str, Any], elements: int) -> None:
    spec = from_config(
        {
            "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 2, "vocab_size": 512,
            "num_attention_heads": 4, "intermediate_size": 512, "max_position_embeddings": 4096,
            **config,
        },
        label="config.json", name="made",
    )  # fmt: skip
    assert spec.rotary == (elements,)


@pytest.mark.parametrize(
    ("name", "profile", "words", "drafts", "gib"),
    [
        # vLLM 0.25.1 on GB10: llm-compressor keeps delta nets and the draft module in 16 bits,
        # Unsloth's has attention in fp8; RedHatAI's INT4 packs delta nets too.
        ("RedHatAI/Qwen3.6-35B-A3B-NVFP4", "qwen3.5-35b-a3b", "compressed-tensors", 1, 23.45),
        ("unsloth/Qwen3.8-27B-NVFP4", "qwen3.5-27b", "compressed-tensors", 1, 22.13),
        ("RedHatAI/Qwen3.8-27B-INT4", "qwen3.5-27b", "compressed-tensors", 1, 18.5),
    ],
)
def test_mixed_checkpoints_by_publisher(
    name: str, profile: str, words: str, drafts: int, gib: float
) -> None:
    spec = model(profile)
    scheme = stated_scheme(f"bfloat16 / quantization={words}", name, spec)
    made = weights_on_rank(spec, scheme, Parallel(), drafts=drafts) / GIB
    assert made == pytest.approx(gib, rel=0.01)


def test_a_checkpoint_may_ask_for_an_fp8_cache() -> None:
    spec = model("qwen3.5-27b")
    words = "bfloat16 / quantization=compressed-tensors"
    assert stated_kv("auto", words, "unsloth/Qwen3.8-27B-NVFP4", spec) is Dtype.FP8_E4M3
    assert stated_kv("auto", words, "RedHatAI/Qwen3.6-27B-NVFP4", spec) is Dtype.BF16
    assert stated_kv("bfloat16", words, "unsloth/Qwen3.8-27B-NVFP4", spec) is Dtype.BF16


@pytest.mark.parametrize(
    ("name", "words", "keeps"),
    [
        # `exclude_modules` of nvidia's checkpoints: attention and shared experts or neither.
        ("nvidia/Qwen3-235B-A22B-NVFP4", "modelopt_fp4", False),
        ("nvidia/MiniMax-M2.5-NVFP4", "modelopt_fp4", True),
        ("nvidia/GLM-5.1-NVFP4", "modelopt_fp4", True),
        ("nvidia/Gemma-4-31B-IT-NVFP4", "modelopt_fp4", True),
        ("nvidia/Llama-3.3-70B-Instruct-NVFP4", "modelopt_fp4", False),
        ("RedHatAI/Qwen3-30B-A3B-NVFP4", "compressed-tensors", False),
    ],
)
def test_what_nvfp4_checkpoints_keep(name: str, words: str, keeps: bool) -> None:
    profile = profile_for(name)
    assert profile is not None
    spec = model(profile)
    scheme = stated_scheme(f"bfloat16 / quantization={words}", name, spec)
    made = [t for layer in spec.layers for t in layer.tensors if t.name.endswith("o_proj.weight")]
    assert all((scheme.packed_layers(t, (0,)) == 0) is keeps for t in made)


@pytest.mark.parametrize(
    ("version", "gib", "gpu", "tokens", "sequences"),
    [
        ((0, 12), 79, "H100", 8192, 1024),
        ((0, 12), 79, "A100-80GB", 2048, 256),
        ((0, 8, 5), 79, "A100-80GB", 8192, 1024),
        ((0, 25), 178, "B200", 8192, 1024),
        ((0, 28), 178, "B200", 16384, 1024),
        ((0, 25), 121, "GB10", 8192, 1024),
        ((0, 33), 121, "GB10", 2048, 256),
        ((0, 12), 24, "RTX 4090", 2048, 256),
    ],
)
def test_defaults_by_gpu_and_release(
    version: tuple[int, ...], gib: int, gpu: str, tokens: int, sequences: int
) -> None:
    made = vllm.defaults(version, gib * GIB, gpu, None)
    assert (made.max_num_batched_tokens, made.max_num_seqs) == (tokens, sequences)


def test_a_page_dates_a_release_that_is_not_stated() -> None:
    issues = "https://github.com/vllm-project/vllm/issues/"
    # The day's release: 2024-07-24, 2025-03-19, 2025-08-20, 2026-01-27.
    assert vllm.version_of_page(issues + "6746") == (0, 5, 3)
    assert vllm.version_of_page(issues + "15060") == (0, 8, 0)
    assert vllm.version_of_page(issues + "23278") == (0, 10, 0)
    assert vllm.version_of_page(issues + "33155") == (0, 14, 0)
    assert vllm.version_of_page(issues + "99999") is None
    assert vllm.version_of_page("https://github.com/sgl-project/sglang/issues/6746") is None


@pytest.mark.parametrize(("length", "gib"), [(20_000, 3.81), (29_000, 2.89)])
def test_v0_runs_a_whole_prompt_at_its_peak(length: int, gib: float) -> None:
    # vLLM issue 10517: Llama-3.1-8B on a 3090 of 23.58 GiB, by max_model_len.
    spec = model("llama-3.1-8b")
    launch = Launch(
        layers=placed(spec), version=(0, 6, 4), max_model_len=length,
        gpu_total=int(23.58 * GIB), utilization=0.9,
    )  # fmt: skip
    terms = budget_of(launch, spec, scheme_of(spec))
    assert terms is not None
    assert terms.cache.middle / GIB == pytest.approx(gib, abs=0.1)


def test_sparse_attention_sets_five_prompts_aside() -> None:
    assert sparse_workspace(model("deepseek-v3.2"), 163_840) == 5 * 163_840 * 576 * 2
    assert sparse_workspace(model("deepseek-v3"), 163_840) == 0


def test_the_sampler_of_a_release_that_has_the_model() -> None:
    old, new = vllm.sampler_bytes(None), vllm.sampler_bytes(None, vllm.has_since("qwen3_5"))
    assert new.high < old.low
    assert vllm.sampler_bytes((0, 12), (0, 17)) == old


def test_a_dense_model_is_not_padded() -> None:
    assert Pad(hidden=256, inner=128).factor(model("llama-3-8b"), 1) == 1


def test_sglang_pool_of_a_published_log() -> None:
    # Qwen3-235B-A22B-FP8, tp 4: 16.46 "GB" for 367,404 tokens.
    each = sglang.bytes_per_token(placed(model("qwen3-235b-a22b")), tp=4, kv=Dtype.BF16)
    assert 16.46 * GIB / each == pytest.approx(367_404, rel=0.0006)


def test_llama_cpp_windows_and_states() -> None:
    made = llama_cpp.caches(placed(model("gpt-oss-120b")), ctx=131072, ubatch=1024)
    assert {cache.name: cache.cells for cache in made} == {"window": 1280, "full": 131072}
    states = llama_cpp.caches(placed_layers(QWEN_27B), ctx=4096)
    recurrent = next(cache for cache in states if cache.name == "recurrent")
    assert recurrent.bytes == 149.625 * (1 << 20)  # as its log prints for Qwen3.6-27B


def test_kv_cache_as_vllm_holds_it(attnbench: Callable[..., Any]) -> None:
    asked = ("kv-cache", "gemma-3-1b", "--seq-len", "32k", "--semantics", "vllm@0.13.0", "--json")
    made = attnbench(*asked).json
    page, groups = 16 * 512 * 2 * 4, 6  # four layers a group, one KV head of 256
    assert made["semantics"] == "vllm@0.13.0"
    assert made["total_bytes"] == made["steady_bytes"] == page * (2048 + groups * 32)
    window = -(-(511 + 2048) // 16) + 1
    assert made["admission_bytes"] == page * (2048 + groups * window)
    assert made["ideal_bytes"] == (32768 * 4 + 512 * 22) * 1024
    assert sum(row["bytes"] for row in made["layers"]) == made["total_bytes"]


@pytest.mark.parametrize("semantics", ["sglang", "llama.cpp", "vllm"])
def test_engines_rows_sum_to_their_total(attnbench: Callable[..., Any], semantics: str) -> None:
    for name in ("gpt-oss-20b", "qwen3.5-27b", "deepseek-v3"):
        made = attnbench("kv-cache", name, "--semantics", semantics, "--json").json
        assert sum(row["bytes"] for row in made["layers"]) == made["total_bytes"], name
        assert made["steady_bytes"] <= made["admission_bytes"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--semantics", "vlm"], "vllm"),
        (["--semantics", "vllm@new"], "release"),
        (["--page-size", "32"], "--semantics"),
        (["--semantics", "llama.cpp", "--page-size", "32"], "llama.cpp has no such option"),
        (["--semantics", "sglang", "--dcp", "2"], "sglang has no such option"),
        (["--semantics", "vllm", "--kv-unified"], "vllm has no such option"),
        (["--semantics", "vllm", "--kv-dtype", "fp8_ds_mla"], "no MLA layer"),
        (["--semantics", "llama.cpp", "--tp", "2"], "--pp"),
        (["--semantics", "llama.cpp", "--kv-dtype", "fp8"], "int8"),
        (["--semantics", "vllm", "--tp", "2", "--dcp", "4"], "--dcp"),
    ],
)
def test_what_an_engine_does_not_have(
    attnbench: Callable[..., Any], arguments: list[str], word: str
) -> None:
    ran = attnbench("kv-cache", "llama-3-8b", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert word in ran.err


def test_memory_prints_the_line_that_vllm_will(attnbench: Callable[..., Any]) -> None:
    # The log of Qwen3-32B on one H100: 61.03 GiB of weights, 4.45 GiB for the cache.
    asked = ("memory", "qwen3-32b", "--engine", "vllm@0.10.2", "--gpu", "h100-sxm")
    made = attnbench(*asked, "--seq-len", "16000", "--json").json["engine"]
    assert made["weights_bytes"] / GIB == pytest.approx(61.03, rel=0.001)
    cache = made["kv_cache_bytes"]
    assert cache["low"] <= 4.45 * GIB <= cache["high"]
    assert cache["high"] - cache["low"] <= 3 * GIB
    assert made["log_lines"][0] == f"GPU KV cache size: {made['kv_tokens']:,} tokens"


def test_solving_is_checked_by_asking_again(attnbench: Callable[..., Any]) -> None:
    asked = ("memory", "llama-3-8b", "--engine", "vllm@0.12.0", "--gpu", "l40s", "--json")
    most = attnbench(*asked, "--solve", "max-context").json["engine"]["solved"]
    assert attnbench(*asked, "--seq-len", int(most)).code == 0
    users = attnbench(*asked, "--solve", "max-users").json["engine"]["solved"]
    assert attnbench(*asked, "--batch", int(users)).code == 0
    assert attnbench(*asked, "--batch", int(users) + 1).code == 1
    least = attnbench(*asked, "--solve", "utilization").json["engine"]["solved"]
    assert attnbench(*asked, "--utilization", least).code == 0
    assert attnbench(*asked, "--utilization", round(least - 0.001, 3)).code == 1
    gpus = ("memory", "llama-3-70b", *asked[2:], "--solve", "gpus")
    assert attnbench(*gpus).json["engine"]["solved"] == 4


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--engine", "vllm"], "--gpu"),
        (["--engine", "sglan", "--gpu", "h100-sxm"], "sglang"),
        (["--engine", "llama.cpp", "--gpu", "h100-sxm", "--tp", "2"], "--pp"),
        (["--engine", "llama.cpp", "--gpu", "h100-sxm", "--batch", "300"], "256"),
        (["--engine", "llama.cpp@new", "--gpu", "h100-sxm"], "llama.cpp@b6150"),
        (["--engine", "sglang", "--gpu", "h100-sxm", "--gpu-layers", "3"], "--gpu-layers"),
        (["--gpu", "h100-sxm", "--dcp", "2"], "--engine"),
        (["--kv-dtype", "fp8_ds_mla"], "--engine"),
        (["--solve", "gpus"], "--engine"),
        (["--engine", "vllm", "--gpu", "h100-sxm", "--solve", "speed"], "max-context"),
        (["--engine", "vllm", "--gpu", "h100-sxm", "--mode", "training"], "inference"),
    ],
)
def test_memory_of_an_engine_wants_its_inputs(
    attnbench: Callable[..., Any], arguments: list[str], word: str
) -> None:
    ran = attnbench("memory", "llama-3-8b", *arguments)
    assert ran.code == 2
    assert word in ran.err
