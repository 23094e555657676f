"""A sweep's plan, as `--dry-run` prints it: what would run, and what would not fit."""

from attnbench.measure.plan import predicted_bytes
from attnbench.measure.sweep import Plan
from attnbench.report.document import Column, Document, Table
from attnbench.units import format_duration, format_gib


def plan_document(plan: Plan, expected_s: dict[str, float]) -> Document:
    """One row a point: its shape, the memory predicted, and whether it would run.

    `expected_s` are the seconds that each group, by its label, should take.
    """
    expected = sum(expected_s.values())
    rows = [
        {
            "variant": point.variant,
            "backend": point.backend,
            "shape": group.label,
            "params": dict(point.params),
            "predicted_bytes": predicted_bytes(point),
            "plan": "skip" if point.key in plan.skipped else "run",
        }
        for group in plan.groups
        for point in group.points
    ]
    columns = (
        Column(key="shape", heading="shape"),
        Column(key="variant", heading="variant"),
        Column(key="backend", heading="backend"),
        Column(key="predicted_bytes", heading="predicted memory", show=format_gib, right=True),
        Column(key="plan", heading="plan"),
    )
    return Document(
        schema="attnbench.sweep-plan/1",
        data={
            "device": plan.device.name,
            "memory_limit_bytes": plan.memory_limit_bytes,
            "expected_s": expected,
            "points": rows,
        },
        tables=(Table(columns=columns, rows=[[row[c.key] for c in columns] for row in rows]),),
        notes=(
            f"{len(rows)} points on {plan.device.name};"
            f" a point may take {format_gib(plan.memory_limit_bytes)}.",
            f"Expected to take about {format_duration(expected)}, within a factor of two:"
            " from the rate of a matrix product here, and what is timed.",
        ),
    )
