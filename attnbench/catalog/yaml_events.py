"""YAML text as plain values with the line of each, by PyYAML's events.

PyYAML follows YAML 1.1, where `3.35e12` is text, `010` is 8, `1:30` is 90, `no` is
false, and a duplicate key wins in silence. Here a number is what anybody would call
one, true and false are the only booleans, and a key stands once. Anchors and aliases
are refused: no file of ours needs them, and they are how a small file becomes
gigabytes.
"""

import re
from typing import Any

import yaml

from attnbench.errors import UserError

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z"
    r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
)
_MAX_DEPTH = 64
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc]
    """Safe loader whose plain words are read as the module's docstring says."""

    # A dictionary of its own: the base's is shared by every user of PyYAML.
    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)


def tree_of(text: str, *, label: str) -> tuple[Any, dict[str, int]]:
    """The values in YAML `text`, and the line of each by its path; `label` names it in errors.

    Raises:
        UserError: not YAML, or of a kind that is refused.
    """
    build = _Builder(label)
    try:
        return build.document(text), build.lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{label}:{mark.line + 1}" if mark is not None else label
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{where}: not valid YAML: {problem}") from None


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
