"""Published serving measurements as rows: a CSV in the form of `serving_timings.csv`."""

import re
from pathlib import Path

import msgspec

from attnbench.catalog import load_model
from attnbench.catalog.loose_names import profile_for
from attnbench.catalog.timing_rows import gpu_named, table
from attnbench.spec.dtype import Dtype
from attnbench.spec.hardware import HardwareSpec
from attnbench.spec.model import ModelSpec

NEEDED = ("model", "gpu", "ttft_ms", "tpot_ms")
_IDENTITY = (
    "model", "gpu", "gpu_count", "tp", "pp", "dp", "ep", "dtype", "batch_or_concurrency",
    "input_len", "output_len", "engine", "engine_version", "scenario", "note",
)  # fmt: skip
_SIZES = ("batch_or_concurrency", "input_len", "output_len")
# MLPerf's and other pages' names, for models whose shape we have under another.
_SAME = (
    (r"llama-?2-?70b", "llama-2-70b"), (r"llama-?2-?13b", "llama-2-13b"),
    (r"llama-?3\.1-?405b", "llama-3.1-405b"), (r"llama-?3\.1-?70b", "llama-3.1-70b"),
    (r"llama-?3\.1-?8b", "llama-3.1-8b"), (r"^llama 70b", "llama-2-70b"),
    (r"^llama 13b", "llama-2-13b"), (r"^llama 7b", "llama-2-7b"),
    (r"mixtral-?8x7b", "mixtral-8x7b"),
)  # fmt: skip
_FORMATS = (
    ("nvfp4", Dtype.NVFP4), ("mxfp4", Dtype.MXFP4), ("fp4", Dtype.NVFP4), ("int4", Dtype.INT4),
    ("fp8", Dtype.FP8_E4M3), ("int8", Dtype.INT8), ("fp16", Dtype.FP16), ("bf16", Dtype.BF16),
)  # fmt: skip


class ServingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: what was served, how, and what users saw. `why`: what is missing."""

    id: str
    model: ModelSpec | None
    gpu: HardwareSpec | None
    engine: str
    tp: int
    pp: int
    weight_dtype: Dtype
    kv_dtype: Dtype
    batch: int | None
    input_len: int | None
    output_len: int | None
    ttft_ms: float | None
    tpot_ms: float | None
    series: str
    identity: str
    why: str = ""


def read_serving(path: Path) -> list[ServingRow]:
    """The rows of the file at `path`.

    Raises:
        UserError: it is not text, or has not the columns.
    """
    return [_row(number, row) for number, row in enumerate(table(path, NEEDED))]


def engine_family(text: str) -> str:
    """vllm, sglang or trtllm, of whatever a page calls it; empty where none of them.

    >>> engine_family("TensorRT 10.11, CUDA 12.9")
    'trtllm'
    """
    lowered = text.lower()
    if "vllm" in lowered:
        return "vllm"
    if "sglang" in lowered:
        return "sglang"
    return "trtllm" if re.search(r"trt|tensorrt", lowered) else ""


def _row(number: int, row: dict[str, str]) -> ServingRow:
    name = row.get("model", "")
    profile = profile_for(name) or _same(name)
    gpu = gpu_named(row.get("gpu", ""))
    why = ""
    model = None
    if profile is None:
        why = f"no profile knows the model {name!r}"
    else:
        model = load_model(profile)
    if gpu is None:
        why = f"no profile knows the GPU {row.get('gpu', '')!r}"
    sizes = {key: _count(row.get(key, "")) for key in _SIZES}
    missing = next((key for key, value in sizes.items() if value is None), None)
    if not why and missing:
        why = f"the row has no {missing}"
    weights, cache = formats(row.get("dtype", ""), model)
    gpus = _count(row.get("gpu_count", "")) or 1
    tp = _count(row.get("tp", "")) or gpus
    dp = _count(row.get("dp", "")) or 1
    batch = sizes["batch_or_concurrency"]
    return ServingRow(
        id=row.get("id") or str(number),
        model=model,
        gpu=gpu,
        engine=row.get("engine", ""),
        tp=tp,
        pp=_count(row.get("pp", "")) or 1,
        weight_dtype=weights,
        kv_dtype=cache,
        batch=None if batch is None else -(-batch // dp),  # of one replica
        input_len=sizes["input_len"],
        output_len=sizes["output_len"],
        ttft_ms=_positive(row.get("ttft_ms", "")),
        tpot_ms=_positive(row.get("tpot_ms", "")),
        series="|".join(row.get(key, "") for key in ("model", "gpu", "engine", "dtype")),
        identity="|".join(row.get(key, "") for key in _IDENTITY),
        why=why,
    )


def _same(name: str) -> str | None:
    lowered = name.lower().rpartition("/")[2]
    return next((known for pattern, known in _SAME if re.search(pattern, lowered)), None)


def formats(text: str, model: ModelSpec | None) -> tuple[Dtype, Dtype]:
    """Formats of weights and cache that a row's dtype names; 16 bits where it names none.

    Weights of 8 bits or fewer are served with an fp8 cache on the rows that say so.
    """
    lowered = text.lower()
    found = next((dtype for word, dtype in _FORMATS if word in lowered), None)
    if found is None:
        stored = model.weight_dtype if model else None
        return stored or Dtype.BF16, Dtype.BF16
    cache = Dtype.FP8_E4M3 if lowered.startswith(("fp8", "fp4", "nvfp4")) else Dtype.BF16
    return found, cache


def _count(text: str) -> int | None:
    value = _positive(text)
    return None if value is None or value < 1 else round(value)


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < 1e15 else None
