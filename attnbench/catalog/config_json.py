"""Reads a `config.json`: bounded in size and depth, one mapping, no code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnbench.errors import UserError

MAX_BYTES = 16 << 20
_MAX_DEPTH = 32


def read_json(path: Path, *, label: str | None = None, limit: int = MAX_BYTES) -> dict[str, Any]:
    """The mapping in the JSON file at `path`.

    Raises:
        UserError: the file is missing, too large, no JSON, or no mapping.
    """
    label = label or str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise UserError(f"{label}: {error.strerror or error}") from None
    if len(raw) > limit:
        raise UserError(f"{label}: over {limit >> 20} MiB; that is no configuration")
    return parse_json(raw, label=label)


def parse_json(raw: bytes, *, label: str) -> dict[str, Any]:
    """The mapping that `raw` spells.

    Raises:
        UserError: it is no JSON, nested too deep, or no mapping.
    """
    if not raw.strip():
        raise UserError(f"{label}: the file is empty")
    try:
        data = json.loads(raw)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{label}:{error.lineno}: not valid JSON: {error.msg} (column {error.colno})"
        ) from None
    except RecursionError:
        raise UserError(f"{label}: nested deeper than {_MAX_DEPTH}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{label}: not valid JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise UserError(f"{label}: holds a {type(data).__name__}, not a mapping of fields")
    _check_depth(data, label)
    return data


def _check_depth(data: Mapping[str, Any], label: str) -> None:
    waiting: list[tuple[Any, int]] = [(data, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise UserError(f"{label}: nested deeper than {_MAX_DEPTH}")
        children = value.values() if isinstance(value, dict) else value
        waiting += [(child, depth + 1) for child in children if isinstance(child, dict | list)]
