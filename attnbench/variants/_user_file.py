"""Reads a user's FILE.py:NAME. Only child processes do: a file may crash or hang."""

import functools
import hashlib
import importlib.util
import inspect
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from attnbench.errors import UserError, unknown_name
from attnbench.spec.attention import Mode
from attnbench.variants import load_variant, variant_names
from attnbench.variants._settings import settings_of
from attnbench.variants._user import UserVariant

_ARGUMENTS = {
    "prepare": ("shape", "params", "device"),
    "forward": ("query", "key", "value", "state"),
    "supports": ("shape", "mode", "params", "device_type"),
}


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """The three functions of a user's kernel, absent ones filled in."""

    prepare: Callable[..., Any]
    forward: Callable[..., Any]
    supports: Callable[..., Any]


def describe(path: str, name: str, device_type: str) -> UserVariant:
    """What NAME of the file at `path` says of itself; runs the file.

    Raises:
        UserError: the file does not run, has no such name, or that is no kernel.
    """
    before = set(sys.modules)
    module = _run(path, device_type == "cpu")
    theirs = _modules_beside(Path(path), set(sys.modules) - before)
    found = _find(module, name, Path(path).name)
    where = f"{Path(path).name}:{name}"
    _kernel(found, where)
    computes = getattr(found, "computes", "flash")
    if computes not in variant_names():
        raise unknown_name(f"{where}: computes:", str(computes), variant_names())
    return UserVariant(
        path=path,
        name=name,
        computes=computes,
        params=_params(found, computes, where),
        features=_features(found, computes, where),
        modes=_modes(found, computes, where),
        files={file: _digest(Path(path).parent / file) for file in sorted(theirs)},
        interpreted=any(_holds_interpreted(module) for module in theirs.values()),
    )


def load(user: UserVariant) -> Kernel:
    """The kernel's functions, from the files as they were when they were described.

    Raises:
        RuntimeError: one of the files is another by now.
    """
    return _load(user.path, user.name, user.interpreted, tuple(user.files.items()))


@functools.cache
def _load(path: str, name: str, interpret: bool, files: tuple[tuple[str, str], ...]) -> Kernel:
    for file, digest in files:
        if _digest(Path(path).parent / file) != digest:
            raise RuntimeError(f"{file} changed after this command began")
    found = _find(_run(path, interpret), name, Path(path).name)
    return _kernel(found, f"{Path(path).name}:{name}")


@functools.cache
def _run(path: str, interpret: bool) -> ModuleType:
    """The file's module. Modules beside it are found after all others."""
    assert multiprocessing.parent_process() is not None, "a user's file runs in a child alone"
    file = Path(path)
    module_name = f"attnbench_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"{file.name}: not a Python file; its name should end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    sys.path.append(str(file.parent))
    if interpret:
        _interpret_triton()
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{_line_of(error, file)}: {_text(error)}") from None
    return module


def _interpret_triton() -> None:
    """From here on `@triton.jit` makes functions that an interpreter runs on the CPU.

    Triton reads the switch as it decorates, its own functions too (`tl.max`), and again
    in a first call: so it stays on, and where Triton is imported already its Python part
    is forgotten and imported anew. This process is a child, and runs one command's job.
    """
    os.environ["TRITON_INTERPRET"] = "1"
    for name in [m for m in sys.modules if m.partition(".")[0] == "triton"]:
        if not name.startswith("triton._C"):
            del sys.modules[name]


def _line_of(error: Exception, file: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file.name}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    return f"{file.name}:{lines[-1]}" if lines else file.name


def _text(error: Exception) -> str:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {said}".split())[:300]


def _find(module: ModuleType, name: str, file: str) -> Any:
    """NAME of the module; an object of it, where it is a class."""
    if not hasattr(module, name):
        named = vars(module).items()
        own = [n for n, x in named if n[0] != "_" and not isinstance(x, ModuleType)]
        raise unknown_name(f"name in {file}:", name, own)
    found = getattr(module, name)
    if not inspect.isclass(found):
        return found
    try:
        return found()
    except Exception as error:
        raise UserError(f"{file}:{name}(): {_text(error)}") from None


def _kernel(found: Any, where: str) -> Kernel:
    forward = getattr(found, "forward", found if inspect.isroutine(found) else None)
    if forward is None:
        raise UserError(
            f"{where} has no forward(query, key, value, state)",
            hint="NAME is a class or object with `forward`, or one function: docs/user_kernels.md.",
        )
    kernel = Kernel(
        forward=forward,
        prepare=getattr(found, "prepare", _shape_alone),
        supports=getattr(found, "supports", _everything),
    )
    for part, names in _ARGUMENTS.items():
        _require_arguments(getattr(kernel, part), names, f"{where}: {part}")
    return kernel


def _shape_alone(shape: Any, params: Any, device: Any) -> Any:
    return shape


def _everything(shape: Any, mode: Any, params: Any, device_type: Any) -> None:
    return None


def _require_arguments(function: Any, names: tuple[str, ...], where: str) -> None:
    wanted = f"it is called with ({', '.join(names)})"
    if not callable(function):
        raise UserError(f"{where} is {type(function).__name__}, not a function; {wanted}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin that has none: the first call will tell
        return
    try:
        signature.bind(*names)
    except TypeError:
        raise UserError(f"{where}{signature}: {wanted}") from None


def _params(found: Any, computes: str, where: str) -> dict[str, Any]:
    given = getattr(found, "params", {})
    if not isinstance(given, dict):
        raise UserError(f"{where}: params is {type(given).__name__}, not a dict")
    try:
        settings = settings_of(load_variant(computes), given)
    except UserError as error:
        raise UserError(f"{where}: params: {error}", hint=error.hint) from None
    return {name: value for name, value in settings.items() if name in given}


def _features(found: Any, computes: str, where: str) -> tuple[str, ...]:
    """Score features that its functions do themselves: those it names, and those it sets."""
    named = getattr(found, "features", ())
    known = load_variant(computes).features
    for name in named:
        if name not in known:
            raise unknown_name(f"{where}: feature", str(name), known)
    return tuple(sorted({*named, *known & getattr(found, "params", {}).keys()}))


def _modes(found: Any, computes: str, where: str) -> tuple[Mode, ...]:
    given = getattr(found, "modes", None)
    if given is None:
        return tuple(sorted(load_variant(computes).modes))
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in list(Mode):
            raise unknown_name(f"{where}: mode", str(name), list(Mode))
    return tuple(Mode(name) for name in names)


def _modules_beside(file: Path, names: set[str]) -> dict[str, ModuleType]:
    """Those of the modules `names` whose files are the user's, by path from the file's folder."""
    found = {}
    for name in names:
        module = sys.modules[name]
        path = Path(getattr(module, "__file__", None) or "/")
        installed = name.startswith("attnbench.") or "site-packages" in path.parts
        if path.suffix == ".py" and path.is_relative_to(file.parent) and not installed:
            found[path.relative_to(file.parent).as_posix()] = module
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _holds_interpreted(module: ModuleType) -> bool:
    """Whether a module holds a kernel that Triton's interpreter runs."""
    interpreter = sys.modules.get("triton.runtime.interpreter")
    if interpreter is None:
        return False
    for value in list(vars(module).values()):
        for _ in range(3):  # an autotuner or heuristics may stand around it
            if isinstance(value, interpreter.InterpretedFunction):
                return True
            value = getattr(value, "fn", None)
    return False
