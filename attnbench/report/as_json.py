"""A document as one JSON object, its schema first. No NaN or Infinity: null."""

import json

from attnbench.files import plain
from attnbench.report.document import Document


def render(document: Document) -> str:
    """The JSON text, indented, with a newline at its end."""
    whole = {"schema": document.schema, **document.data}
    if document.assumptions:
        whole["assumptions"] = list(document.assumptions)
    if document.warnings:
        whole["warnings"] = list(document.warnings)
    return json.dumps(plain(whole), indent=2, allow_nan=False) + "\n"
