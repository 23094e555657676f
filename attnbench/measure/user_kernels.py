"""`--variant FILE.py:NAME`: finds a user's kernel, and has a child process read it."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from attnbench.errors import NotComparableError, UserError
from attnbench.measure.isolation import Say, run_isolated
from attnbench.variants import variant_names
from attnbench.variants._user import UserVariant

_IMPORT_LIMIT_S = 120.0


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What one `--variant` names, before the file is read. `path` is absolute."""

    path: Path
    name: str


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    message: str
    hint: str | None


def parse_named(text: str) -> Named:
    """FILE.py:NAME taken apart; the file is there, and NAME is no built-in variant's.

    Raises:
        UserError: one of that is not so.
    """
    file, _, name = text.rpartition(":")
    if not file or not name.isidentifier():
        raise UserError(
            f"--variant: {text!r} is not FILE.py:NAME",
            hint="As in --variant my_attention.py:MyAttention; built-in ones go to --variants.",
        )
    path = Path(file).absolute()
    if not path.is_file():
        raise UserError(f"--variant: {file}: no such file")
    if name in variant_names():
        raise UserError(
            f"--variant: {name!r} is a built-in variant's name", hint=f"Give {file} another name."
        )
    return Named(path=path, name=name)


def read_user_variants(texts: Sequence[str], device_type: str) -> tuple[UserVariant, ...]:
    """The user's kernels that `--variant` names, each read by a child process.

    Raises:
        UserError: a file does not run, or its NAME is no kernel; two have one name.
    """
    named = [parse_named(text) for text in texts]
    for i, one in enumerate(named):
        if one.name in {other.name for other in named[:i]}:
            raise UserError(f"--variant: two are called {one.name!r}; results could not tell them")
    return tuple(_read(one, device_type) for one in named)


def _read(named: Named, device_type: str) -> UserVariant:
    payload = (str(named.path), named.name, device_type)
    ended = run_isolated(_describe, payload, time_limit_s=_IMPORT_LIMIT_S)
    if ended.failed:
        raise UserError(f"--variant: {named.path.name}: while it was imported: {ended.reason}")
    if isinstance(ended.result, _Refusal):
        raise UserError(f"--variant: {ended.result.message}", hint=ended.result.hint)
    assert isinstance(ended.result, UserVariant)
    return ended.result


def _describe(payload: tuple[str, str, str], say: Say) -> UserVariant | _Refusal:
    """Job: what the file says of its kernel."""
    from attnbench.variants._user_file import describe

    try:
        return describe(*payload)
    except UserError as error:
        return _Refusal(message=str(error), hint=error.hint)


def require_same_files(named: Named, recorded: Sequence[Mapping[str, Any]], run: str) -> None:
    """Refuse a run that was timed with other files than are there now. Runs nothing.

    `recorded` are the user's variants of the run's configuration.

    Raises:
        NotComparableError: the run has no such variant, or a file is another by now.
    """
    found = next((r for r in recorded if r.get("name") == named.name), None)
    if found is None:
        raise NotComparableError(
            f"{run} was not made with --variant {named.path.name}:{named.name}",
            hint="Time it: attnbench sweep --variant FILE.py:NAME --run-dir DIR",
        )
    for file, digest in found["files"].items():
        path = named.path.parent / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise NotComparableError(
                f"{path} is not what {run} was timed with", hint="Sweep again, then check."
            )
