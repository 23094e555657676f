"""What `memory` shows: parameters, a row a part, the fullest GPU, whether it fits."""

import msgspec

from attnbench.calc.memory import Serving
from attnbench.calc.memory_answer import MemoryAnswer
from attnbench.calc.training_cost import TrainingCost
from attnbench.report.document import Column, Document, Table
from attnbench.units import format_count, format_gb, format_gib

_PARTS = {
    "weights_bytes": "weights",
    "kv_cache_bytes": "cache",
    "activation_bytes": "activations",
    "gradient_bytes": "gradients",
    "optimizer_bytes": "optimizer",
    "overhead_bytes": "overhead",
}


def document(found: MemoryAnswer) -> Document:
    """The answer as the contract's JSON object and a table."""
    request, memory = found.request, found.memory
    parallel, work = request.parallel, request.work
    mode = "inference" if isinstance(work, Serving) else "training"
    whole, per_gpu = (msgspec.to_builtins(part) for part in (memory.whole, memory.per_gpu))
    data = {
        "model": request.model.name,
        "source": request.model.source,
        "mode": mode,
        "seq_len": work.seq_len,
        "batch": work.batch,
        "weight_dtype": request.weights_in,
        "kv_dtype": work.cache.dtype.value if isinstance(work, Serving) else None,
        **msgspec.to_builtins(parallel),
        "gpus": memory.gpus,
        "params": msgspec.to_builtins(memory.params),
        "trainable_params": memory.trainable,
        **whole,
        "total_bytes": memory.total_bytes,
        "per_gpu_bytes": memory.per_gpu_bytes,
        "per_gpu": {**per_gpu, "stage": memory.stage},
        "gpu": request.gpu.name if request.gpu else None,
        "gpu_memory_bytes": request.gpu.memory_bytes if request.gpu else None,
        "budget_bytes": request.budget_bytes,
        "fits": found.fits,
        "training_cost": msgspec.to_builtins(found.cost),
        "assumptions": found.assumptions,
    }
    several = memory.gpus > 1
    columns = (
        Column(key="part", heading=""),
        Column(key="bytes", heading="whole model, GiB (2^30)", show=format_gib, right=True),
        Column(key="gb", heading="GB (10^9)", show=format_gb, right=True),
        Column(key="per_gpu_bytes", heading="fullest GPU, GiB", show=format_gib, right=True),
    )[: 4 if several else 3]
    rows = [
        [label, whole[key], whole[key], per_gpu[key]]
        for key, label in _PARTS.items()
        if whole[key] or per_gpu[key]
    ]
    rows.append(["total", memory.total_bytes, memory.total_bytes, memory.per_gpu_bytes])
    title = f"{request.model.name}, {mode}"
    table = Table(columns=columns, rows=[row[: len(columns)] for row in rows], title=title)
    return Document(
        schema="attnbench.memory/1",
        data=data,
        tables=(table,),
        notes=tuple(_notes(found)),
        assumptions=found.assumptions,
        warnings=found.request.model.warnings,
    )


def _notes(found: MemoryAnswer) -> list[str]:
    request, memory = found.request, found.memory
    params = memory.params
    active = "" if params.active == params.total else f", {format_count(params.active)} active"
    parallel, work = request.parallel, request.work
    asked = f"{work.batch} x {work.seq_len:,} tokens, weights in {request.weights_in}"
    if memory.gpus > 1:
        asked += f"; {memory.gpus:,} GPUs: tp {parallel.tp}, pp {parallel.pp}, ep {parallel.ep}"
        asked += f", dp {parallel.dp}"
    notes = [
        f"Run: {asked}",
        f"Parameters: {format_count(params.total)} ({params.total:,}){active}",
    ]
    if memory.trainable:
        notes.append(f"Trained: {format_count(memory.trainable)} ({memory.trainable:,})")
    if found.cost is not None:
        notes.append(_cost_note(found.cost))
    if request.gpu is not None and request.budget_bytes is not None:
        left = request.budget_bytes - memory.per_gpu_bytes
        verdict = f"fits, {format_gb(left)} to spare" if found.fits else f"{format_gb(-left)} short"
        budget = f"{format_gb(request.budget_bytes)} of {format_gb(request.gpu.memory_bytes)}"
        notes.append(f"{request.gpu.name}: {budget} may be used: {verdict}")
    return notes


def _cost_note(cost: TrainingCost) -> str:
    note = f"Training: {format_count(cost.tokens)} tokens, {cost.total_flops:.3g} FLOPs"
    if cost.tokens != cost.optimal_tokens:
        note += f" (compute-optimal: {format_count(cost.optimal_tokens)} tokens)"
    if cost.days is not None and cost.gpu_hours is not None:
        note += f", {cost.days:,.3g} days on {cost.gpus:,} GPUs at MFU {cost.mfu:g}"
        note += f" ({cost.gpu_hours:,.0f} GPU hours)"
    return note
