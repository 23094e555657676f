"""Strict YAML: no duplicate or unknown keys, types checked, errors with file and line.

PyYAML reads `3.35e12` as text and lets a duplicate key win in silence; both are
mended here. Anchors and aliases are refused: no file of ours needs them, and they
are how a small file becomes gigabytes.
"""

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from attnbench.errors import UserError

T = TypeVar("T")

MAX_BYTES = 16 << 20
_MAX_DEPTH = 64
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FLOAT = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+")
_UNKNOWN = re.compile(r"unknown field `(.+?)`")
_PATH = re.compile(r" - at `(.+?)`$")


class _Loader(_BASE):  # type: ignore[misc]
    """Safe loader that also reads 3.35e12 as a number."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_yaml(path: Path, schema: type[T], *, label: str | None = None) -> T:
    """The YAML file at `path` as an instance of `schema` (a `msgspec.Struct`).

    Raises:
        UserError: the file is missing, too large, not YAML, or does not fit `schema`.
    """
    label = label or str(path)
    try:
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
    build = _Builder(_Loader(text), label)
    try:
        data = build.document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{label}:{mark.line + 1}" if mark is not None else label
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{where}: not valid YAML: {problem}") from None
    finally:
        build.loader.dispose()
    try:
        return msgspec.convert(data, schema)
    except msgspec.ValidationError as error:
        raise _explain(error, schema, build.lines, label) from None


class _Builder:
    """Python values from YAML nodes, with the line of each path kept."""

    def __init__(self, loader: Any, label: str) -> None:
        self.loader = loader
        self.label = label
        self.lines: dict[str, int] = {}
        self._seen: set[int] = set()

    def document(self) -> Any:
        node = self.loader.get_single_node()
        return None if node is None else self._value(node, "$", 0)

    def _value(self, node: yaml.Node, path: str, depth: int) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if not isinstance(node, yaml.CollectionNode):
            return self.loader.construct_object(node, deep=True)
        if depth > _MAX_DEPTH:
            raise UserError(f"{self.label}:{line}: nested deeper than {_MAX_DEPTH}")
        if id(node) in self._seen:  # an alias: the same node a second time
            raise UserError(f"{self.label}:{line}: anchors and aliases are not read here")
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        return [self._value(n, f"{path}[{i}]", depth + 1) for i, n in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            key = None
            if isinstance(key_node, yaml.ScalarNode):
                key = self.loader.construct_object(key_node, deep=True)
            if not isinstance(key, str | int):
                raise UserError(f"{self.label}:{key_line}: a key must be a plain word")
            if key in made:
                raise UserError(f"{self.label}:{key_line}: duplicate key {key!r}")
            self.lines[f"{path}.{key}"] = key_line
            made[key] = self._value(value_node, f"{path}.{key}", depth + 1)
        return made


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
        return UserError(f"{label}:{lines.get(path, 1)}: {key}: {message}")
    line = lines.get(f"{path}.{unknown[1]}", lines.get(path, 1))
    known = [f for s in _structs(schema) for f in s.__struct_encode_fields__]
    near = difflib.get_close_matches(unknown[1], known, n=1)
    tail = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"{label}:{line}: unknown key {unknown[1]!r}.{tail}")


def _structs(schema: Any) -> list[Any]:
    """`schema` and every Struct named in its fields' types."""
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

    import msgspec.inspect

    walk(msgspec.inspect.type_info(schema))
    return found
