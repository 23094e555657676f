"""Which modules a list of names, globs and `re:` patterns in a configuration means."""

import fnmatch
import re

import msgspec

from attnbench.errors import UserError

_MOST = 200_000
_MOST_PATTERNS = 1_000
_LONGEST = 300
_UNBOUNDED = re.compile(r"(?<!\\)[*+{]")
_NUMBER = re.compile(r"\d")


class Patterns(msgspec.Struct, frozen=True, kw_only=True):
    """Names of modules. Made by `read_patterns`.

    `words` are whole names or a part between dots, `globs` have `*` or `?`,
    `expressions` are regular. `numbered`: some entry names a layer by its number.
    """

    words: frozenset[str] = frozenset()
    globs: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    numbered: bool = False

    def count(self, module: str, indices: tuple[int, ...]) -> int:
        """In how many of the layers `indices` some entry names `module`.

        `module` has `*` for the layer's number, then for an expert's.
        """
        if not (self.words or self.globs or self.expressions):
            return 0
        if not self.numbered:
            return len(indices) if self._names(_filled(module, 0)) else 0
        return sum(self._names(_filled(module, index)) for index in indices)

    def _names(self, module: str) -> bool:
        parts = module.split(".")
        runs = (
            ".".join(parts[first:last])
            for first in range(len(parts))
            for last in range(first + 1, len(parts) + 1)
        )
        return (
            any(run in self.words for run in runs)
            or any(fnmatch.fnmatchcase(module, g) for g in self.globs)
            or any(fnmatch.fnmatchcase(module, f"{g}.*") for g in self.globs)
            or any(re.match(e, module) for e in self.expressions)
        )


def _filled(module: str, index: int) -> str:
    return module.replace("*", str(index), 1).replace("*", "0")


def read_patterns(value: object, *, where: str) -> Patterns:
    """The `Patterns` of a list as a configuration has it.

    Raises:
        UserError: not a list of text, or an expression that could take for ever.
    """
    if value is None:
        return Patterns()
    if isinstance(value, dict):
        value = list(value)
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or len(value) > _MOST:
        raise UserError(f"{where}: not a list of module names")
    for entry in value:
        if not isinstance(entry, str) or len(entry) > _LONGEST:
            raise UserError(f"{where}: {str(entry)[:40]!r} is not a module's name")
    expressions = tuple(entry[3:] for entry in value if entry.startswith("re:"))
    for expression in expressions:
        _check_expression(expression, where)
    names = [entry for entry in value if not entry.startswith("re:")]
    globs = tuple(name for name in names if "*" in name or "?" in name)
    if len(globs) + len(expressions) > _MOST_PATTERNS:
        raise UserError(f"{where}: over {_MOST_PATTERNS} patterns")
    return Patterns(
        words=frozenset(name.removesuffix(".weight") for name in names),
        globs=globs,
        expressions=expressions,
        numbered=any(_NUMBER.search(entry) for entry in value),
    )


def _check_expression(text: str, where: str) -> None:
    """Refuse what does not compile, and what backtracks without end (`(a+)+`)."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        raise UserError(f"{where}: {text[:60]!r} is not a regular expression") from None
    if re.search(r"\)[*+{]", text) or len(_UNBOUNDED.findall(text)) > 4:
        raise UserError(f"{where}: the expression {text[:60]!r} is too involved to be run")
