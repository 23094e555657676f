"""Published attention timings as rows: a CSV in the form of `attention_timings.csv`."""

import csv
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

from attnbench.calc.attention_work import Work
from attnbench.catalog.loose_names import gpus_for
from attnbench.engines.attention import AttentionEngine, attention_engine
from attnbench.errors import UserError
from attnbench.spec.attention import Mode
from attnbench.spec.dtype import Dtype, parse_dtype
from attnbench.spec.hardware import HardwareSpec

NEEDED = ("gpu", "batch", "heads", "seqlen")
_MODES = {"fwd": Mode.FWD, "bwd": Mode.BWD, "fwd+bwd": Mode.FWD_BWD, "fwd_bwd": Mode.FWD_BWD}
_OLD_FORMATS = {"mxfp8": Dtype.FP8_E4M3, "nvfp8": Dtype.FP8_E4M3, "e4m3": Dtype.FP8_E4M3}
_MLA_WIDTHS = (576, 512)
_MOST = 1 << 40


class TimingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One published timing: what was run, where, and how long it took.

    `work` is None where the row does not say what was run; `why` then says what is
    missing. `phase`: prefill, decode or encoder. `time_ms` is None where it is blank.
    """

    id: str
    series: str
    gpu_text: str
    gpu: HardwareSpec | None
    engine: AttentionEngine | None
    phase: str
    work: Work | None
    time_ms: float | None
    identity: str
    why: str = ""


def header(path: Path) -> list[str]:
    """The columns of the CSV at `path`.

    Raises:
        UserError: it is not text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV that can be read: {error}") from None


def read_timings(path: Path) -> list[TimingRow]:
    """The rows of the file at `path`.

    Raises:
        UserError: it is not text, or has not the columns.
    """
    return [_row(number, row) for number, row in enumerate(table(path, NEEDED))]


def table(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a CSV as dictionaries, blank where a row is short.

    Raises:
        UserError: it is not text, or lacks one of the `needed` columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restval="")
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path}:1: no column {missing[0]!r}")
            for row in reader:
                yield {key: (value or "").strip() for key, value in row.items() if key}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV that can be read: {error}") from None


def _row(number: int, row: dict[str, str]) -> TimingRow:
    gpu_text = row.get("gpu", "")
    gpu = gpu_named(gpu_text)
    architecture = gpu.architecture if gpu else None
    engine = attention_engine(
        row.get("engine", ""), row.get("implementation", ""), architecture=architecture
    )
    phase = row.get("phase") or ("decode" if row.get("seqlen") in ("1", "1.0") else "prefill")
    phase = phase.lower().replace("generation", "decode").replace("context", "prefill")
    work, why = None, ""
    try:
        work = _work(row, phase)
    except UserError as error:
        why = str(error)
    if work is not None and work.latent and engine is not None:
        engine = msgspec.structs.replace(engine, kernel="mla")  # a kernel of its own
    if gpu is None:
        why = f"no profile knows the GPU {gpu_text!r}"
    names = ("series", "batch", "heads", "kv_heads", "seqlen", "kv_len", "head_dim",
             "head_dim_v", "causal", "dtype", "kv_dtype", "direction")  # fmt: skip
    return TimingRow(
        id=row.get("id") or str(number),
        series=row.get("series") or "|".join(row.get(k, "") for k in ("gpu", "engine", "phase")),
        gpu_text=gpu_text,
        gpu=gpu,
        engine=engine,
        phase=phase,
        work=work,
        time_ms=_time(row),
        identity="|".join(row.get(name, "") for name in names),
        why=why,
    )


@cache
def gpu_named(text: str) -> HardwareSpec | None:
    """The accelerator that `text` means; of several forms, the one with the most memory."""
    cut, _, aside = text.partition("(")
    for part in (cut, *re.split(r"[/,;>]", aside)):
        found = gpus_for(part.replace("-", " ")) or gpus_for(part)
        if found:
            return found[-1]
    return None


def _work(row: dict[str, str], phase: str) -> Work:
    seq_q = _size(row, "seqlen")
    heads = _size(row, "heads")
    head_dim = _size(row, "head_dim", 128)
    value_dim = _size(row, "head_dim_v", head_dim)
    kv_heads = _size(row, "kv_heads", heads)
    dtype = _dtype(row.get("dtype", ""), Dtype.BF16)
    decode = phase.startswith("decode")
    if heads % kv_heads:
        raise UserError(f"kv_heads: {kv_heads} does not divide heads: {heads}")
    seq_kv = _size(row, "kv_len", seq_q)
    mode = _MODES.get(row.get("direction", "") or "fwd")
    if mode is None:
        raise UserError(f"direction: {row['direction']!r} is not fwd, bwd or fwd+bwd")
    return Work(
        batch=_size(row, "batch"),
        heads=heads,
        kv_heads=kv_heads,
        seq_q=seq_q,
        seq_kv=max(seq_kv, 1),
        head_dim=head_dim,
        value_dim=value_dim,
        causal=row.get("causal", "").lower() not in ("false", "0", "no") and seq_kv >= seq_q,
        dtype=dtype,
        kv_dtype=_dtype(row.get("kv_dtype", ""), dtype),
        latent=decode and (head_dim, value_dim) == _MLA_WIDTHS,
        cached=phase != "encoder",
        mode=Mode.DECODE if decode and mode is Mode.FWD else mode,
    )


def _size(row: dict[str, str], key: str, otherwise: int | None = None) -> int:
    text = row.get(key, "")
    if not text and otherwise is not None:
        return otherwise
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{key}: {text!r} is not a size") from None
    if not 1 <= value <= _MOST or value != int(value):
        raise UserError(f"{key}: {text!r} is not a size")
    return int(value)


def _dtype(text: str, otherwise: Dtype) -> Dtype:
    lowered = text.lower()
    if not lowered or lowered == "auto":
        return otherwise
    if lowered in _OLD_FORMATS:
        return _OLD_FORMATS[lowered]
    return parse_dtype(lowered)


def _time(row: dict[str, str]) -> float | None:
    for key in ("time_ms_derived", "time_ms"):
        text = row.get(key, "")
        try:
            value = float(text)
        except ValueError:
            continue
        if 0 < value < float("inf"):
            return value
    return None
