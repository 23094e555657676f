"""What `memory --engine` adds: the terms of the budget, the pool, and the engine's own line."""

from typing import Any

import msgspec

from attnbench.calc.engine_budget import Band
from attnbench.engines.engine_memory import EngineMemory
from attnbench.report.document import Column, Document, Table
from attnbench.units import GIB, format_gib

_PINNED_SHARE = 1 / 3
_TERMS = (
    Column(key="term", heading="on one GPU"),
    *(
        Column(key=key, heading=f"{key}, GiB (2^30)", show=lambda v: f"{v / GIB:.2f}", right=True)
        for key in ("low", "middle", "high")
    ),
)


def with_engine(plain: Document, found: EngineMemory) -> Document:
    """`plain` with what the engine does beside it."""
    data = {**plain.data, "fits": found.fits, "engine": _data(found)}
    return msgspec.structs.replace(
        plain,
        data=data,
        tables=(*plain.tables, _table(found)),
        notes=(*plain.notes, *_notes(found)),
        assumptions=(
            *plain.assumptions,
            *found.said,
            f"{found.engine}'s budget: bands are what its logs show; the cache's band is stated: "
            f"{(found.cache.high - found.cache.low) / 2 / GIB:.1f} GiB each way.",
        ),
    )


def _data(found: EngineMemory) -> dict[str, Any]:
    return {
        "name": found.engine,
        "utilization": found.utilization,
        "requested_bytes": found.requested,
        "weights_bytes": found.weights,
        "activation_bytes": _ints(found.activation),
        "non_torch_bytes": _ints(found.non_torch),
        "graph_bytes": _ints(found.graphs),
        "outside_requested": found.outside,
        "kv_cache_bytes": _ints(found.cache),
        "block_size": found.block,
        "groups": found.groups,
        "padding_layers": found.padding,
        "blocks": found.blocks,
        "blocks_low": found.blocks_low,
        "blocks_high": found.blocks_high,
        "kv_tokens": found.tokens,
        "pools": [msgspec.to_builtins(part) for part in found.pools],
        "blocks_of_request": found.blocks_of_request,
        "max_concurrency": found.concurrency,
        "users": found.users,
        "blocks_of_shortest": found.pinned,
        "log_lines": list(found.lines),
        "solve": found.asked,
        "solved": found.solved,
    }


def _ints(band: Band) -> dict[str, int]:
    return {key: round(getattr(band, key)) for key in ("low", "middle", "high")}


def _table(found: EngineMemory) -> Table:
    weights, asked = float(found.weights), float(found.requested)
    beside = " (beside it)" if found.outside else ""
    rows: list[list[Any]] = [
        [f"{found.utilization:g} of {format_gib(found.total)}", asked, asked, asked],
        ["weights", weights, weights, weights],
    ]
    for label, band in (
        (f"activation peak{beside}", found.activation),
        ("outside torch", found.non_torch),
        (f"CUDA graphs{beside}", found.graphs),
        ("left for the cache", found.cache),
    ):
        if band.high:
            rows.append([label, band.low, band.middle, band.high])
    return Table(columns=_TERMS, rows=rows, title=f"{found.engine}'s budget")


def _notes(found: EngineMemory) -> list[str]:
    each = f" of {found.block:,} tokens" if found.block > 1 else ""
    notes = [
        f"{found.unit.capitalize()}: {found.blocks:,}{each} "
        f"({found.blocks_low:,} to {found.blocks_high:,} in the band)",
        *(
            f"Pool of {part.name}: {part.count:,} {part.holds}, {format_gib(part.bytes)}"
            for part in found.pools
        ),
        f"Requests of {found.length:,} tokens at once: {found.users:,}",
        *(f"It will print: {line}" for line in found.lines),
    ]
    if found.block > 1 and found.blocks and found.pinned / found.blocks >= _PINNED_SHARE:
        notes.append(
            f"Note: a prompt of one token pins {found.pinned} of {found.blocks:,} blocks: "
            f"a block holds {found.block:,} tokens."
        )
    if found.asked is not None:
        value = "nothing does" if found.solved is None else f"{found.solved:,g}"
        notes.append(f"--solve {found.asked}: {value}")
    return notes
