"""Rebuilds the figures of SGLang's log: the static part, its pools, and their tokens."""

from collections.abc import Iterator

import msgspec

from attnbench.calc.engine_kinds import Widths, placed
from attnbench.calc.stages import held_by, stage_ranges
from attnbench.catalog.engine_log import Server
from attnbench.catalog.engine_rows import LogRow
from attnbench.engines.explained import Figure
from attnbench.engines.launch import Launch
from attnbench.engines.rebuild import Rebuilt
from attnbench.engines.sglang_policy import policy
from attnbench.engines.sglang_pool import Needs, needs
from attnbench.spec.model import Cross, ModelSpec
from attnbench.units import GIB

_NEAR = 0.003
_WEIGHTS_NEAR = 0.02
_ROUNDING_GIB = 0.005
_MISSING = "not rebuilt: an input is missing"


def sglang_figures(server: Server, row: LogRow, rebuilt: Rebuilt | None) -> Iterator[Figure]:
    """Each size and count that the log prints, beside what follows from its other lines."""
    weights = row.reported.weights_gib
    if weights is not None:
        made = rebuilt.predicted.get("weights_gib") if rebuilt is not None else None
        term = "weights: another format, or a module not counted"
        yield _figure("weights_gib", weights, made, _WEIGHTS_NEAR * weights, term)
    allocations = _allocations(server)
    states = server.number("states")
    sizes = [server.number(key) or 0.0 for key in ("conv_gib", "recurrent_gib")]
    if allocations:
        printed = sum(size for _, size in allocations) + sum(sizes)
        term = "the static part: another share, or memory taken between the two lines"
        rounding = (len(allocations) + 4) * _ROUNDING_GIB + _NEAR * printed
        yield _figure("kv_cache_gib", printed, _static_gib(server), rounding, term)
    need = _needs(server, row, rebuilt)
    windows = server.numbers("window_tokens")
    for tokens, size in allocations:
        side = None if need is None else need.full
        name = "kv_tokens"
        if tokens in windows and need is not None and need.windowed.total:
            side, name = need.windowed, "window_tokens"
        made = size * GIB / side.total if side is not None and side.total else None
        rounding = 2 * _ROUNDING_GIB / size * tokens if size else 0.0
        term = "bytes a token: cache dtype, layers or KV heads"
        yield _figure(name, tokens, made, rounding + _NEAR * tokens, term)
    if states:
        made = sum(sizes) * GIB / need.state if need is not None and need.state else None
        rounding = 1 + (2 * _ROUNDING_GIB / sum(sizes) * states if sum(sizes) else 0.0)
        yield _figure("states", states, made, rounding, "bytes of a request's states")
    total = server.number("max_total_tokens")
    if total is not None and allocations:
        held = max(tokens for tokens, _ in allocations)
        term = "the pool was cut: --max-total-tokens, or a stage that holds fewer"
        yield _figure("max_total_num_tokens", total, held, 0.0, term)


def sglang_warnings(server: Server) -> Iterator[str]:
    """What is easily misread in SGLang's lines."""
    if server.number("max_total_tokens") is not None:
        yield (
            "max_total_num_tokens counts the tokens of all requests together, on every rank "
            "alike: it is neither one request's context nor a sum over GPUs."
        )
    if server.numbers("window_tokens"):
        yield (
            "Windows have a pool of their own: max_total_num_tokens counts the other one; "
            "either may run out first."
        )
    if server.number("states"):
        yield "States are a pool apart: a request takes up to three of max_mamba_cache_size."


def _figure(name: str, printed: float, made: float | None, within: float, term: str) -> Figure:
    if made is None:
        return Figure(name=name, printed=printed, term=_MISSING)
    agrees = abs(made - printed) <= within
    whole = float(printed).is_integer() and printed > 1000
    return Figure(
        name=name,
        printed=printed,
        rebuilt=round(made) if whole else round(made, 4),
        relative_error=round(made / printed - 1, 6) if printed else None,
        agrees=agrees,
        term=None if agrees else term,
    )


def _allocations(server: Server) -> list[tuple[float, float]]:
    """Tokens and GiB of each pool, once: every rank prints them."""
    tokens = server.numbers("kv_tokens")
    sizes = server.numbers("kv_cache_gib")
    keys, values = server.numbers("k_gib"), server.numbers("v_gib")
    if keys and len(keys) == len(values):
        sizes = [key + value for key, value in zip(keys, values, strict=True)]
    return list(dict.fromkeys(zip(tokens, sizes, strict=False)))


def _static_gib(server: Server) -> float | None:
    """GiB of pools: what is free after loading, less the share that stays free."""
    before, after = server.numbers("free_before_gib"), server.numbers("free_after_gib")
    share = server.number("utilization")
    if not before or not after or share is None:
        return None
    return min(after) - min(before) * (1 - share)


def _needs(server: Server, row: LogRow, rebuilt: Rebuilt | None) -> Needs | None:
    """What a token takes in each pool; windows apart where the log says they are."""
    if rebuilt is None or rebuilt.model is None or rebuilt.launch is None:
        return None
    model: ModelSpec = rebuilt.model
    launch: Launch = rebuilt.launch
    apart = bool(server.numbers("window_tokens")) and model.architecture is not None
    rules = msgspec.structs.replace(
        policy(None), windowed=frozenset({model.architecture or ""} if apart else ())
    )
    rank = Widths(
        kv=launch.kv.bits / 8,
        model=launch.model_dtype.bits // 8,
        state=launch.state_dtype.bits // 8,
        tp=row.tp,
    )
    stage = stage_ranges(model.num_layers, row.pp)[0] if row.pp <= model.num_layers else range(0)
    layers = tuple(
        (mixer, held_by(stage, at)) for mixer, at in placed(model) if not isinstance(mixer, Cross)
    )
    return needs(layers, rules=rules, architecture=model.architecture, rank=rank, kv=launch.kv)
