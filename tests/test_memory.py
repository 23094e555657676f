"""Memory of inference, against published file sizes, engines' logs and torch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench import memory, model
from attnbench.calc.memory import weights_bytes
from attnbench.calc.module_names import read_patterns
from attnbench.calc.quantization import Layout, Scales, plain_scheme
from attnbench.catalog import profiles
from attnbench.catalog.quantization_config import scheme_of
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import ModelSpec

GIB = 1 << 30


def quantised(name: str, config: dict[str, Any]) -> ModelSpec:
    return msgspec.structs.replace(model(name), quantization=config)


@pytest.mark.parametrize(
    ("name", "total_size"),
    [
        # metadata.total_size of model.safetensors.index.json on the hub: 16-bit checkpoints.
        # Llama 2's holds its rotary frequencies too, 64 numbers in each of 32 layers.
        ("llama-2-7b", 13_476_835_328 - 32 * 64 * 2),
        ("llama-3-8b", 16_060_522_496),
        ("llama-3-70b", 141_107_412_992),
        ("mixtral-8x7b", 93_405_585_408),
    ],
)
def test_16_bit_checkpoints_to_the_byte(name: str, total_size: int) -> None:
    assert memory(name, weight_dtype="bf16").memory.whole.weights_bytes == total_size


@pytest.mark.parametrize(("name", "gib"), [("gpt-oss-20b", 12.8), ("gpt-oss-120b", 60.8)])
def test_mxfp4_checkpoints(name: str, gib: float) -> None:
    # gpt-oss model card (arXiv:2508.10925), table 1: checkpoint size in GiB, one decimal.
    assert round(memory(name).memory.whole.weights_bytes / GIB, 1) == gib


def test_deepseek_v3_fp8_checkpoint() -> None:
    # The files on the hub are 688,586,727,753 bytes: the model, one multi-token-prediction
    # module (a layer as the last, embedding and output once more, a projection of 2 h to h,
    # three norms), the router's fp32 biases, and a header of some 130 bytes a tensor.
    spec = model("deepseek-v3")
    scheme = scheme_of(spec)
    last = spec.layers[-1]
    h, vocab = spec.hidden_size, spec.vocab_size
    mtp = sum(scheme.bytes_of(tensor, (61,)) for tensor in last.tensors)
    mtp += 2 * (2 * vocab * h + 2 * h * h + 3 * h)
    biases = 59 * 256 * 4
    tensors = 59 * sum(t.count * (2 if scheme.covers(t) else 1) for t in last.tensors)
    header = 688_586_727_753 - weights_bytes(spec, scheme) - mtp - biases
    assert 100 < header / tensors < 150


@pytest.mark.parametrize(
    ("name", "tp", "dtype", "gib"),
    [
        # "model weights take" of vLLM's start-up logs, GiB a GPU. They hold, besides the
        # weights, tables of cosines and sines: up to 1% more.
        ("llama-3-8b", 1, "bf16", 14.9596),
        ("llama-3-8b", 4, "bf16", 3.7418),
        ("qwen2.5-14b", 4, "bf16", 6.9461),
        ("qwen3-32b", 1, "bf16", 61.03),
        ("qwen3-32b", 8, "bf16", 7.6871),
        ("qwen3-30b-a3b", 2, "bf16", 28.4571),
        ("qwen3-235b-a22b", 8, "fp8", 27.6656),
    ],
)
def test_weights_a_gpu_as_engines_print_them(name: str, tp: int, dtype: str, gib: float) -> None:
    ours = memory(name, tp=tp, weight_dtype=dtype).memory.per_gpu.weights_bytes / GIB
    assert ours < gib < 1.011 * ours


def test_the_forward_peak_is_in_the_band_that_engines_print() -> None:
    # vLLM with few sequences and steps of 2,048 tokens prints 0.17 to 0.25 GiB.
    for name in ("llama-3-8b", "mistral-7b"):
        found = memory(name, max_num_batched_tokens=2048).memory.per_gpu.activation_bytes
        assert 0.17 * GIB < found < 0.25 * GIB


@pytest.mark.parametrize(
    ("layout", "out", "into", "expected"),
    [
        (Layout(bits=8), 3, 5, 15),
        (Layout(bits=4), 3, 5, 8),
        (Layout(bits=8, scales=Scales.TENSOR, scale_bytes=4), 3, 5, 19),
        (Layout(bits=8, scales=Scales.ROW, scale_bytes=2), 3, 5, 21),
        (Layout(bits=4, scales=Scales.GROUP, scale_bytes=1, group=32), 2, 33, 33 + 4),
        (
            Layout(bits=8, scales=Scales.BLOCK, scale_bytes=4, block=(128, 128)),
            7168, 2048, 7168 * 2048 + 4 * 56 * 16,
        ),
        # GPTQ of 4096 x 4096 in 4 bits, groups of 128: qweight, scales, qzeros, g_idx.
        (
            Layout(bits=4, scales=Scales.GROUP, scale_bytes=2, group=128, zero_bits=4,
                   index_bytes=4),
            4096, 4096, 4096 * 512 * 4 + 32 * 4096 * 2 + 32 * 512 * 4 + 4096 * 4,
        ),
    ],
)  # fmt: skip
def test_bytes_of_one_packed_matrix(layout: Layout, out: int, into: int, expected: int) -> None:
    assert layout.bytes_of(out, into) == expected


def test_nf4_costs_what_the_paper_says() -> None:
    # Dettmers et al. 2023, section 3: scales cost 0.5 bits a parameter, doubly quantised 0.127.
    for double, bits in ((False, 0.5), (True, 0.127)):
        config = {
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "bnb_4bit_use_double_quant": double,
        }
        layout = scheme_of(quantised("llama-3-8b", config)).layout
        assert layout is not None
        assert layout.bytes_of(4096, 4096) * 8 / 4096**2 - 4 == pytest.approx(bits, abs=0.0005)


@pytest.mark.parametrize(
    ("config", "bits"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 4 + 16 / 128 + 4 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}, 4 + 20 / 64),
        ({"quant_method": "fp8"}, 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 128**2),
        ({"quant_method": "fbgemm_fp8"}, 8),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4.5),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 8),
        ({"quant_method": "mxfp4"}, 4.25),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
        ({"quant_method": "bitnet"}, 2),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}}}, 4.25),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {
                        "weights": {
                            "num_bits": 4, "type": "int", "strategy": "group", "group_size": 32,
                        }
                    }
                },
            },
            4.5,
        ),
    ],
)  # fmt: skip
def test_methods_as_configurations_state_them(config: dict[str, Any], bits: float) -> None:
    spec = quantised("llama-3-8b", config)
    scheme = scheme_of(spec)
    linear = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    rest = 8_030_261_248 - linear
    found = (weights_bytes(spec, scheme) - 2 * rest) * 8 / linear
    # Scales a row or tensor, g_idx and shapes are under 0.02 bits of matrices this large.
    assert found == pytest.approx(bits, abs=0.02)
    assert found >= bits


def test_what_is_not_converted_stays_in_16_bits() -> None:
    kept = ["lm_head", "model.layers.0.mlp", "re:.*self_attn.*"]
    spec = quantised("llama-3-8b", {"quant_method": "fp8", "modules_to_not_convert": kept})
    by_hand = 8_030_261_248 * 2 - 31 * 3 * (4096 * 14336 - 4)
    assert weights_bytes(spec, scheme_of(spec)) == by_hand


@pytest.mark.parametrize(
    ("entry", "layers"),
    [
        ("lm_head", 0),
        ("model.layers.3.mlp.gate_proj", 1),
        ("gate_proj", 4),
        ("mlp", 4),
        ("ml", 0),
        ("model.layers.*.mlp", 4),
        ("*gate*", 4),
        ("re:.*layers\\.[01]\\..*", 2),
        ("re:mlp", 0),
    ],
)
def test_module_names(entry: str, layers: int) -> None:
    patterns = read_patterns([entry], where="here")
    assert patterns.count("model.layers.*.mlp.gate_proj", (0, 1, 2, 3)) == layers


@pytest.mark.parametrize(
    "value",
    [7, [7], ["x" * 1000], ["re:("], ["re:(a+)+$"], ["re:.*.*.*.*.*x"], ["re:(.*){9}"]],
)
def test_hostile_module_names_are_refused(value: object) -> None:
    with pytest.raises(UserError, match="ignore"):
        scheme_of(quantised("llama-3-8b", {"quant_method": "fp8", "ignore": value}))


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": "sorcery"},
        {},
        {"quant_method": "gptq", "bits": "four"},
        {"quant_method": "gptq", "bits": 4, "group_size": 10**30},
        {"quant_method": "fp8", "weight_block_size": [0, 128]},
        {"quant_method": "fp8", "weight_block_size": 128},
        {"quant_method": "gptq", "modules_in_block_to_quantize": 7},
        {"quant_method": ["fp8"]},
        {"quant_method": "quark"},
        {"quant_method": "compressed-tensors"},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": 4}}},
        {"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"},
    ],
)
def test_a_method_that_cannot_be_read_is_an_error(config: dict[str, Any]) -> None:
    spec = quantised("llama-3-8b", config)
    if not config:
        assert scheme_of(spec).layout is None
        return
    with pytest.raises(UserError, match="quant"):
        scheme_of(spec)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
METHODS = ("fp8", "gptq", "awq", "bitsandbytes", "modelopt", "compressed-tensors", "quark")
KEYS = (
    "bits", "group_size", "weight_block_size", "ignore", "modules_to_not_convert",
    "config_groups", "load_in_4bit", "quant_algo", "modules_in_block_to_quantize",
    "global_quant_config", "zero_point",
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(method=st.sampled_from(METHODS) | JSON, rest=st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_configuration_is_read_or_refused(method: object, rest: dict[str, object]) -> None:
    spec = quantised("gpt2", {"quant_method": method, **rest})
    refused = ""
    try:
        held = weights_bytes(spec, scheme_of(spec))
    except UserError as error:
        refused, held = str(error), 1
    assert "\n" not in refused
    assert held > 0


def test_a_dtype_asked_for_goes_before_the_configuration() -> None:
    assert memory("deepseek-v3", weight_dtype="bf16").memory.whole.weights_bytes == (
        2 * memory("deepseek-v3").memory.params.total
    )
    own = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    spec = quantised("llama-3-8b", own)
    assert scheme_of(spec, Dtype.INT4) == scheme_of(spec)
    assert scheme_of(spec, Dtype.INT8) == plain_scheme(Dtype.INT8, Dtype.BF16)


def test_a_checkpoint_counts_as_stored() -> None:
    spec = msgspec.structs.replace(model("llama-3-8b"), stored_bytes=9_000_000_000)
    found = memory(spec, tp=2).memory
    assert found.whole.weights_bytes == 9_000_000_000
    assert found.per_gpu.weights_bytes == pytest.approx(4_500_000_000, rel=1e-3)
    assert memory(spec, weight_dtype="bf16").memory.whole.weights_bytes == 16_060_522_496


def test_the_ranks_of_a_tensor_parallel_group_hold_the_model_and_its_copies() -> None:
    # Llama-3-70B, tp 8: all matrices go round; the 161 norms of 8192 stand on each rank.
    norms = 161 * 8192 * 2
    per_gpu = memory("llama-3-70b", tp=8).memory.per_gpu.weights_bytes
    assert 8 * per_gpu == 141_107_412_992 + 7 * norms


def test_kv_heads_are_copied_where_ranks_outnumber_them() -> None:
    eight, sixteen = (memory("llama-3-70b", tp=tp).memory.per_gpu for tp in (8, 16))
    assert sixteen.kv_cache_bytes == eight.kv_cache_bytes
    kv = 80 * 2 * 128 * 8192 * 2  # one KV head's K and V projections, all layers
    norms = 161 * 8192 * 2
    assert sixteen.weights_bytes - norms - kv == (eight.weights_bytes - norms - kv) / 2


def test_pipeline_stages_hold_their_layers() -> None:
    # Two stages of 40 layers; the embedding on the first, norm and output on the last.
    found = memory("llama-3-70b", pp=2).memory
    layer = 2 * (8192 * 8192 * 2 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192)
    assert found.per_gpu.weights_bytes == 40 * layer + 2 * (128_256 * 8192 + 8192)
    assert found.stage == 1


@pytest.mark.parametrize("name", profiles.names())
def test_layers_are_numbered_in_order(name: str) -> None:
    spec = model(name)  # stages are found by bisection
    for layer in (*spec.encoder, *spec.layers):
        assert list(layer.indices) == sorted(set(layer.indices))


def test_as_many_stages_as_layers_are_counted_at_once(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 10_000, "vocab_size": 100,
        "intermediate_size": 128, "num_attention_heads": 4,
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    found = memory(str(path), pp=10_000).memory
    layer = 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64)
    assert found.per_gpu.weights_bytes == layer + 2 * (100 * 64 + 64)


def test_tied_embeddings_stand_on_the_first_and_the_last_stage() -> None:
    vocabulary = 50257 * 768 * 2
    alone = memory("gpt2", pp=1).memory.per_gpu.weights_bytes
    first, last = (memory("gpt2", pp=12).memory.per_gpu.weights_bytes, vocabulary)
    assert last < first < alone


def test_experts_are_dealt_out_whole_or_split() -> None:
    # Mixtral: 8 experts; dealt to 8 ranks one each, or each split over 8: the same bytes.
    dealt, split = (memory("mixtral-8x7b", tp=8, ep=ep).memory.per_gpu for ep in (8, 1))
    assert dealt.weights_bytes == split.weights_bytes
    # Over 16 data-parallel ranks without tp, a GPU of DeepSeek-V3 holds 16 of 256 experts.
    wide = memory("deepseek-v3", dp=16, ep=16).memory
    routed = wide.params.routed_experts * (1 + 4 / 128**2)  # an fp32 scale a block
    rest = memory("deepseek-v3").memory.whole.weights_bytes - routed
    assert wide.per_gpu.weights_bytes == pytest.approx(rest + routed / 16, rel=1e-6)


def test_moe_weights_count_every_expert_and_active_parameters_do_not() -> None:
    found = memory("mixtral-8x7b").memory
    assert found.params.total == 46_702_792_704
    assert found.whole.weights_bytes == 2 * found.params.total
    assert found.params.active == 12_879_925_248  # 12.9 B, Jiang et al. 2024, arXiv:2401.04088


@pytest.mark.parametrize("name", profiles.names())
def test_on_one_gpu_every_part_is_the_whole_models(name: str) -> None:
    for mode in ("inference", "training"):
        found = memory(name, mode=mode, seq_len=1000, batch=3).memory
        assert found.per_gpu == found.whole
        assert found.params.active <= found.params.total
        assert found.whole.activation_bytes > 0


def test_a_ranks_share_of_the_experts_work_is_that_of_tensor_parallelism() -> None:
    # 16 replicas' tokens over 16 ranks of experts are as many visits a rank as one's over one.
    alone, spread = (memory("deepseek-v3", seq_len=64, dp=n, ep=n).memory.per_gpu for n in (1, 16))
    assert spread.activation_bytes == alone.activation_bytes
    # By hand: 2 hidden, 2 hidden a visit of 8, and 8 experts of 3 x 2048; or MLA's widths.
    mixer = 128 * (2 * 192 + 128) + 576 + 128 * 128
    experts = 8 * (2 * 7168 + 3 * 2048)
    assert alone.activation_bytes == 2 * 64 * (2 * 7168 + max(mixer, experts))


def test_what_the_formula_does_not_see_is_said() -> None:
    assert any("vision" in line for line in memory("llama-4-scout").assumptions)
    assert any("scan" in line for line in memory("jamba-1.5-mini").assumptions)
    assert not any("vision" in line for line in memory("llama-3-8b").assumptions)


def test_an_encoder_keeps_no_cache() -> None:
    # T5: each of 24 decoder layers caches itself and its view of the encoder, 32 heads of 64.
    found = memory("flan-t5-xl", seq_len=512).memory
    assert found.per_gpu.kv_cache_bytes == 24 * 2 * 2 * 512 * 32 * 64 * 2


def test_more_of_anything_takes_no_less() -> None:
    base = memory("llama-3-8b", seq_len=2048, batch=2).memory.total_bytes
    assert memory("llama-3-8b", seq_len=4096, batch=2).memory.total_bytes > base
    assert memory("llama-3-8b", seq_len=2048, batch=4).memory.total_bytes > base
    assert memory("llama-3-8b", seq_len=2048, batch=2, kv_dtype="fp8").memory.total_bytes < base
    assert memory("llama-3-8b", seq_len=2048, batch=2, max_num_seqs=512).memory.total_bytes > base


# --- the command --------------------------------------------------------------------------


CONTRACT_KEYS = (
    "params", "weights_bytes", "kv_cache_bytes", "activation_bytes", "gradient_bytes",
    "optimizer_bytes", "overhead_bytes", "total_bytes", "per_gpu_bytes", "fits", "assumptions",
)  # fmt: skip


def test_the_contracts_object(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("memory", "llama-3-8b", "--json")
    assert ran.code == 0
    assert ran.err == ""
    found = ran.json
    assert next(iter(found)) == "schema"
    assert found["schema"] == "attnbench.memory/1"
    assert set(CONTRACT_KEYS) <= set(found)
    assert set(found["params"]) >= {"total", "active", "embedding", "routed_experts"}
    assert found["fits"] is None
    assert found["assumptions"]
    parts = [found[key] for key in CONTRACT_KEYS[1:7]]
    assert all(isinstance(part, int) for part in parts)
    assert found["total_bytes"] == sum(parts) == found["per_gpu_bytes"]


def test_exit_1_only_where_a_gpu_is_too_small(attnbench: Callable[..., Any]) -> None:
    fits = attnbench("memory", "llama-3-8b", "--gpu", "h100-sxm", "--json")
    assert (fits.code, fits.json["fits"], fits.err) == (0, True, "")
    ran = attnbench("memory", "llama-3-70b", "--gpu", "h100-sxm", "--json")
    assert (ran.code, ran.json["fits"]) == (1, False)
    assert ran.err.splitlines() == [
        "attnbench: llama-3-70b in bf16 needs 141.1 GB for weights alone; h100-sxm has 85.0 GB, "
        "of which 76.5 GB at --utilization 0.9",
        "  Try --tp 2 or --weight-dtype fp8_e4m3.",
    ]
    for way in (["--tp", "2"], ["--weight-dtype", "fp8_e4m3"]):
        assert attnbench("memory", "llama-3-70b", "--gpu", "h100-sxm", *way).code == 0


def test_people_see_both_units_and_assumptions(attnbench: Callable[..., Any]) -> None:
    out = attnbench("memory", "llama-3-8b", "--gpu", "rtx-4090").out
    for text in ("GiB (2^30)", "GB (10^9)", "14.96 GiB", "16.06 GB", "Assumptions:", "8.03 B"):
        assert text in out


def test_csv_and_markdown(attnbench: Callable[..., Any]) -> None:
    assert "weights,16060522496" in attnbench("memory", "llama-3-8b", "--format", "csv").out
    assert "| weights |" in attnbench("memory", "llama-3-8b", "--format", "markdown").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonesuch"], "unknown model"),
        (["llama-3-8b", "--gpu", "h100"], "unknown GPU"),
        (["llama-3-8b", "--weight-dtype", "bf61"], "unknown --weight-dtype"),
        (["llama-3-8b", "--kv-dtype", "x"], "unknown --kv-dtype"),
        (["llama-3-8b", "--seq-len", "-1"], "--seq-len"),
        (["llama-3-8b", "--batch", "0"], "--batch"),
        (["llama-3-8b", "--tp", "3"], "--tp: 3 does not divide the 32 heads"),
        (["llama-3-8b", "--tp", "0"], "--tp"),
        (["llama-3-8b", "--pp", "33"], "--pp: 33 stages"),
        (["llama-3-8b", "--ep", "2", "--tp", "2"], "no routed experts"),
        (["mixtral-8x7b", "--ep", "16", "--dp", "16"], "over the 8 experts"),
        (["mixtral-8x7b", "--ep", "4", "--dp", "2"], "--ep: 4 does not divide"),
        (["llama-3-8b", "--utilization", "1.5"], "--utilization"),
        (["llama-3-8b", "--utilization", "nan"], "--utilization"),
        (["llama-3-8b", "--overhead", "much"], "--overhead"),
        (["llama-3-8b", "--zero", "1"], "--zero is for --mode training"),
        (["llama-3-8b", "--optimizer", "sgd"], "--optimizer is for --mode training"),
        (["llama-3-8b", "--lora-rank", "8"], "--lora-rank is for --mode training"),
        (["llama-3-8b", "--no-master-weights"], "--master-weights is for --mode training"),
        (["llama-3-8b", "--mode", "training", "--kv-dtype", "fp8"], "--kv-dtype is for --mode inf"),
        (["llama-3-8b", "--mode", "training", "--max-num-seqs", "8"], "--max-num-seqs is for"),
        (["llama-3-8b", "--mode", "training", "--zero", "4"], "--zero: 4"),
        (["llama-3-8b", "--mode", "training", "--lora-targets", "q_proj"], "needs --lora-rank"),
        (["llama-3-8b", "--mode", "training", "--weight-dtype", "int4"], "--lora-rank 16"),
    ],
)
def test_bad_input(attnbench: Callable[..., Any], arguments: list[str], message: str) -> None:
    ran = attnbench("memory", *arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert message in ran.err
    assert len(ran.err.splitlines()) <= 2


def test_a_config_with_an_unknown_method_offers_the_way_out(
    attnbench: Callable[..., Any], tmp_path: Path
) -> None:
    config = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128,
        "num_attention_heads": 4, "vocab_size": 100, "quantization_config": {"quant_method": "x"},
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    ran = attnbench("memory", path)
    assert ran.code == 2
    assert "quant_method: 'x' is not known" in ran.err
    assert "--weight-dtype" in ran.err
    assert attnbench("memory", path, "--weight-dtype", "bf16").code == 0
