"""A digest of the code and settings that a point was timed with."""

import functools
import hashlib
import importlib
from pathlib import Path

import attnbench
from attnbench.measure.plan import Point, params_text
from attnbench.measure.preset import Timing

_SHARED = ("calc/pattern*.py", "variants/_*.py", "measure/timer.py", "measure/rounds.py")


def recipe(point: Point, timing: Timing, versions: dict[str, str | None]) -> str:
    """Twelve hex digits that change when the code or the settings timed do.

    Covers the variant's module and what variants share, the Triton kernels for
    backend triton, the patterns' arithmetic, the timing settings, and the versions
    of Python, torch and triton; of a user's own kernel its file, and those beside it
    that it imports.
    """
    digest = hashlib.sha256()
    for part in (
        point.variant,
        point.backend,
        params_text(point.params),
        repr(timing),
        repr(sorted(versions.items())),
        repr(point.user.files) if point.user else _sources(point.variant, point.backend),
    ):
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


@functools.cache
def _sources(variant: str, backend: str) -> str:
    root = Path(attnbench.__file__).parent
    files = [root / "variants" / f"{variant}.py"]
    for pattern in _SHARED:
        files += sorted(root.glob(pattern))
    if backend == "triton":
        kernels = importlib.import_module("attnbench.kernels")
        files += sorted(Path(kernels.__path__[0]).glob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
