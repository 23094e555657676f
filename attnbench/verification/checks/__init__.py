"""The checks: one module each, found by looking at this folder.

Each holds `check(case, dtype)`, which answers readings or raises `NotApplicable`, and
`EVERY_DTYPE`: whether it runs in each dtype asked for, or in the first that runs here.
Only child processes import them.
"""

import importlib
import pkgutil
from types import ModuleType

# The order in which they run and are shown.
ORDER = (
    "output", "gradients", "precision", "causal_leakage", "row_sums", "padding", "features",
    "permutation", "unwritten", "determinism", "logit_scale",
)  # fmt: skip


def check_names() -> tuple[str, ...]:
    """Names of the checks there are, in the order of `ORDER`."""
    found = {m.name for m in pkgutil.iter_modules(__path__)}
    return tuple(sorted(found, key=ORDER.index))


def load_check(name: str) -> ModuleType:
    """The module of the check called `name`. Imports torch."""
    return importlib.import_module(f"{__name__}.{name}")
