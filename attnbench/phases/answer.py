"""What `phases` answers: times by phase and length, beside what the calculators say."""

import statistics

import msgspec

from attnbench.calc.kv_answer import answer as kv_answer
from attnbench.calc.kv_cache import Rules, Semantics
from attnbench.calc.params import count
from attnbench.measure.environment import Device
from attnbench.measure.statistics import Timed
from attnbench.phases.run import Phases, Traffic, total_ms
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import ModelSpec

PREFILL, DECODE, UNCACHED = "prefill", "decode", "decode_without_cache"


class PhaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """One phase at one length. `tokens`: those that the pass attends to, a sequence.

    `weight_bytes_per_s` is what reading every weight once a pass comes to, and
    `flops_per_s` two operations a visited weight and new token: the two roofs of a
    model, attention's own work aside (Pope et al. 2022, section 2).
    """

    phase: str
    tokens: int
    time_ms: float
    time_ms_p20: float
    time_ms_p80: float
    time_ms_ci_low: float
    time_ms_ci_high: float
    tokens_per_s: float
    flops_per_s: float
    weight_bytes_per_s: float
    cache_bytes: int | None
    predicted_cache_bytes: int | None


class PhasesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The rows, and what a user sees of them, in ms; `*_without_cache` None where not asked."""

    model: str
    device: Device
    dtype: Dtype
    traffic: Traffic
    drawn: bool
    parameters: int
    first_call_ms: float
    ttft_ms: float
    itl_ms: float
    total_ms: float
    itl_ms_without_cache: float | None
    total_ms_without_cache: float | None
    cache_bytes_per_token: float | None
    predicted_bytes_per_token: int
    rows: tuple[PhaseRow, ...]


def predicted_cache(spec: ModelSpec, tokens: int, *, batch: int, dtype: Dtype) -> int:
    """What transformers' cache should hold after a pass over `tokens`, bytes."""
    rules = Rules(dtype=dtype, semantics=Semantics.TRANSFORMERS)
    return kv_answer(spec, seq_len=tokens, batch=batch, rules=rules).total_bytes


def answer_of(
    found: Phases, spec: ModelSpec, *, dtype: Dtype, device: Device, traffic: Traffic, drawn: bool
) -> PhasesAnswer:
    """The answer from what was timed."""
    params = count(spec)

    def row(phase: str, tokens: int, timed: Timed, new: int, held: int | None) -> PhaseRow:
        seconds = timed.time_ms / 1e3
        predicted = None
        if held is not None:
            predicted = predicted_cache(spec, tokens, batch=traffic.batch, dtype=dtype)
        return PhaseRow(
            phase=phase,
            tokens=tokens,
            time_ms=timed.time_ms,
            time_ms_p20=timed.p20_ms,
            time_ms_p80=timed.p80_ms,
            time_ms_ci_low=timed.ci_low_ms,
            time_ms_ci_high=timed.ci_high_ms,
            tokens_per_s=traffic.batch * (tokens if phase == PREFILL else 1) / seconds,
            flops_per_s=2 * params.active * new * traffic.batch / seconds,
            weight_bytes_per_s=dtype.bytes_of(params.total) / seconds,
            cache_bytes=held,
            predicted_cache_bytes=predicted,
        )

    n, held = traffic.prompt_len, found.cache_bytes
    rows = [row(PREFILL, n, found.prefill, n, held[n])]
    rows += [row(DECODE, at, timed, 1, held[at]) for at, timed in found.decode.items()]
    rows += [row(UNCACHED, at, timed, at, None) for at, timed in found.uncached.items()]
    steps = {at: timed.time_ms for at, timed in found.decode.items()}
    without = {at: timed.time_ms for at, timed in found.uncached.items()}
    ttft_ms, lengths = found.prefill.time_ms, sorted(steps)
    last = max(held)
    grown = (held[last] - held[n]) / (last - n) / traffic.batch if last > n else None
    rules = Rules(dtype=dtype, semantics=Semantics.TRANSFORMERS)
    return PhasesAnswer(
        model=spec.name,
        device=device,
        dtype=dtype,
        traffic=traffic,
        drawn=drawn,
        parameters=params.total,
        first_call_ms=found.first_call_ms,
        ttft_ms=ttft_ms,
        itl_ms=statistics.median(steps.values()),
        total_ms=ttft_ms + sum(steps.values()),
        itl_ms_without_cache=statistics.median(without.values()) if without else None,
        total_ms_without_cache=total_ms(ttft_ms, without, lengths) if without else None,
        cache_bytes_per_token=grown,
        predicted_bytes_per_token=kv_answer(
            spec, seq_len=last, batch=1, rules=rules
        ).bytes_per_token,
        rows=tuple(rows),
    )
