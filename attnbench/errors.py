"""The one error tree. Each class carries the exit code that the contract gives it.

An error's text is one line: what is wrong, where (file, key, value), and what
would be right. `hint` is an optional second line with the way out.
"""

from collections.abc import Iterable


class AttnbenchError(Exception):
    """Base of every error that attnbench raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UserError(AttnbenchError):
    """Bad usage or bad input (exit 2)."""

    exit_code = 2


class MachineError(AttnbenchError):
    """This machine cannot do it: a device or an extra is missing (exit 3)."""

    exit_code = 3


class NotComparableError(AttnbenchError):
    """A baseline is missing, or of another device or schema (exit 4)."""

    exit_code = 4


class NothingToDoError(AttnbenchError):
    """Nothing was attempted, or nothing matched (exit 5)."""

    exit_code = 5


def unknown_name(
    kind: str, name: str, known: Iterable[str], *, see: str | None = None
) -> UserError:
    """A `UserError` for a name that is not among `known`, with the nearest ones.

    >>> unknown_name("GPU", "h100-smx", ["h100-sxm", "l4"]).hint
    'Did you mean h100-sxm?'
    """
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if near:
        hint = f"Did you mean {' or '.join(near)}?"
    elif see is not None:
        hint = f"`{see}` lists them."
    else:
        hint = f"Known: {', '.join(names)}."
    return UserError(f"unknown {kind} {name!r}", hint=hint)


def missing_extra(package: str, extra: str) -> MachineError:
    """A `MachineError` for a package of an extra that is not installed."""
    return MachineError(
        f"{package} is not installed", hint=f"Install it with: pip install 'attnbench[{extra}]'"
    )
