"""Explains a start-up log: rebuilds each figure, names the term that differs, warns."""

from collections.abc import Iterator

import msgspec

from attnbench.calc.engine_pages import StateMode, blocks_needed
from attnbench.catalog.engine_log import Server
from attnbench.catalog.engine_rows import LogRow
from attnbench.engines import sglang, vllm
from attnbench.engines.explain_llama import explain_llama
from attnbench.engines.explain_sglang import sglang_figures, sglang_warnings
from attnbench.engines.explained import Explained, Figure
from attnbench.engines.launch import Launch, pool
from attnbench.engines.log_row import count, row_of
from attnbench.engines.rebuild import Rebuilt, rebuild
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype
from attnbench.units import GIB

_NEAR = 0.003
_WEIGHTS_NEAR = 0.02
_PINNED_SHARE = 1 / 3
_PRINTED = ("weights_gib", "kv_cache_gib", "gpu_blocks", "kv_tokens", "max_concurrency")


def explain(server: Server) -> Explained:
    """Every figure of `server` rebuilt from what the log says it was given."""
    if server.engine == "llama.cpp":
        return explain_llama(server)
    row = row_of(server)
    missing: list[str] = [] if row.model else ["the log names no model"]
    rebuilt = None
    try:
        rebuilt = rebuild(row)
        missing += [why for why in rebuilt.why if row.model]
    except UserError as error:
        missing.append(str(error))
    if server.engine == sglang.NAME:
        missing = [why for why in missing if "GPU" not in why]  # free memory is printed
        figures = (*sglang_figures(server, row, rebuilt),)
    else:
        figures = (*_figures(row, rebuilt), *_refusal(server, rebuilt))
    return Explained(
        engine=server.engine,
        version=server.text("version"),
        model=row.model or None,
        line=server.line,
        inputs=_inputs(row),
        figures=figures,
        warnings=tuple(_warnings(server, row, rebuilt)),
        missing=tuple(dict.fromkeys(missing)),
    )


def _inputs(row: LogRow) -> dict[str, str | float | None]:
    return {
        "tp": row.tp,
        "pp": row.pp,
        "dcp": row.dcp,
        "weights": row.weight_dtype,
        "kv_dtype": row.kv_dtype,
        "gpu_total_gib": row.gpu_total_gib,
        "utilization": row.utilization,
        "max_model_len": row.max_model_len,
        "max_num_batched_tokens": row.max_num_batched_tokens,
        "max_num_seqs": row.max_num_seqs,
        "speculative_tokens": row.num_speculative_tokens,
    }


def _figures(row: LogRow, rebuilt: Rebuilt | None) -> Iterator[Figure]:
    for name in _PRINTED:
        printed = getattr(row.reported, name)
        if printed is None:
            continue
        made = rebuilt.predicted.get(name) if rebuilt is not None else None
        if made is None or rebuilt is None:
            yield Figure(name=name, printed=printed, term="not rebuilt: an input is missing")
            continue
        error = made / printed - 1 if printed else None
        low, high = rebuilt.low.get(name, made), rebuilt.high.get(name, made)
        rounding = 0.005 if name == "max_concurrency" else 0
        limit = _WEIGHTS_NEAR if name == "weights_gib" else _NEAR
        near = error is not None and abs(error) <= limit and name != "kv_cache_gib"
        agrees = near or low - rounding <= printed <= high + rounding
        yield Figure(
            name=name,
            printed=printed,
            rebuilt=made,
            relative_error=None if error is None else round(error, 6),
            agrees=agrees,
            term=None if agrees else _term(name, printed, row, rebuilt),
        )
    for name, bands in (("activation_peak_gib", "activation"), ("non_torch_gib", "non_torch")):
        printed = getattr(row.reported, name)
        if printed is not None and rebuilt is not None and rebuilt.budget is not None:
            band = getattr(rebuilt.budget, bands)
            yield Figure(
                name=name,
                printed=printed,
                rebuilt=round(band.middle / GIB, 3),
                agrees=None,
                term=f"stated band {band.low / GIB:.2f} to {band.high / GIB:.2f} GiB",
            )


