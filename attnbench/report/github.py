"""What a GitHub job shows of a check: annotations, and markdown for the step summary.

Source: GitHub Docs, "Workflow commands for GitHub Actions".
"""

from collections.abc import Sequence
from pathlib import Path

from attnbench.errors import UserError
from attnbench.gate.verdict import Verdict

MAX_ANNOTATIONS = 9  # GitHub shows ten of a kind a step, and this leaves room for the step's own
_MAX_SUMMARY_BYTES = 1_000_000  # GitHub refuses a summary over 1 MiB


def annotations(verdicts: Sequence[Verdict]) -> list[str]:
    """Workflow commands for the failed ones of `verdicts`, worst first, at most nine."""
    failed = [verdict for verdict in verdicts if verdict.failed]
    lines = [_annotation(verdict) for verdict in failed[:MAX_ANNOTATIONS]]
    more = len(failed) - MAX_ANNOTATIONS
    if more > 0:
        lines[-1] += _data(f" (and {more} more: see the step's summary)")
    return lines


def append_summary(path: Path, markdown: str, title: str = "attnbench check") -> None:
    """Append `markdown` to the step's summary file, cut to what GitHub takes.

    Raises:
        UserError: the file cannot be written.
    """
    data = f"## {title}\n\n{markdown}\n".encode()
    if len(data) > _MAX_SUMMARY_BYTES:
        whole = data[:_MAX_SUMMARY_BYTES].rpartition(b"\n")[0]
        data = whole + b"\n\nThe rest is cut: a summary holds 1 MiB.\n"
    try:
        with path.open("ab") as file:
            file.write(data)
    except OSError as error:
        raise UserError(f"GITHUB_STEP_SUMMARY: {path}: {error.strerror}") from None


def _annotation(verdict: Verdict) -> str:
    title = _property(f"{verdict.metric} {verdict.verdict}")
    return f"::error title={title}::{_data(f'{verdict.point}: {verdict.reason}')}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
