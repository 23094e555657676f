"""docs/results.md from the definition of a row: `python -m attnbench.report.columns`."""

import dataclasses

from attnbench.spec.result import COLUMN_DOCS, KEY_COLUMNS, ResultRow, Status

_INTRO = """\
# The columns of results.csv

Made from `attnbench.spec.result.ResultRow` by `python -m attnbench.report.columns`, which also
gives the CSV header and the JSON keys. A point's key is the columns marked *key*. A point whose
`status` is not `ok` keeps its row, its reason in `note`, and has no figures (empty in CSV, null
in JSON).
"""


def columns_markdown() -> str:
    """The text of docs/results.md."""
    lines = [_INTRO, "| column | type | is |", "| --- | --- | --- |"]
    for field in dataclasses.fields(ResultRow):
        kind = getattr(field.type, "__name__", str(field.type)).replace(" | None", "")
        key = " *(key)*" if field.name in KEY_COLUMNS else ""
        lines.append(f"| `{field.name}`{key} | {kind} | {COLUMN_DOCS[field.name]} |")
    lines += ["", "| status | means |", "| --- | --- |"]
    lines += [f"| `{status}` | {_MEANING[status]} |" for status in Status]
    return "\n".join(lines) + "\n"


_MEANING = {
    Status.OK: "right, and timed",
    Status.OOM: "an allocation failed",
    Status.UNSUPPORTED: "the backend cannot run it here; `note` says why",
    Status.TIMEOUT: "a step was silent for longer than the time limit",
    Status.ERROR: "it raised, or its process died",
    Status.INCORRECT: "over the limit of kernel_error or grad_error; not timed",
    Status.IMPOSSIBLE: "timed faster than the device's published peaks allow: a bug, not a record",
    Status.INTERPRETED: "run under an interpreter: checked, never timed",
    Status.SKIPPED: "predicted not to fit; never tried",
}

if __name__ == "__main__":
    print(columns_markdown(), end="")