def _refusal(server: Server, rebuilt: Rebuilt | None) -> Iterator[Figure]:
    """The sums of vLLM's refusal: what one request needs, and the longest that would fit."""
    made = rebuilt.pool if rebuilt is not None else None
    needed = longest = None
    if made is not None and made.blocks_of_request is not None:
        needed = round(made.blocks_of_request * max(made.plan.block_bytes) / GIB, 2)
        longest = made.longest
    for name, value, limit in (("needed_gib", needed, 0.01), ("longest", longest, 0.03)):
        printed = server.number(name)
        if printed is None:
            continue
        error = value / printed - 1 if value is not None and printed else None
        agrees = None if error is None else abs(error) <= limit
        term = {None: "not rebuilt: an input is missing", False: "bytes a token, or a rank"}
        yield Figure(
            name=name,
            printed=printed,
            rebuilt=value,
            relative_error=None if error is None else round(error, 6),
            agrees=agrees,
            term=None if agrees else term[agrees],
        )


def _term(name: str, printed: float, row: LogRow, rebuilt: Rebuilt) -> str:
    """What would have to be otherwise for the printed figure to follow."""
    if name == "weights_gib":
        return "weights: another format, a module not counted, or padding of a kernel"
    if name == "kv_cache_gib":
        if rebuilt.budget is None:
            return "the budget"
        gap = (rebuilt.budget.cache.middle / GIB) - printed
        side = "more" if gap > 0 else "less"
        return f"activation peak, outside torch or other processes: {abs(gap):.2f} GiB {side}"
    launch, gib = rebuilt.launch, row.reported.kv_cache_gib
    if launch is None or gib is None or row.engine != "vllm":
        return "bytes a token: cache dtype, layers or KV heads"
    for words, other in _others(launch):
        made = pool(other, int(gib * GIB))
        value = {
            "gpu_blocks": made.blocks,
            "kv_tokens": made.tokens,
            "max_concurrency": made.concurrency,
        }[name]
        if value and abs(value / printed - 1) <= _NEAR:
            return words
    return "another rank's smaller cache decides, or an option that the log does not show"


def _others(launch: Launch) -> Iterator[tuple[str, Launch]]:
    def changed(**values: object) -> Launch:
        return msgspec.structs.replace(launch, **values)

    narrow = Dtype.BF16 if launch.kv.bits == 8 else Dtype.FP8_E4M3
    yield f"the cache is in {narrow}", changed(kv=narrow)
    drafts = 0 if launch.drafts else 1
    yield f"{'no' if launch.drafts else 'one'} draft layer has a cache", changed(drafts=drafts)
    for mode in StateMode:
        if mode is not launch.load.mode:
            yield f"prefix caching: states in mode {mode}", changed(state_mode=mode)
    yield "KV heads are not divided", changed(tp=1)


def _warnings(server: Server, row: LogRow, rebuilt: Rebuilt | None) -> Iterator[str]:
    yield from server.notes
    if row.engine == "vllm" and row.reported.kv_tokens is not None:
        version = vllm.version_of(server.text("version"))
        known = f"vLLM {server.text('version')}" if version else "this version (unknown, as newest)"
        meaning = vllm.MEANING[vllm.policy(version).tokens_line]
        yield f'"GPU KV cache size" of {known} is {meaning}.'
    if server.text("unit") == "GB" or row.engine == sglang.NAME:
        yield 'Sizes printed as "GB" are GiB (2^30 bytes).'
    if row.engine == sglang.NAME:
        yield from sglang_warnings(server)
    quantised = "quantization=" in (row.weight_dtype or "") or "fp8" in row.model.lower()
    if quantised and (row.kv_dtype or "auto") == "auto":
        yield "Quantised weights do not make the cache fp8: kv_cache_dtype auto is the model's own."
    ranks = row.reported.kv_cache_gib_all_ranks
    if ranks and max(ranks) != min(ranks):
        yield (f"Ranks have {min(ranks):g} to {max(ranks):g} GiB for the cache: the least decides.")
    padding = count(server, "padding_layers")
    if rebuilt is None or rebuilt.pool is None:
        if padding:
            yield f"{padding} padding layers are allocated and hold nothing."
        return
    planned = rebuilt.pool.plan
    if planned.padding:
        yield f"{planned.padding} padding layers are allocated and hold nothing."
    if len(planned.groups) > 1:
        yield (
            f"The layers stand in {len(planned.groups)} groups, which draw on one pool: "
            "tokens are not blocks times block size."
        )
    least = blocks_needed(planned, 1, rebuilt.launch.load) if rebuilt.launch else 0
    if rebuilt.pool.blocks and least / rebuilt.pool.blocks >= _PINNED_SHARE:
        yield (
            f"A prompt of one token pins {least} of {rebuilt.pool.blocks} blocks: "
            f"a block holds {planned.block:,} tokens."
        )
