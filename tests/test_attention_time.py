"""Time of attention: tiles, waves, bytes; the fit's arrays against the formulas they copy."""

import math

import msgspec
import numpy as np
import pytest

from attnbench.calc.attention_time import attention_time
from attnbench.calc.attention_work import Work, chip_of, work_of
from attnbench.calc.decode_time import decode_parts, decode_terms
from attnbench.calc.patterns import SlidingWindow
from attnbench.calc.prefill_time import TILE, padded, prefill_parts, prefill_terms
from attnbench.calc.traffic import score_bytes, standard_traffic, tiled_traffic
from attnbench.calibration.fit import DECODE_START, PREFILL_START, _decode_values, _prefill_values
from attnbench.calibration.vector import columns, decode_s, prefill_s
from attnbench.catalog.calibration import constants_for
from attnbench.catalog.hardware import gpu_names, load_gpu
from attnbench.engines.attention import attention_engine
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype

GPT2_MEDIUM = AttentionShape(
    batch=64, heads=16, kv_heads=16, seq_q=1024, seq_kv=1024, head_dim=64, causal=False,
    dtype=Dtype.FP16,
)  # fmt: skip
H100 = load_gpu("h100-sxm")
CHIP = chip_of(H100)


def work(**changes: object) -> Work:
    plain = Work(
        batch=2, heads=32, kv_heads=8, seq_q=4096, seq_kv=4096, head_dim=128, value_dim=128
    )
    return msgspec.structs.replace(plain, **changes)


def test_traffic_of_gpt2_medium_as_in_the_paper() -> None:
    # Dao et al. 2022, figure 2: 40.3 GB and 4.4 GB, with mask and dropout passes besides.
    assert standard_traffic(GPT2_MEDIUM, Mode.FWD_BWD) / 1e9 == pytest.approx(25.2, abs=0.05)
    for sram in (163 << 10, 192 << 10):  # an A100's shared memory, and with it the L1
        flash = tiled_traffic(GPT2_MEDIUM, Mode.FWD_BWD, sram_bytes=sram) / 1e9
        assert 4.1 <= flash <= 5.25
    less = tiled_traffic(GPT2_MEDIUM, Mode.FWD, sram_bytes=48 << 10)
    assert less > 2 * tiled_traffic(GPT2_MEDIUM, Mode.FWD, sram_bytes=192 << 10)


@pytest.mark.parametrize(("tokens", "gib"), [(65536, 8), (1 << 20, 2048)])
def test_a_matrix_of_scores(tokens: int, gib: int) -> None:
    shape = msgspec.structs.replace(
        GPT2_MEDIUM, batch=1, heads=1, kv_heads=1, seq_q=tokens, seq_kv=tokens
    )
    assert score_bytes(shape) == gib << 30


@pytest.mark.parametrize("seq_q", [1, 17, 128, 129, 1000, 4096])
@pytest.mark.parametrize("seq_kv", [4096, 4100])
@pytest.mark.parametrize("causal", [True, False])
def test_tiles_are_those_that_hold_an_attended_pair(seq_q: int, seq_kv: int, causal: bool) -> None:
    terms = prefill_terms(work(batch=1, heads=1, kv_heads=1, seq_q=seq_q, seq_kv=seq_kv,
                               causal=causal), CHIP)  # fmt: skip
    rows = min(TILE, 16 * math.ceil(seq_q / 16))
    counted, longest, blocks = 0, 0, 0
    for start in range(0, seq_q, rows):
        last = min(start + rows, seq_q) - 1
        reach = seq_kv if not causal else seq_kv - seq_q + last + 1
        tiles = math.ceil(reach / TILE)
        counted, longest, blocks = counted + tiles, max(longest, tiles), blocks + 1
    assert terms.blocks == blocks
    assert terms.longest == longest
    # The formula takes each row block's reach at its tile's end: at most one tile a block over.
    assert counted <= terms.tiles <= counted + (blocks if causal else 0)


def test_pairs_and_flops_are_the_patterns() -> None:
    full = work()
    assert full.pairs == 2 * 32 * 4096 * 4097 // 2
    assert full.flops == 4 * full.pairs * 128
    assert work(mode=Mode.BWD).flops == full.flops * 5 // 2
    window = SlidingWindow(causal=True, window=512)
    shape = msgspec.structs.replace(GPT2_MEDIUM, causal=True)
    sparse = work_of(shape, Mode.FWD, pattern=window)
    assert sparse.pairs == 64 * 16 * window.pairs(1024, 1024)


def test_a_latent_cache_is_read_once() -> None:
    mla = work(kv_heads=1, seq_q=1, head_dim=576, value_dim=512, mode=Mode.DECODE, latent=True)
    assert mla.cache_bytes == 2 * 4096 * 576 * 2


@pytest.mark.parametrize(
    ("width", "step", "made"),
    [(64, 32, 64), (72, 32, 96), (80, 0, 128), (192, 0, 256), (80, 8, 80)],
)
def test_widths_that_kernels_are_compiled_for(width: int, step: int, made: int) -> None:
    assert padded(width, step) == made


