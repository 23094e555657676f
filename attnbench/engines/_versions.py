"""Versions of engines, and tables keyed by the version a row begins at."""

import re
from collections.abc import Sequence
from typing import TypeVar

Version = tuple[int, ...]
T = TypeVar("T")

LATEST: Version = (1 << 30,)
_NUMBERS = re.compile(r"(?<![\d.])v?(\d{1,6}(?:\.\d{1,6}){1,3})(?![\d])")
_BUILD = re.compile(r"\bb(\d{3,6})\b")


def parse_version(text: str | None) -> Version | None:
    """The release that `text` names, or None; suffixes (rc, post, dev) are of that release.

    >>> parse_version("0.20.2rc1.dev249+g0eec856cc")
    (0, 20, 2)
    >>> parse_version("b5432")
    (5432,)
    """
    if not text or len(text) > 200:
        return None
    found = _NUMBERS.search(text)
    if found is not None:
        return tuple(int(part) for part in found[1].split("."))
    build = _BUILD.search(text)
    return None if build is None else (int(build[1]),)


def pick(table: Sequence[tuple[Version, T]], version: Version | None) -> T:
    """The value of the last row that begins at or before `version`; None is the newest.

    Rows ascend; a version before the first takes the first.
    """
    wanted = LATEST if version is None else version
    return next((value for since, value in reversed(table) if since <= wanted), table[0][1])
