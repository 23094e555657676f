"""What `attnbench doctor` shows: the machine, the packages, and what would run."""

from collections.abc import Mapping

import msgspec

from attnbench.measure.survey import Survey
from attnbench.report.document import Column, Document, Table
from attnbench.units import format_gib


def doctor_document(
    *,
    survey: Survey | None,
    trouble: str | None,
    versions: Mapping[str, str | None],
    system: Mapping[str, str],
    cpu: str,
    missing: Mapping[str, str],
) -> Document:
    """The document of a machine; `missing` gives the extra that each package is in."""
    facts: list[tuple[str, object]] = [("processor", cpu), *system.items()]
    if survey is not None:
        device = survey.device
        facts += [("device", f"{device.name} ({device.type})")]
        facts += [
            ("memory", format_gib(device.memory_bytes)),
            ("free", format_gib(device.free_bytes)),
        ]
        cache = device.cache_bytes
        facts += [("last-level cache", format_gib(cache) if cache else "not known")]
        facts += [(key, value) for key, value in device.details.items() if value is not None]
    facts += list(versions.items())
    facts += [
        (name, f"missing: pip install 'attnbench[{extra}]'") for name, extra in missing.items()
    ]
    tables = [
        Table(
            columns=(Column(key="what", heading="this machine"), Column(key="value", heading="")),
            rows=facts,
        )
    ]
    if survey is not None:
        tables.append(_abilities(survey))
    return Document(
        schema="attnbench.doctor/1",
        data={
            "device": msgspec.to_builtins(survey.device) if survey else None,
            "trouble": trouble,
            "processor": cpu,
            "system": dict(system),
            "versions": dict(versions),
            "missing": dict(missing),
            "variants": msgspec.to_builtins(survey.abilities) if survey else [],
        },
        tables=tuple(tables),
        notes=_notes(survey, trouble, missing),
    )


def _abilities(survey: Survey) -> Table:
    return Table(
        columns=(
            Column(key="variant", heading="variant"),
            Column(key="backend", heading="backend"),
            Column(key="runs", heading="runs here"),
            Column(key="modes", heading="modes", show=", ".join),
            Column(key="reason", heading="why not"),
        ),
        rows=[(a.variant, a.backend, a.runs, a.modes, a.reason) for a in survey.abilities],
    )


def _notes(
    survey: Survey | None, trouble: str | None, missing: Mapping[str, str]
) -> tuple[str, ...]:
    notes = []
    if trouble is not None:
        notes.append(f"torch is installed and does not start: {trouble}")
    if survey is not None and survey.device.type == "cpu":
        notes.append("No GPU that torch can use: sweeps run on the CPU.")
    if "torch" in missing:
        notes.append("The calculators work as they are; measuring needs the extra 'bench'.")
    return tuple(notes)
