"""`attnbench validate` on timing corpora: every row predicted, bands, regimes, blank figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.catalog.loose_names import profile_for
from attnbench.catalog.serving_rows import engine_family, formats
from attnbench.catalog.timing_rows import gpu_named
from attnbench.spec.dtype import Dtype
from attnbench.validation.spread import sizes

HEADER = (
    "series,gpu,engine,implementation,phase,direction,batch,heads,kv_heads,seqlen,kv_len,"
    "head_dim,head_dim_v,causal,dtype,kv_dtype,time_ms_derived"
)
ROWS = (
    "a,H100 80GB HBM3,vllm_flash_attn_fa3,FA3,prefill,fwd,4,32,8,4096,4096,128,128,True,bf16,,1.0",
    "a,H100 80GB HBM3,vllm_flash_attn_fa3,FA3,decode,fwd,64,32,8,1,8192,128,128,True,bf16,bf16,",
    "b,A100 80GB SXM4,,naive pytorch,prefill,fwd+bwd,32,32,32,512,512,64,64,False,fp16,fp16,6.7",
    "c,H20,x,FlashInfer MLA,decode_mla,fwd,16,128,1,1,8192,576,512,False,bf16,bf16,0.4",
    "d,Radeon VII,x,FA2,prefill,fwd,1,8,8,512,512,64,64,True,fp16,fp16,1",
    "e,L40S,TRTLLM,,,,1,8,,512,,,,,,,2.0",
    "f,GB300,cudnn,cuDNN,prefill,bwd,2,128,128,4096,4096,192,128,True,mxfp8,mxfp8,2",
    "g,B200,flashinfer,,prefill,fwd,many,8,8,512,512,64,64,True,fp16,fp16,1",
)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "timings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_row_that_says_what_was_run_is_predicted(
    attnbench: Callable[..., Any], tmp_path: Path
) -> None:
    made = attnbench("validate", "--corpus", write(tmp_path, HEADER, *ROWS), "--json").json
    rows = {row["id"]: row for row in made["rows"]}
    assert list(rows) == [str(n) for n in range(8)]
    for name in "012356":
        assert rows[name]["predicted"]["time_ms"] > 0
        assert rows[name]["predicted"]["bound"] in ("tensor", "exp", "HBM", "L2", "latency")
    assert rows["0"]["relative_error"]["time_ms"] == pytest.approx(
        rows["0"]["predicted"]["time_ms"] / 1.0 - 1, abs=1e-6
    )
    assert rows["1"]["reported"]["time_ms"] is None
    assert rows["1"]["relative_error"] == {}
    assert rows["4"]["predicted"] == {"time_ms": None}
    assert "Radeon" in rows["4"]["why"][0]
    assert rows["7"]["predicted"] == {"time_ms": None}
    assert "batch" in rows["7"]["why"][0]
    assert rows["1"]["predicted"]["bound"] == "HBM"


def test_regimes_and_efficiency_one(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    made = attnbench("validate", "--corpus", write(tmp_path, HEADER, *ROWS), "--json").json
    regimes = {each["name"]: each for each in made["timings"] if each["by"] == "regime"}
    assert regimes["prefill >= 50 us"]["rows"] == 1
    assert regimes["backward"]["rows"] == 2
    assert regimes["latent decode"]["rows"] == 1
    large = regimes["prefill >= 50 us"]
    # 4 x 32 heads of 4096 causal tokens at 989.4 TFLOP/s, against 1 ms.
    flops = 4 * 128 * 4 * 32 * 4096 * 4097 // 2
    assert large["ideal_median"] == pytest.approx(1 - flops / 989.4e12 / 1e-3, abs=1e-6)
    by_engine = {each["name"] for each in made["timings"] if each["by"] == "engine"}
    assert {"vllm-fa3", "naive", "trtllm", "cudnn"} <= by_engine


SERVING = (
    "model,gpu,gpu_count,tp,pp,dtype,batch_or_concurrency,input_len,output_len,engine,"
    "ttft_ms,tpot_ms"
)
SERVED = (
    "meta-llama/Llama-3.1-70B,h200_sxm,2,2.0,1,fp8|gemm=fp8,16.0,1024,1024.0,vllm,189.8,15.65",
    "llama2-70b-99.9,NVIDIA H100-SXM-80GB,8,,,see submission,,,,TensorRT 10.2.0,100,20",
    "some/unknown-7b,h100_sxm,1,1,1,fp8,1,1024,128,vllm,,10",
    "deepseek-ai/DeepSeek-V3,h200_sxm,8,8,1,fp8,8,1024,1024,sglang,,",
)


def test_serving_rows(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    made = attnbench("validate", "--corpus", write(tmp_path, SERVING, *SERVED), "--json").json
    rows = made["rows"]
    assert rows[0]["predicted"]["tpot_ms"] == pytest.approx(15.65, rel=0.3)
    assert rows[0]["low"]["tpot_ms"] < rows[0]["predicted"]["tpot_ms"] < rows[0]["high"]["tpot_ms"]
    assert rows[1]["predicted"] == {"ttft_ms": None, "tpot_ms": None}
    assert "batch" in rows[1]["why"][0]
    assert "unknown-7b" in rows[2]["why"][0]
    assert rows[3]["predicted"]["tpot_ms"] > 0
    assert rows[3]["reported"] == {"ttft_ms": None, "tpot_ms": None}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("H100 SXM", "h100-sxm"), ("h100_sxm", "h100-sxm"), ("NVIDIA H100-SXM-80GB", "h100-sxm"),
        ("A100 80GB SXM4", "a100-80gb-sxm"), ("A100 40GB", "a100-40gb-sxm"), ("H200", "h200-sxm"),
        ("B300 SXM6 AC", "b300"), ("AMD Instinct MI300X 192GB HBM3", "mi300x"),
        ("SM100-class (MFU base 2500 TFLOPS => GB200/B300-class)", "gb200"),
        ("unstated (docs CI; consistent with A100)", "a100-80gb-sxm"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-blackwell"),
    ],
)  # fmt: skip
def test_names_of_gpus(text: str, name: str) -> None:
    found = gpu_named(text)
    assert found is not None
    assert found.name == name


def test_formats_and_engines_of_serving_rows() -> None:
    assert formats("fp4|gemm=nvfp4", None) == (Dtype.NVFP4, Dtype.FP8_E4M3)
    assert formats("|gemm=", None) == (Dtype.BF16, Dtype.BF16)
    assert formats("int4|gemm=int4_wo", None)[0] is Dtype.INT4
    assert engine_family("vLLM 0.6.5.dev964+mlperf50, ROCm") == "vllm"
    assert profile_for("meta-llama/Llama-3.1-70B") == "llama-3.1-70b"


def test_sizes_of_errors() -> None:
    assert sizes([-0.1, 0.2, 0.3]) == (0.2, 0.28)
    assert sizes([0.5]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("id,time_ms\n0,1\n", "serving timings"),
        ("", "serving timings"),
        ("gpu,batch\n", "neither|form"),
    ],
)
def test_a_csv_that_is_none(
    attnbench: Callable[..., Any], tmp_path: Path, text: str, word: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    ran = attnbench("validate", "--corpus", path)
    assert (ran.code, ran.out) == (2, "")
    assert any(part in ran.err for part in word.split("|"))
