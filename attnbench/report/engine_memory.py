"""What `memory --engine` adds: the terms of the budget, the pool, and the engine's own line."""

from typing import Any

import msgspec

from attnbench.calc.engine_budget import Band
from attnbench.engines.memory_answer import EngineMemory
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
            "The engine's budget: bands are what its logs show; the cache's band is stated, "
            "1.5 GiB each way on one GPU, 2 on several, 3 on eight or more.",
        ),
    )


def _data(found: EngineMemory) -> dict[str, Any]:
    terms, made = found.budget, found.pool
    return {
        "name": "vllm",
        "requested_bytes": terms.requested,
        "weights_bytes": terms.weights,
        "activation_bytes": _ints(terms.activation),
        "non_torch_bytes": _ints(terms.non_torch),
        "graph_bytes": _ints(terms.graphs),
        "kv_cache_bytes": _ints(terms.cache),
        "block_size": made.plan.block,
        "groups": len(made.plan.groups),
        "padding_layers": made.plan.padding,
        "blocks": made.blocks,
        "blocks_low": found.blocks_low,
        "blocks_high": found.blocks_high,
        "kv_tokens": made.tokens,
        "blocks_of_request": made.blocks_of_request,
        "max_concurrency": made.concurrency,
        "users": found.users,
        "blocks_of_shortest": found.pinned,
        "log_lines": list(made.lines),
        "solve": found.asked,
        "solved": found.solved,
    }


def _ints(band: Band) -> dict[str, int]:
    return {key: round(getattr(band, key)) for key in ("low", "middle", "high")}


def _table(found: EngineMemory) -> Table:
    terms = found.budget
    weights, asked = float(terms.weights), float(terms.requested)
    rows: list[list[Any]] = [
        [f"{terms.utilization:g} of {format_gib(terms.total)}", asked, asked, asked],
        ["weights", weights, weights, weights],
    ]
    for label, band in (
        ("activation peak", terms.activation),
        ("outside torch", terms.non_torch),
        ("CUDA graphs, as budgeted", terms.graphs),
        ("left for the cache", terms.cache),
    ):
        rows.append([label, band.low, band.middle, band.high])
    return Table(columns=_TERMS, rows=rows, title="vLLM's budget")


def _notes(found: EngineMemory) -> list[str]:
    made = found.pool
    notes = [
        f"Blocks: {made.blocks:,} of {made.plan.block:,} tokens "
        f"({found.blocks_low:,} to {found.blocks_high:,} in the band)",
        *(f"It will print: {line}" for line in made.lines),
    ]
    if made.blocks and found.pinned / made.blocks >= _PINNED_SHARE:
        notes.append(
            f"Note: a prompt of one token pins {found.pinned} of {made.blocks:,} blocks: "
            f"a block holds {made.plan.block:,} tokens."
        )
    if found.asked is not None:
        value = "nothing does" if found.solved is None else f"{found.solved:,g}"
        notes.append(f"--solve {found.asked}: {value}")
    return notes
