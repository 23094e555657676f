"""Traffic from a file: the prompt and output length of each request, and when it came.

CSV with a header, or one JSON object a line. Names of columns as public traces have them:
Azure's LLM inference traces, Mooncake's, BurstGPT's, vLLM's and SGLang's benchmarks.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from attnbench.errors import UserError

_INPUT = ("input_tokens", "prompt_tokens", "input_length", "input_len", "prompt_len",
          "contexttokens", "request tokens", "request_tokens")  # fmt: skip
_OUTPUT = ("output_tokens", "completion_tokens", "output_length", "output_len",
           "generated_tokens", "generatedtokens", "response tokens", "response_tokens")  # fmt: skip
_MOST_TOKENS = 1 << 40
_MOST_ROWS = 1_000_000


class TracedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request: tokens of its prompt, and tokens it generated."""

    input_tokens: int
    output_tokens: int


def read_trace(path: Path) -> tuple[TracedRequest, ...]:
    """The requests of a trace file, in its order; those without a token are left out.

    Raises:
        UserError: the file cannot be read, has no such column, or a figure is no count.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.read(1)
            file.seek(0)
            rows = _json_rows(path, file) if first == "{" else _csv_rows(file)
            requests = tuple(r for r in _requests(path, rows) if r.input_tokens + r.output_tokens)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read as a trace: {reason}") from None
    if not requests:
        raise UserError(f"{path}: no request in it")
    return requests


def _csv_rows(file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(file)
    for row in reader:
        yield reader.line_num, row


def _json_rows(path: Path, file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{path}:{number}: not a JSON object") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: not a JSON object")
        yield number, row


def _requests(path: Path, rows: Iterator[tuple[int, Mapping[str, Any]]]) -> Iterator[TracedRequest]:
    for number, (line, row) in enumerate(rows):
        if number >= _MOST_ROWS:
            raise UserError(f"{path}: over {_MOST_ROWS:,} requests")
        fields = {str(key).strip().lower(): value for key, value in row.items()}
        yield TracedRequest(
            input_tokens=_tokens(path, line, fields, _INPUT),
            output_tokens=_tokens(path, line, fields, _OUTPUT),
        )


def _tokens(path: Path, line: int, fields: Mapping[str, Any], names: tuple[str, ...]) -> int:
    name = next((name for name in names if name in fields), None)
    if name is None:
        raise UserError(
            f"{path}:{line}: no column {names[0]!r}",
            hint=f"One of {', '.join(names)}; it has {', '.join(list(fields)[:8])}.",
        )
    try:
        value = float(fields[name])
        if value == int(value) and 0 <= value <= _MOST_TOKENS:
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError(f"{path}:{line}: {name} {fields[name]!r} is not a number of tokens")
