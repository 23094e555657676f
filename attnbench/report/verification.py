"""What `verify` shows: a line a backend with each check, the ladder, the scale, what failed."""

from collections.abc import Sequence
from typing import Any

import msgspec

from attnbench.report.document import Column, Document, Table
from attnbench.verification.finding import Finding, Skip

_RECORD = ("variant", "backend", "check", "passed", "value", "limit", "dtype", "at", "note")
_SCALE = (
    "entropy_scaled", "entropy_unscaled", "gradient_norm_scaled", "gradient_norm_unscaled",
)  # fmt: skip
_NOTE = (
    "value and limit: relative errors by norm; elements that differ (determinism), that are not"
    " finite (unwritten); nats (logit_scale). The worst of each check's shapes is shown; -: not"
    " checked, see skipped. docs/verify.md says how each limit is derived."
)


def verify_document(results: Sequence[Finding | Skip], device: str) -> Document:
    """The contract's JSON object, and tables for people."""
    findings = [r for r in results if isinstance(r, Finding)]
    skips = [r for r in results if isinstance(r, Skip)]
    failed = [f for f in findings if not f.passed]
    scale = _scale_rows(findings)
    tables = [_overview(findings), _ladder(findings), _scale_table(scale)]
    if failed:
        tables.append(_failures(failed))
    whole = [s for s in skips if s.check is None]
    if whole:
        tables.append(_skipped(whole))
    return Document(
        schema="attnbench.verify/1",
        data={
            "device": device,
            "passed": len(failed) == 0,
            "checks": [{name: getattr(f, name) for name in _RECORD} for f in findings],
            "logit_scale": scale,
            "skipped": [
                {k: v for k, v in msgspec.to_builtins(s).items() if k != "type"} for s in skips
            ],
        },
        tables=tuple(table for table in tables if table.rows),
        records=Table(
            columns=tuple(Column(key=name, heading=name) for name in _RECORD),
            rows=[[getattr(f, name) for name in _RECORD] for f in findings],
        ),
        notes=(f"{len(findings)} checks on {device}: {len(failed)} failed.", _NOTE),
    )


def _label(item: Finding | Skip) -> str:
    return f"{item.variant}/{item.backend}"


def _overview(findings: Sequence[Finding]) -> Table:
    checks = list(dict.fromkeys(f.check for f in findings if f.check != "precision"))
    cells: dict[str, dict[str, list[bool]]] = {}
    for finding in findings:
        row = cells.setdefault(_label(finding), {})
        row.setdefault(finding.check, []).append(finding.passed)
    return Table(
        title="Checks",
        columns=(
            Column(key="subject", heading="variant"),
            *(Column(key=c, heading=c.replace("_", " "), show=_verdict) for c in checks),
        ),
        rows=[[label, *(row.get(c) for c in checks)] for label, row in cells.items()],
    )


def _verdict(passed: list[bool]) -> str:
    if all(passed):
        return "ok"
    return "FAILED" if len(passed) == 1 else f"FAILED {passed.count(False)}/{len(passed)}"


def _ladder(findings: Sequence[Finding]) -> Table:
    steps = [f for f in findings if f.check == "precision"]
    dtypes = list(dict.fromkeys(f.dtype for f in steps if f.dtype))
    rows: dict[str, dict[Any, Finding]] = {}
    for step in steps:
        rows.setdefault(_label(step), {})[step.dtype] = step
    return Table(
        title="Precision ladder: error against float64 on inputs that nothing has rounded",
        columns=(
            Column(key="subject", heading="variant"),
            *(Column(key=d, heading=d, show=_step, right=True) for d in dtypes),
        ),
        rows=[[label, *(row.get(d) for d in dtypes)] for label, row in rows.items()],
    )


def _step(finding: Finding) -> str:
    shown = "-" if finding.value is None else f"{finding.value:.1e}"
    return shown if finding.passed else f"{shown} FAILED"


def _scale_rows(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """One row a backend and head_dim: entropy and gradient norm, scaled and not."""
    return [
        {
            "variant": f.variant,
            "backend": f.backend,
            "head_dim": int(reading.figures["head_dim"]),
            **{name: reading.figures[name] for name in _SCALE},
        }
        for f in findings
        for reading in f.readings
        if reading.figures
    ]


def _scale_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The first backend's: exact ones agree in every figure that is shown."""
    first = [row for row in rows if (row["variant"], row["backend"]) == _who(rows[0])]
    number = "{:.3f}".format
    return Table(
        title=f"Why 1/√head_dim: softmax over 64 keys, as {'/'.join(_who(rows[0]))} weighs them"
        if rows
        else "",
        columns=(
            Column(key="head_dim", heading="head_dim", right=True),
            Column(key=_SCALE[0], heading="entropy", show=number, right=True),
            Column(key=_SCALE[1], heading="without scale", show=number, right=True),
            Column(key=_SCALE[2], heading="gradient norm", show=number, right=True),
            Column(key=_SCALE[3], heading="without scale", show=number, right=True),
        ),
        rows=[[row["head_dim"], *(row[name] for name in _SCALE)] for row in first],
    )


def _who(row: dict[str, Any]) -> tuple[str, str]:
    return row["variant"], row["backend"]


def _failures(failed: Sequence[Finding]) -> Table:
    return Table(
        title="Failed",
        columns=(
            Column(key="subject", heading="variant"),
            Column(key="check", heading="check"),
            Column(key="dtype", heading="dtype"),
            Column(key="value", heading="value", show="{:.2e}".format, right=True),
            Column(key="limit", heading="limit", show="{:.2e}".format, right=True),
            Column(key="where", heading="where, or why"),
        ),
        rows=[[_label(f), f.check, f.dtype, f.value, f.limit, f.at or f.note] for f in failed],
    )


def _skipped(skips: Sequence[Skip]) -> Table:
    return Table(
        title="Not verified here",
        columns=(
            Column(key="subject", heading="variant"),
            Column(key="reason", heading="why"),
        ),
        rows=[[_label(s), s.reason] for s in skips],
    )
