"""What `plan` shows: the recommendation, the front, who lost and why, the command line."""

from typing import Any

import msgspec

from attnbench.calc.plan_answer import Plan
from attnbench.calc.plan_explain import Candidate
from attnbench.calc.plan_solve import Solved
from attnbench.engines.serve_command import Launch
from attnbench.report.document import Column, Document, Table
from attnbench.units import format_gib, format_ms


def _ms(seconds: float) -> str:
    return format_ms(seconds * 1e3)


_COLUMNS = (
    Column(key="gpu", heading="GPU"),
    Column(key="gpus", heading="GPUs", right=True),
    Column(key="replicas", heading="replicas", right=True),
    Column(key="tp", heading="tp", right=True),
    Column(key="pp", heading="pp", right=True),
    Column(key="ep", heading="ep", right=True),
    Column(key="dp", heading="dp", right=True),
    Column(key="weight_dtype", heading="weights"),
    Column(key="kv_dtype", heading="cache"),
    Column(key="batch", heading="batch", right=True),
    Column(key="chunk_tokens", heading="chunk", right=True),
    Column(key="ttft_s", heading="TTFT (ms)", show=_ms, right=True),
    Column(key="itl_s", heading="ITL (ms)", show=_ms, right=True),
    Column(
        key="capacity_tokens_per_s", heading="tokens/s", show=lambda v: f"{v:,.0f}", right=True
    ),
    Column(key="cost_per_hour", heading="USD/h", show=lambda v: f"{v:,.2f}", right=True),
    Column(
        key="cost_per_million_tokens", heading="USD/M tokens", show=lambda v: f"{v:,.3g}",
        right=True,
    ),
    Column(key="per_gpu_bytes", heading="a GPU (GiB, 2^30)", show=format_gib, right=True),
    Column(key="binds", heading="binds"),
    Column(key="bound", heading="step waits for"),
)  # fmt: skip
_REJECTED = (
    Column(key="gpu", heading="GPU"),
    Column(key="layout", heading="layout"),
    Column(key="why", heading="why not"),
)


def document(found: Plan, launched: Launch, solved: Solved | None) -> Document:
    """The answer as the contract's JSON object and tables."""
    problem = found.problem
    best = [found.recommended]
    keys = tuple(Column(key=name, heading=name) for name in Candidate.__struct_fields__)
    return Document(
        schema="attnbench.plan/1",
        data={
            "model": problem.model.name,
            "traffic": msgspec.to_builtins(problem.traffic),
            "limits": msgspec.to_builtins(problem.limits),
            "solve": None if solved is None else {"what": solved.solve, "value": solved.value},
            "recommended": msgspec.to_builtins(found.recommended),
            "front": [msgspec.to_builtins(point) for point in found.front],
            "rejected": [_rejected(item) for item in found.rejected],
            "command": msgspec.to_builtins(launched),
            "considered": found.considered,
            "computed": found.computed,
            "notes": found.notes,
            "assumptions": found.assumptions,
        },
        tables=(
            Table(columns=_COLUMNS, rows=_lines(best), title=f"recommended for {_title(found)}"),
            Table(
                columns=_COLUMNS,
                rows=_lines(found.front),
                title="front: none is cheaper, faster a token and of more throughput at once",
            ),
            Table(
                columns=_REJECTED,
                rows=[[item.gpu, _layout(item.candidate), item.why] for item in found.rejected],
                title="not recommended",
            ),
        ),
        records=Table(
            columns=keys,
            rows=[[getattr(point, c.key) for c in keys] for point in (*best, *found.front)],
        ),
        notes=(
            *([solved.note] if solved is not None and solved.note else []),
            f"$ {launched.command}",
            *launched.notes,
            *found.notes,
            f"{found.considered:,} candidates, {found.computed:,} of them computed in full",
        ),
        assumptions=found.assumptions,
    )


def _lines(points: list[Candidate] | tuple[Candidate, ...]) -> list[list[Any]]:
    return [[getattr(point, column.key) for column in _COLUMNS] for point in points]


def _rejected(item: Any) -> dict[str, Any]:
    named = {} if item.candidate is None else msgspec.to_builtins(item.candidate)
    return {"why": item.why, "gpu": item.gpu, **named}


def _layout(of: Candidate | None) -> str:
    if of is None:
        return "-"
    expert = f" ep {of.ep}" if of.ep > 1 else ""
    return (
        f"{of.gpus} GPUs: tp {of.tp} pp {of.pp}{expert} dp {of.dp}, {of.weight_dtype}, "
        f"{of.kv_dtype} cache, batch {of.batch}"
    )


def _title(found: Plan) -> str:
    traffic, limits = found.problem.traffic, found.problem.limits
    if traffic.requests_per_s is not None:
        load = f"{traffic.requests_per_s:g} requests/s"
    elif traffic.users is not None:
        load = f"{traffic.users:,} users"
    else:
        load = "one full replica"
    return (
        f"{found.problem.model.name}: {traffic.input_len:,} tokens in, {traffic.output_len:,} out, "
        f"{load}; TTFT {limits.ttft_s * 1e3:g} ms, ITL {limits.itl_s * 1e3:g} ms"
    )
