"""Rebuilds what an engine printed from what it was given: a log's row to figures."""

from collections.abc import Mapping

import msgspec

from attnbench.calc.engine_budget import Band, Budget
from attnbench.calc.engine_kinds import Placed, placed
from attnbench.calc.engine_weights import PLAIN
from attnbench.calc.quantization import Scheme
from attnbench.catalog import load_model
from attnbench.catalog.engine_rows import LogRow, placed_layers
from attnbench.catalog.engine_rows import state_dtype as row_state_dtype
from attnbench.catalog.loose_names import gpus_for, profile_for
from attnbench.catalog.quantization_config import own_dtype
from attnbench.catalog.stated_formats import Unstated, stated_kv, stated_scheme
from attnbench.engines import sglang, vllm
from attnbench.engines._versions import Version
from attnbench.engines.launch import (
    Launch,
    Pool,
    budget_of,
    bytes_per_token,
    pool,
    state_dtype,
    weights_of,
)
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype
from attnbench.spec.hardware import HardwareSpec
from attnbench.spec.model import ModelSpec, Recurrent
from attnbench.units import GIB

_ROUNDING_GIB = 0.005


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """The figures that follow from a row's inputs; None where an input is missing.

    `low` and `high` bound those that follow from a printed size (one rounding of it) or
    from a band (`kv_cache_gib`). `why` names what is missing.
    """

    launch: Launch | None = None
    model: ModelSpec | None = None
    scheme: Scheme | None = None
    budget: Budget | None = None
    pool: Pool | None = None
    predicted: Mapping[str, float | None]
    low: Mapping[str, float]
    high: Mapping[str, float]
    why: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


def rebuild(row: LogRow) -> Rebuilt:
    """Every figure of `row` that its inputs decide.

    Raises:
        UserError: the row's numbers make no sense.
    """
    why: list[str] = []
    model = _model(row, why)
    layers, states = _layout(row, model, why)
    scheme = _scheme(row, model, why)
    gpu = _gpu(row, why)
    launch = _launch(row, (layers, states), model, scheme, gpu)
    found: dict[str, float | None] = {}
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    made: Pool | None = None
    terms: Budget | None = None
    if row.engine == "sglang":
        _sglang(row, launch, found, low, high)
    elif row.engine == "llama.cpp":
        why.append(
            "a llama.cpp cache is sized by its cells: n_ctx, n_ubatch and n_seq are not here"
        )
    elif layers:
        made = _pool(row, launch, found, low, high, why)
    if model is not None and scheme is not None:
        try:
            weights = weights_of(launch, model, scheme)
            found["weights_gib"] = round(weights / GIB, 4)
            terms = _budget(row, launch, model, scheme, why)
        except UserError as error:
            why.append(str(error))
    if terms is not None:
        band = terms.cache
        found["kv_cache_gib"] = round(band.middle / GIB, 3)
        low["kv_cache_gib"], high["kv_cache_gib"] = _gib(band)
    return Rebuilt(
        launch=launch,
        model=model,
        scheme=scheme,
        budget=terms,
        pool=made,
        predicted=found,
        low=low,
        high=high,
        why=tuple(why),
        assumed=_assumed(row, launch),
    )


def _assumed(row: LogRow, launch: Launch) -> tuple[str, ...]:
    """Figures that rest on a default of the engine, or on which rank printed a size.

    Blocks follow from the least of the ranks' sizes, and a row may have but one of them;
    with recurrent states what a request takes follows from prefix caching, which no row
    states; the budget from the share of memory and the most sequences.
    """
    found: list[str] = []
    ranks = row.tp * row.pp
    if ranks > 1 and len(row.reported.kv_cache_gib_all_ranks) < ranks:
        found += ["gpu_blocks", "kv_tokens", "max_concurrency"]
    elif any(isinstance(mixer, Recurrent) for mixer, _ in launch.layers):
        found += ["kv_tokens", "max_concurrency"]
    if row.gpu_memory_utilization is None or row.max_num_seqs is None:
        found.append("kv_cache_gib")
    return tuple(found)


def _budget(
    row: LogRow, launch: Launch, model: ModelSpec, scheme: Scheme, why: list[str]
) -> Budget | None:
    """The budget's terms; None, and why, where the row does not say what it is a share of."""
    if row.engine != vllm.NAME:
        return None
    if not row.flags_stated:
        why.append("the engine's flags are not in the row: its share of memory is not known")
        return None
    if row.utilization is None and launch.version is None:
        why.append("neither a share of memory nor a release whose default it is")
        return None
    return budget_of(launch, model, scheme)


def _gib(band: Band) -> tuple[float, float]:
    return round(band.low / GIB, 3), round(band.high / GIB, 3)


def _model(row: LogRow, why: list[str]) -> ModelSpec | None:
    name = profile_for(row.model)
    if name is None:
        why.append(f"no profile is known for the model {row.model!r}")
        return None
    return load_model(name)


