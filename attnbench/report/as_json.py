"""A document as one JSON object, its schema first. No NaN or Infinity: null."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnbench.report.document import Document


def render(document: Document) -> str:
    """The JSON text, indented, with a newline at its end."""
    whole = {"schema": document.schema, **document.data}
    if document.assumptions:
        whole["assumptions"] = list(document.assumptions)
    return json.dumps(plain(whole), indent=2, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """`value` with mappings, sequences and paths as JSON has them; NaN as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Path):
        return str(value.absolute())
    return value
