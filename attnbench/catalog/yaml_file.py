"""Strict YAML: no duplicate or unknown keys, types checked, errors with file and line.

PyYAML follows YAML 1.1, where `3.35e12` is text, `010` is 8, `1:30` is 90, `no` is
false, and a duplicate key wins in silence. Here a number is what anybody would call
one, true and false are the only booleans, and a key stands once. Anchors and aliases
are refused: no file of ours needs them, and they are how a small file becomes
gigabytes.
"""

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from attnbench.errors import UserError

T = TypeVar("T")

MAX_BYTES = 1 << 20  # a profile has some kilobytes; what is larger costs memory to refuse
_MAX_DEPTH = 64
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z"
    r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
)
_UNKNOWN = re.compile(r"unknown field `(.+?)`")
_PATH = re.compile(r" - at `(?:key` in `)?(.+?)`$")


class _Loader(_BASE):  # type: ignore[misc]
    """Safe loader whose plain words are read as the module's docstring says."""

    # A dictionary of its own: the base's is shared by every user of PyYAML.
    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)


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
    return parse_yaml(text, schema, label=label)


def parse_yaml(text: str, schema: type[T], *, label: str) -> T:
    """YAML `text` as an instance of `schema`; `label` names it in errors.

    Raises:
        UserError: not YAML, or does not fit `schema`.
    """
    build = _Builder(label)
    try:
        data = build.document(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{label}:{mark.line + 1}" if mark is not None else label
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{where}: not valid YAML: {problem}") from None
    try:
        return msgspec.convert(data, schema)
    except msgspec.ValidationError as error:
        raise _explain(error, schema, build.lines, label) from None


class _Builder:
    """Python values from a stream of YAML events, with the line of each path kept.

    Events come one at a time, so nesting without end is refused where it passes the
    limit, and is never parsed.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.lines: dict[str, int] = {}

    def document(self, text: str) -> Any:
        loader = _Loader(text)
        try:
            loader.get_event()  # the stream's start
            if loader.check_event(yaml.StreamEndEvent):
                return None
            loader.get_event()  # the document's start
            value = self._value(loader, "$", 0)
            loader.get_event()  # the document's end
            if not loader.check_event(yaml.StreamEndEvent):
                line = loader.peek_event().start_mark.line + 1
                raise self._error(line, "a second document; one is read")
            return value
        finally:
            loader.dispose()

    def _value(self, loader: Any, path: str, depth: int) -> Any:
        event = loader.get_event()
        line = event.start_mark.line + 1
        self.lines.setdefault(path, line)
        if depth > _MAX_DEPTH:
            raise self._error(line, f"nested deeper than {_MAX_DEPTH}")
        if event.anchor is not None:  # an alias has one too
            raise self._error(line, "anchors and aliases are not read here")
        if event.tag is not None:
            raise self._error(line, f"the tag {event.tag[:40]!r}: tags are not read here")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(loader, path, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not loader.check_event(yaml.SequenceEndEvent):
                items.append(self._value(loader, f"{path}[{len(items)}]", depth + 1))
            loader.get_event()
            return items
        return self._scalar(loader, event)

    def _mapping(self, loader: Any, path: str, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while not loader.check_event(yaml.MappingEndEvent):
            event = loader.peek_event()
            line = event.start_mark.line + 1
            key = self._value(loader, f"{path}.?", depth + 1)
            if not isinstance(key, str):
                raise self._error(line, "a key must be a plain word (quote it if it is a number)")
            if key in made:
                raise self._error(line, f"duplicate key {key!r}")
            self.lines[f"{path}.{key}"] = line
            made[key] = self._value(loader, f"{path}.{key}", depth + 1)
        loader.get_event()
        return made

    def _scalar(self, loader: Any, event: Any) -> Any:
        line = event.start_mark.line + 1
        tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        try:
            value = loader.construct_object(yaml.ScalarNode(tag, event.value))
        except ValueError as error:  # more digits than an int may have
            raise self._error(line, f"{event.value[:40]!r}: {error}") from None
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise self._error(line, f"{event.value} is no finite number")
        return value

    def _error(self, line: int, problem: str) -> UserError:
        return UserError(f"{self.label}:{line}: {problem}")


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
