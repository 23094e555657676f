"""A second copy of the kernels that Triton's interpreter runs on the CPU, for checks.

`@triton.jit` reads the interpreter's switch when it decorates, and for the whole
process. So the kernels are imported twice: as `attnbench.kernels`, compiled, and as a
private package of the same files, imported with the switch on. Nothing else in the
process sees the switch, and no GPU driver is asked for.
"""

import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import triton
from triton.runtime.interpreter import InterpretedFunction

_LOCK = threading.Lock()


def interpreted(name: str) -> ModuleType:
    """The kernel module `name` ("flash"), its kernels run by the interpreter.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    return load_interpreted(Path(__file__).parent, "attnbench._interpreted_kernels", name)


def load_interpreted(folder: Path, package: str, name: str) -> ModuleType:
    """Module `name` of `folder`, imported as `package` with the interpreter switched on."""
    # The files import each other by relative names, and so find the copy's own.
    with _LOCK, triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = True
        if package not in sys.modules:
            spec = importlib.util.spec_from_file_location(
                package, folder / "__init__.py", submodule_search_locations=[str(folder)]
            )
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[package] = module
            spec.loader.exec_module(module)
        found = importlib.import_module(f"{package}.{name}")
        for part in [m for n, m in sys.modules.items() if n.startswith(f"{package}.")]:
            for function in vars(part).values():
                if isinstance(function, InterpretedFunction):
                    function.__class__ = _CalledByKernels
        return found


class _CalledByKernels(InterpretedFunction):  # type: ignore[type-arg] # no types
    """A function whose calls from a kernel are plain calls.

    The interpreter would set itself up anew at each, on top of what the kernel's own
    launch did: that takes longer than most functions do, and longer every time.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.rewrite()(*args, **kwargs)  # type: ignore[no-untyped-call]
