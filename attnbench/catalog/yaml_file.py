"""Strict YAML: no duplicate or unknown keys, types checked, errors with file and line.

What a file may hold is `yaml_events`' to say, and PyYAML's import is a fifth of what a
calculator takes in all. So shipped profiles, which the tests have read strictly, are read
by yaml12 (YAML 1.2, in Rust); one that does not fit its schema is read again, strictly.
"""

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml12

from attnbench import profiles
from attnbench.errors import UserError

T = TypeVar("T")

_SHIPPED = Path(next(iter(profiles.__path__)))
MAX_BYTES = 1 << 20  # a profile has some kilobytes; what is larger costs memory to refuse
_UNKNOWN = re.compile(r"unknown field `(.+?)`")
_PATH = re.compile(r" - at `(?:key` in `)?(.+?)`$")


def read_yaml(path: Path, schema: type[T], *, label: str | None = None) -> T:
    """The YAML file at `path` as an instance of `schema` (a `msgspec.Struct`).

    Raises:
        UserError: the file is missing, too large, not YAML, or does not fit `schema`.
    """
    label = label or str(path)
    try:
        if not path.is_file():  # a pipe or a device has no end
            raise UserError(f"{label}: {'not a file' if path.exists() else 'no such file'}")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{label}: over {MAX_BYTES >> 20} MiB; that is no profile")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{label}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{label}: not UTF-8 text") from None
    if path.is_relative_to(_SHIPPED):
        try:
            return msgspec.convert(yaml12.parse_yaml(text), schema)
        except ValueError:  # msgspec's too; below it is worded, with the line
            pass
    return parse_yaml(text, schema, label=label)


def parse_yaml(text: str, schema: type[T], *, label: str) -> T:
    """YAML `text` as an instance of `schema`; `label` names it in errors.

    Raises:
        UserError: not YAML, or does not fit `schema`.
    """
    from attnbench.catalog.yaml_events import tree_of

    data, lines = tree_of(text, label=label)
    try:
        return msgspec.convert(data, schema)
    except msgspec.ValidationError as error:
        raise _explain(error, schema, lines, label) from None


def _explain(
    error: msgspec.ValidationError, schema: Any, lines: dict[str, int], label: str
) -> UserError:
    import difflib

    text = str(error)
    found = _PATH.search(text)
    path = found[1] if found else "$"
    message = _PATH.sub("", text)
    unknown = _UNKNOWN.search(message)
    if unknown is None:
        key = path.removeprefix("$").lstrip(".") or "the whole file"
        return UserError(f"{label}:{_line(lines, path)}: {key}: {message}")
    line = lines.get(f"{path}.{unknown[1]}", _line(lines, path))
    known = [f for s in _structs(schema) for f in s.__struct_encode_fields__]
    near = difflib.get_close_matches(unknown[1], known, n=1)
    tail = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"{label}:{line}: unknown key {unknown[1]!r}.{tail}")


def _line(lines: dict[str, int], path: str) -> int:
    """The line of `path`, or of the nearest thing around it that has one.

    msgspec writes `[...]` for a key of a mapping, whose own line it does not know.
    """
    while path not in lines and len(path) > 1:
        path = path[: max(path.rfind("."), path.rfind("["), 1)]
    return lines.get(path, 1)


def _structs(schema: Any) -> list[Any]:
    """`schema` and every Struct named in its fields' types."""
    import msgspec.inspect

    found: list[Any] = []

    def walk(info: Any) -> None:
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls in found:
                return
            found.append(info.cls)
        for name in getattr(info, "__struct_fields__", ()):
            value = getattr(info, name)
            for child in value if isinstance(value, tuple) else (value,):
                if isinstance(child, msgspec.inspect.Type | msgspec.inspect.Field):
                    walk(child)

    walk(msgspec.inspect.type_info(schema))
    return found
