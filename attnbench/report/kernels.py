"""What `attnbench kernels` shows: facts of compiled kernels, and verdicts on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnbench.aot.show import shown_config
from attnbench.gate.verdict import Verdict
from attnbench.report.document import Column, Document, Table
from attnbench.units import format_gib

_COLUMNS = (
    Column(key="entry", heading="kernel"),
    Column(key="target", heading="target"),
    Column(key="head_dim", heading="D", show=lambda d: str(d or "-"), right=True),
    Column(key="features", heading="features"),
    Column(key="config", heading="tile, warps, stages", show=shown_config),
    Column(key="registers", heading="registers", right=True),
    Column(key="spill_bytes", heading="spill", show=format_gib, right=True),
    Column(key="shared_bytes", heading="shared", show=format_gib, right=True),
    Column(key="ctas_per_sm", heading="CTAs/SM", right=True),
    Column(key="ctas_limit", heading="limited by"),
    Column(key="mma", heading="MMA"),
    Column(key="mma_redundancy", heading="redundancy", show="{:.2f}".format, right=True),
    Column(key="load_bits", heading="load bits", right=True),
    Column(key="exp2_overlap", heading="exp2 overlap", show="{:.2f}".format, right=True),
    Column(key="loop_instructions", heading="loop instr.", right=True),
    Column(key="barriers", heading="barriers", right=True),
    Column(key="bound", heading="bound"),
    Column(key="model_flops_per_s", heading="TFLOP/s", show=lambda f: f"{f / 1e12:.0f}",
           right=True),
)  # fmt: skip
_CLASSES = (
    ("mma", "MMA"), ("mufu", "MUFU"), ("fp32", "FP32"), ("alu", "ALU"), ("shared", "shared"),
    ("tensor_memory", "TMEM"), ("global", "global"), ("local", "spills"), ("sync", "sync"),
    ("branch", "branch"), ("uniform", "uniform"), ("other", "other"),
)  # fmt: skip
_NOTES = (
    "Read from the machine code of the compiler installed; nothing was run on a GPU.",
    "spill: bytes a thread; redundancy: FLOPs executed over FLOPs wanted, in the main loop.",
)
_CHOICE = (
    "flash_fwd: of a target's two kernels the first is the first choice; both are shipped. On a "
    "GPU they are timed beside each other at the shape asked for, and a row's note says which ran."
)
_WORDS = {"SLOWER": "WORSE"}  # the gate's word; nothing was timed
_VERDICTS = (
    Column(key="point", heading="kernel"),
    Column(key="metric", heading="metric"),
    Column(key="verdict", heading="verdict", show=lambda word: _WORDS.get(word, str(word))),
    Column(key="baseline", heading="budget", show=lambda v: _figure(v), right=True),
    Column(key="current", heading="now", show=lambda v: _figure(v), right=True),
    Column(key="reason", heading=""),
)


def inspect_document(
    rows: Sequence[Mapping[str, Any]],
    failed: Sequence[Mapping[str, Any]],
    *,
    triton: str,
    label: str,
    gpus: Mapping[str, str],
) -> Document:
    """Facts a kernel, and the reasons of those that failed. `label` names the model's figures."""
    by_class = (
        Column(key="entry", heading="main loop of"), *_COLUMNS[1:5],
        *(Column(key=name, heading=heading, right=True) for name, heading in _CLASSES),
    )  # fmt: skip
    counts = [
        [*(row[c.key] for c in by_class[:5]), *(row["loop_classes"].get(c) for c, _ in _CLASSES)]
        for row in rows
    ]
    own = [_CHOICE] if any(row["entry"] == "_flash_fwd_tma" for row in rows) else []
    used = [i for i, c in enumerate(by_class) if i < 5 or any(r[i] is not None for r in counts)]
    shown = Table(columns=_COLUMNS, rows=[[r[c.key] for c in _COLUMNS] for r in rows])
    classes = Table(
        columns=tuple(by_class[i] for i in used), rows=[[r[i] for i in used] for r in counts],
        title="Instructions of the main loop, a warp and iteration",
    )  # fmt: skip
    return Document(
        schema="attnbench.kernels-inspect/1",
        data={"triton": triton, "kernels": rows, "failed": failed},
        tables=(shown, classes) if rows else (),
        records=shown,
        notes=(*_NOTES, *own, *(f"FAILED {row['entry']}: {row['why']}" for row in failed)),
        assumptions=(
            f"bound and TFLOP/s: {label}, of "
            + ", ".join(f"{gpu} for {target}" for target, gpu in gpus.items())
            + ", long sequences without a mask; for telling bad configurations, not for quoting",
        ),
    )


def check_document(
    verdicts: Sequence[Verdict], *, kernels: int, triton: str, budgets: Path, everything: bool
) -> Document:
    """A row a breach, or a row a verdict with `everything`."""
    shown = [v for v in verdicts if everything or v.verdict != "SAME"]
    rows = [[getattr(v, c.key) for c in _VERDICTS] for v in shown]
    failed = sum(v.failed for v in verdicts)
    return Document(
        schema="attnbench.kernels-check/1",
        data={
            "triton": triton,
            "budgets": budgets,
            "kernels": kernels,
            "failed": failed,
            "verdicts": [
                {c.key: getattr(v, c.key) for c in _VERDICTS} | {"failed": v.failed}
                for v in verdicts
            ],
        },
        tables=(Table(columns=_VERDICTS, rows=rows),) if rows else (),
        notes=(f"{kernels} kernels, Triton {triton}: {failed or 'no'} budgets broken.",),
    )


def updated_document(
    path: Path, *, kernels: int, triton: str, spills: Mapping[str, int]
) -> Document:
    """Says that budgets were written, and which of them allow a spill, in bytes a thread."""
    allowed = (f"{label} may spill {count} B a thread" for label, count in spills.items())
    return Document(
        schema="attnbench.kernels-check/1",
        data={"updated": path, "kernels": kernels, "triton": triton, "spills": dict(spills)},
        tables=(),
        notes=(f"Wrote {path}: budgets of {kernels} kernels with Triton {triton}.", *allowed),
    )


def _figure(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
