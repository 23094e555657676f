"""What `calibrate` shows: each set that was fitted, and what it changed."""

from pathlib import Path
from typing import Any

import msgspec

from attnbench.calibration.own import Fitted, OwnCalibration
from attnbench.report.document import Column, Document, Table

_COLUMNS = (
    Column(key="engine", heading="kernel"),
    Column(key="phase", heading="phase"),
    Column(key="points", heading="points", right=True),
    Column(
        key="error_before", heading="median error before", show=lambda v: f"{v:.1%}", right=True
    ),
    Column(key="error_after", heading="after", show=lambda v: f"{v:.1%}", right=True),
    Column(key="constants", heading="constants", show=lambda c: _constants(c)),
)


def document(made: OwnCalibration, output: Path | None) -> Document:
    """The sets as JSON and one table."""
    written = (f"Wrote {output}: use it as --gpu {output}.",) if output else ()
    return Document(
        schema="attnbench.calibrate/1",
        data={
            "run": made.run,
            "gpu": made.gpu.name,
            "fitted": [msgspec.to_builtins(each) for each in made.fitted],
            "too_few": made.too_few,
            "output": output.absolute() if output else None,
        },
        tables=(
            Table(
                columns=_COLUMNS,
                rows=[_line(each) for each in made.fitted],
                title=f"Constants of {made.gpu.name}, from {made.run}",
            ),
        ),
        notes=(*written, *(f"Not fitted: {why}" for why in made.too_few)),
        assumptions=("Errors are of the points that were fitted, not of others.",),
    )


def _line(each: Fitted) -> list[Any]:
    return [getattr(each, column.key) for column in _COLUMNS]


def _constants(constants: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_figure(value)}" for key, value in constants.items())


def _figure(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "/".join(f"{each:.3g}" for each in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