def random_works(count: int, mode: Mode) -> list[Work]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        kv_heads = int(rng.choice([1, 2, 8]))
        seq = int(rng.choice([1, 16, 100, 128, 1000, 8192]))
        made.append(
            work(
                batch=int(rng.choice([1, 4, 64])), kv_heads=kv_heads,
                heads=kv_heads * int(rng.choice([1, 4, 64])), seq_kv=seq,
                seq_q=1 if mode is Mode.DECODE else seq, head_dim=int(rng.choice([64, 128, 256])),
                causal=bool(rng.integers(2)), mode=mode,
            )
        )  # fmt: skip
    return made


def test_the_fits_arrays_are_the_formulas() -> None:
    # Rounding apart, the same sums: 1e-12 is some thousand times the unit roundoff.
    for mode in (Mode.FWD, Mode.BWD):
        terms = [prefill_terms(w, CHIP) for w in random_works(60, mode)]
        made = prefill_s(columns(terms), np.array(_prefill_values(PREFILL_START)))
        told = [prefill_parts(t, PREFILL_START).total_s for t in terms]
        np.testing.assert_allclose(made, told, rtol=1e-12)
    for packs, splits, blocks in ((1024, True, 2), (47, False, 1)):
        c = msgspec.structs.replace(
            DECODE_START, packs_at_most=packs, splits_single=splits, blocks_an_sm=blocks
        )
        steps = [decode_terms(w, CHIP) for w in random_works(60, Mode.DECODE)]
        made = decode_s(columns(steps), np.array(_decode_values(c)), (packs, splits, blocks))
        told = [decode_parts(t, c).total_s for t in steps]
        np.testing.assert_allclose(made, told, rtol=1e-12)


@pytest.mark.parametrize("name", gpu_names())
def test_every_gpu_has_constants_and_no_prediction_beats_its_peaks(name: str) -> None:
    gpu = load_gpu(name)
    chip = chip_of(gpu)
    for engine in (None, attention_engine("vllm", architecture=gpu.architecture)):
        constants = constants_for(gpu, engine)
        for shape in (
            work(dtype=Dtype.FP16, kv_dtype=Dtype.FP16),
            work(seq_q=16384, seq_kv=16384, dtype=Dtype.FP16, kv_dtype=Dtype.FP16),
            work(batch=64, seq_q=1, seq_kv=32768, mode=Mode.DECODE),
        ):
            found = attention_time(shape, chip, constants)
            assert 0 < found.time_s_low < found.time_s < found.time_s_high
            assert found.bound in ("tensor", "exp", "HBM", "L2", "latency")
            assert found.ideal_s <= found.time_s * 1.08  # clocks boost past the published one


def test_an_fp8_cache_has_constants_of_its_own_where_an_engine_was_timed_so() -> None:
    fa3 = constants_for(H100, attention_engine("vllm fa3"))
    assert fa3.decode_fp8 is not None
    step = work(batch=64, seq_q=1, seq_kv=8192, mode=Mode.DECODE)
    eight = msgspec.structs.replace(step, kv_dtype=Dtype.FP8_E4M3)
    found = attention_time(eight, CHIP, fa3)
    assert found.time_s == decode_parts(decode_terms(eight, CHIP), fa3.decode_fp8).total_s
    assert found.time_s < attention_time(step, CHIP, fa3).time_s


def test_engines_own_constants_come_before_their_familys() -> None:
    fa3 = constants_for(H100, attention_engine("vllm 0.24.0 vllm_flash_attn_fa3"))
    assert fa3.decode_origin == "h100-sxm.vllm-fa3"
    assert constants_for(load_gpu("h200-nvl"), attention_engine("vllm fa3")).prefill_origin == (
        "hopper.vllm-fa3"
    )
    assert constants_for(load_gpu("mi300x")).prefill_origin == "any.default"
    trtllm = attention_engine("TensorRT-LLM", architecture="ampere")
    assert constants_for(load_gpu("a100-40gb-pcie"), trtllm).prefill_origin == "ampere.trtllm"


@pytest.mark.parametrize(
    ("text", "implementation", "architecture", "key"),
    [
        (
            "vllm 0.24.0 vllm_flashinfer_trtllmprefill",
            "FlashInfer trtllm-gen",
            None,
            "vllm-trtllm-gen",
        ),
        ("sglang 0.5.14 trtllm_mha", "", None, "sglang-trtllm-gen"),
        ("trtllm 1.3.0rc20 torch_flow", "TRT-LLM FMHA/XQA", None, "trtllm"),
        ("vLLM", "", "hopper", "vllm-fa3"),
        ("vLLM", "", "ada", "vllm-fa2"),
        ("", "FA3", None, "fa3"),
        ("", "naive pytorch", None, "naive"),
        ("FlashInfer", "", None, "flashinfer"),
        ("TensorRT 10.11, CUDA 12.9", "", None, "trtllm"),
    ],
)
def test_names_of_engines(text: str, implementation: str, architecture: str, key: str) -> None:
    found = attention_engine(text, implementation, architecture=architecture)
    assert found is not None
    assert found.key == key


def test_a_name_that_is_none() -> None:
    assert attention_engine("my own kernel") is None
