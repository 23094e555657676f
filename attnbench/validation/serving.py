"""Rows of published serving measurements: TTFT and TPOT predicted from what was served."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from attnbench.calc.attention_time import Constants
from attnbench.calc.attention_work import Chip, chip_of
from attnbench.calc.model_cost import ModelCost, model_cost
from attnbench.calc.serving_time import Placement, ServingTime, StepTerms, pass_terms, serving_time
from attnbench.catalog import load_model
from attnbench.catalog.calibration import constants_for, serving_constants
from attnbench.catalog.hardware import load_gpu
from attnbench.catalog.serving_rows import ServingRow, engine_family, read_serving
from attnbench.engines.attention import attention_engine
from attnbench.validation.row import Limit, Row, Timing, compare

LIMITS = {"ttft_ms": Limit(band=True), "tpot_ms": Limit(band=True)}
_TTFT_BAND = 3.0  # a mean TTFT depends on how a benchmark's burst begins


def rows(path: Path) -> list[Row]:
    """Every row of the file at `path`, predicted; one that cannot be says why.

    Raises:
        UserError: it is not in the form of `serving_timings.csv`.
    """
    return [_row(row, path.name) for row in read_serving(path)]


def passes(row: ServingRow) -> tuple[StepTerms, StepTerms] | None:
    """What a decoding step and one prefill of a row ask; None where it does not say."""
    model, gpu = row.model, row.gpu
    if model is None or gpu is None:
        return None
    if row.batch is None or row.input_len is None or row.output_len is None:
        return None
    chip, constants, link = _chip(gpu.name, engine_family(row.engine))
    placement = Placement(
        tp=row.tp, pp=row.pp, weight_dtype=row.weight_dtype, kv_dtype=row.kv_dtype,
        link_bytes_per_s=link,
    )  # fmt: skip

    def asked(new_tokens: int, context: int, batch: int) -> StepTerms:
        return pass_terms(
            _cost(model.name), new_tokens=new_tokens, context=context, batch=batch,
            placement=placement, chip=chip, constants=constants,
        )  # fmt: skip

    middle = row.input_len + row.output_len // 2
    return asked(1, middle, row.batch), asked(row.input_len, row.input_len, 1)


def predict(row: ServingRow) -> ServingTime | None:
    """TTFT and TPOT of a row; None where it does not say what was served."""
    asked = passes(row)
    if asked is None or row.batch is None or row.output_len is None:
        return None
    c = serving_constants(engine_family(row.engine)).serving
    return serving_time(*asked, c, batch=row.batch, output_len=row.output_len)


@cache
def _cost(name: str) -> ModelCost:
    return model_cost(load_model(name))


@cache
def _chip(gpu: str, engine: str) -> tuple[Chip, Constants, float | None]:
    spec = load_gpu(gpu)
    named = attention_engine(engine, architecture=spec.architecture)
    return chip_of(spec), constants_for(spec, named), spec.published.link_bytes_per_s


def _row(row: ServingRow, corpus: str) -> Row:
    time = predict(row)
    engine = engine_family(row.engine) or "any"
    reported: Mapping[str, float | None] = {"ttft_ms": row.ttft_ms, "tpot_ms": row.tpot_ms}
    if time is None:
        return Row(
            id=row.id, corpus=corpus, family=engine,
            predicted=dict.fromkeys(LIMITS), reported=reported, relative_error={}, within={},
            why=(row.why or "the row does not say what was served",),
        )  # fmt: skip
    band = serving_constants(engine).tpot_band
    predicted: Mapping[str, float | None] = {
        "ttft_ms": time.ttft_s * 1e3, "tpot_ms": time.tpot_s * 1e3,
    }  # fmt: skip
    low = {"ttft_ms": time.ttft_s * 1e3 / _TTFT_BAND, "tpot_ms": time.tpot_s * 1e3 / band}
    high = {"ttft_ms": time.ttft_s * 1e3 * _TTFT_BAND, "tpot_ms": time.tpot_s * 1e3 * band}
    errors, within = compare(predicted, reported, LIMITS, low, high)
    cost = _cost(row.model.name) if row.model else None
    kind = "dense" if cost and not cost.routed else "mixture of experts"
    return Row(
        id=row.id,
        corpus=corpus,
        family=engine,
        predicted=predicted,
        reported=reported,
        relative_error=errors,
        within=within,
        low=low,
        high=high,
        timing=Timing(
            figure="tpot_ms",
            series=row.series,
            gpu=row.gpu.name if row.gpu else "",
            engine=engine,
            regimes=(f"TPOT, {kind}",),
            ideal_error=None if row.tpot_ms is None else time.ideal_s * 1e3 / row.tpot_ms - 1,
        ),
    )
