"""The plain YAML that profiles are written in, read without PyYAML, whose import costs more.

Mappings and lists by indentation, `[...]` and `{...}` of words on one line, single
quotes, comments. What is anything else (escapes, folded text, anchors, a key twice) is
refused, and left to `yaml_events`; tests hold both to the same values.
"""

import math
import re
from typing import Any

NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z")
FLOAT = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z"
    r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
)
_KEY = re.compile(r"([A-Za-z_][\w.-]*):(?: +|\Z)")
_QUOTED = re.compile(r"'((?:[^']|'')*)'")
_WORD = re.compile(r"[A-Za-z0-9.+~-][^\[\]{},:#'\"]*")
_MARKS = "[]{},'\"#&*!|>%@`?-:"  # none begins a plain word; a number may begin with -
_DEEPEST = 20


class NotPlainError(ValueError):
    """Text that `plain_tree` does not take."""


def plain_tree(text: str) -> Any:
    """The values in `text`.

    Raises:
        NotPlainError: it is not plain.

    >>> plain_tree("a: 3.35e12\\nb:\\n- {c: [1, x]}  # why\\n")
    {'a': 3350000000000.0, 'b': [{'c': [1, 'x']}]}
    """
    if not text.isprintable() and not text.replace("\n", "").isprintable():
        raise NotPlainError
    lines = []
    for line in text.split("\n"):
        content = line.lstrip(" ")
        if content and not content.startswith("#"):
            lines.append((len(line) - len(content), content.rstrip(" ")))
    reader = _Reader(lines)
    tree = reader.block(0, 0)
    if reader.at < len(lines):
        raise NotPlainError
    return tree


class _Reader:
    """Blocks of lines, each with its indentation."""

    def __init__(self, lines: list[tuple[int, str]]) -> None:
        self.lines = lines
        self.at = 0

    def block(self, indent: int, depth: int) -> Any:
        """The mapping or list whose lines stand at `indent`."""
        if self.at >= len(self.lines) or depth > _DEEPEST:
            raise NotPlainError
        listed = self.lines[self.at][1].startswith("- ")
        made: Any = [] if listed else {}
        while self.at < len(self.lines):
            here, content = self.lines[self.at]
            if here < indent or (here == indent and listed and not content.startswith("- ")):
                break
            if here > indent or listed != content.startswith("- "):
                raise NotPlainError
            self.at += 1
            if listed:
                made.append(_value(content[2:]))
                continue
            key = _KEY.match(content)
            if key is None or key[1] in made or not isinstance(_plain(key[1]), str):
                raise NotPlainError
            rest = content[key.end() :]
            made[key[1]] = self.below(indent, depth) if rest[:1] in ("", "#") else _value(rest)
        return made

    def below(self, indent: int, depth: int) -> Any:
        """What stands under a key at `indent`: a block, or nothing."""
        if self.at >= len(self.lines):
            return None
        inner, content = self.lines[self.at]
        if inner > indent or (inner == indent and content.startswith("- ")):
            return self.block(inner, depth + 1)
        return None


def _value(text: str) -> Any:
    """The value that a line's `text` holds, a comment after it left out."""
    if text[:1] in ("'", "[", "{"):
        value, end = _flow(text, 0)
        rest = text[end:]
        if rest and not rest.startswith(" #") and not rest.lstrip(" ").startswith("#"):
            raise NotPlainError
        return value
    word = text.partition(" #")[0].rstrip(" ")
    if ": " in word or word.endswith(":"):
        raise NotPlainError
    return _plain(word)


def _flow(text: str, at: int, depth: int = 0) -> tuple[Any, int]:
    """The quoted text, word, list or mapping at `at` of one line, and where it ends."""
    if text[at] == "'":
        quoted = _QUOTED.match(text, at)
        if quoted is None:
            raise NotPlainError
        return quoted[1].replace("''", "'"), quoted.end()
    if text[at] not in "[{":
        word = _WORD.match(text, at)
        if word is None:
            raise NotPlainError
        return _plain(word[0].rstrip(" ")), word.end()
    made: Any = [] if text[at] == "[" else {}
    close = "]" if text[at] == "[" else "}"
    at = _skip(text, at + 1)
    while text[at] != close:
        if depth > _DEEPEST:
            raise NotPlainError
        if isinstance(made, dict):
            key = _KEY.match(text, at)
            if key is None or key[1] in made or not isinstance(_plain(key[1]), str):
                raise NotPlainError
            made[key[1]], at = _flow(text, _skip(text, key.end()), depth + 1)
        else:
            item, at = _flow(text, at, depth + 1)
            made.append(item)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
        elif text[at] != close:
            raise NotPlainError
    return made, at + 1


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] == " ":
        at += 1
    if at >= len(text):
        raise NotPlainError  # goes on in the next line
    return at


def _plain(word: str) -> Any:
    """A word as the number, truth, nothing or text that it stands for."""
    if BOOL.match(word):
        return word.lower() == "true"
    if INT.match(word):
        return int(word.replace("_", ""))
    if FLOAT.match(word):
        if word[-1] in "fFnN" or not math.isfinite(value := float(word.replace("_", ""))):
            raise NotPlainError  # .inf, .nan, 1e999
        return value
    if NULL.match(word):
        return None
    if word[0] in _MARKS:
        raise NotPlainError
    return word