def _layout(
    row: LogRow, model: ModelSpec | None, why: list[str]
) -> tuple[tuple[Placed, ...], Dtype | None]:
    """The mixers that keep a cache, and the dtype of states where the row says it."""
    try:
        stated = row.layout
        if stated is not None:
            return placed_layers(stated), row_state_dtype(stated)
    except UserError as error:
        why.append(str(error))
        return (), None
    return (placed(model) if model else ()), None


def _scheme(row: LogRow, model: ModelSpec | None, why: list[str]) -> Scheme | None:
    if model is None:
        return None
    try:
        return stated_scheme(row.weight_dtype, row.model, model)
    except Unstated as unstated:
        why.append(str(unstated))
    except UserError as error:
        why.append(str(error))
    return None


def _gpu(row: LogRow, why: list[str]) -> tuple[HardwareSpec, ...]:
    found = gpus_for(row.gpu or "")
    if not found and row.gpu_total_gib is None:
        why.append("the GPU's memory is not known")
    return found


def _launch(
    row: LogRow,
    layout: tuple[tuple[Placed, ...], Dtype | None],
    model: ModelSpec | None,
    scheme: Scheme | None,
    gpus: tuple[HardwareSpec, ...],
) -> Launch:
    own = own_dtype(model) if model is not None else Dtype.BF16
    states = layout[1] or (state_dtype(model) if model is not None else own)
    words = f"{row.weight_dtype or ''} {row.model}"
    gpu = gpus[0] if gpus else None
    version = _version(row)
    launch = Launch(
        layers=layout[0],
        version=version,
        since=vllm.has_since(model.model_type) if model is not None else None,
        gpu_vendor="" if gpu is None else gpu.vendor,
        tp=row.tp,
        pp=row.pp,
        dcp=row.dcp,
        kv=stated_kv(row.kv_dtype, row.weight_dtype, row.model, model),
        model_dtype=own,
        state_dtype=states,
        max_model_len=row.max_model_len or row.reported.concurrency_for_tokens,
        max_num_batched_tokens=row.max_num_batched_tokens,
        max_num_seqs=row.max_num_seqs,
        speculative=row.num_speculative_tokens or 0,
        drafts=int(row.drafts),
        gpu_name=row.gpu or "",
        unified_memory=any(gpu.unified_memory for gpu in gpus),
        utilization=row.utilization,
        eager=row.eager,
        loader=PLAIN if scheme is None else vllm.loader(version, gpu, scheme, words),
    )
    total = _total(row, launch, model, scheme, gpus)
    return msgspec.structs.replace(launch, gpu_total=total)


def _version(row: LogRow) -> Version | None:
    """The release that the row states; else the newest when its page was opened."""
    if row.engine_version is not None:
        return vllm.version_of(str(row.engine_version))
    return vllm.version_of_page(row.source_url)


def _total(
    row: LogRow,
    launch: Launch,
    model: ModelSpec | None,
    scheme: Scheme | None,
    gpus: tuple[HardwareSpec, ...],
) -> int | None:
    """The memory of one GPU. A name that means several is the least that holds the weights."""
    if row.gpu_total_gib is not None:
        return int(row.gpu_total_gib * GIB)
    if not gpus:
        return None
    weights = 0
    if model is not None and scheme is not None:
        try:
            weights = weights_of(launch, model, scheme)
        except UserError:
            weights = 0
    enough = [gpu.memory_bytes for gpu in gpus if gpu.memory_bytes > weights]
    return enough[0] if enough else gpus[-1].memory_bytes


def _pool(
    row: LogRow,
    launch: Launch,
    found: dict[str, float | None],
    low: dict[str, float],
    high: dict[str, float],
    why: list[str],
) -> Pool | None:
    try:
        found["bytes_per_token"] = bytes_per_token(launch)
    except UserError as error:
        why.append(str(error))
        return None
    sizes = row.reported.kv_cache_gib_all_ranks
    gib = min(sizes) if sizes else row.reported.kv_cache_gib
    if gib is None:
        why.append("no size of the cache is printed: blocks and tokens follow from it")
        return None
    made, under, over = (
        pool(launch, max(0, int((gib + step) * GIB))) for step in (0, -_ROUNDING_GIB, _ROUNDING_GIB)
    )
    figures = (
        ("gpu_blocks", made.blocks, under.blocks, over.blocks),
        ("kv_tokens", made.tokens, under.tokens, over.tokens),
        ("max_concurrency", made.concurrency, under.concurrency, over.concurrency),
    )
    for key, value, least, most in figures:
        found[key] = round(value, 4) if isinstance(value, float) else value
        if least is not None and most is not None:
            low[key], high[key] = least, most
    return made


def _sglang(
    row: LogRow,
    launch: Launch,
    found: dict[str, float | None],
    low: dict[str, float],
    high: dict[str, float],
) -> None:
    if not launch.layers:
        return
    each = sglang.bytes_per_token(launch.layers, tp=launch.tp, kv=launch.kv)
    found["bytes_per_token"] = each
    gib = row.reported.kv_cache_gib
    if gib is not None and each:
        found["kv_tokens"] = int(gib * GIB) // each
        low["kv_tokens"] = int((gib - _ROUNDING_GIB) * GIB) // each
        high["kv_tokens"] = int((gib + _ROUNDING_GIB) * GIB) // each
