"""Which GPU targets the installed Triton can compile for."""

import re
import subprocess
from collections.abc import Sequence

from attnbench.errors import MachineError, UserError, unknown_name
from attnbench.kernels._targets import SHARED_LIMIT_BYTES, family

_NAME = re.compile(r"'sm_(\d+)'")
_FIRST, _BLACKWELL = 70, 100
# Source: triton/README.md, "Compatibility", and triton/backends/amd/compiler.py.
_AMD = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1101", "gfx1102", "gfx1200", "gfx1201")


def known_targets() -> tuple[str, ...]:
    """What this Triton's assemblers name: "sm_80", ..., and AMD's.

    Raises:
        MachineError: ptxas, which comes with Triton, cannot run.
    """
    numbers = {n for n in _named_by("ptxas") if _FIRST <= n < _BLACKWELL}
    numbers |= {n for n in _named_by("ptxas_blackwell") if n >= _BLACKWELL}
    return (*(f"sm_{n}" for n in sorted(numbers)), *_AMD)


def parse_targets(texts: Sequence[str], *, shipped: bool) -> list[str]:
    """Targets in the spelling of `known_targets`; `shipped`: those with configurations.

    Raises:
        UserError: one that this Triton does not know, or that no configuration is for.
    """
    known = known_targets()
    names = [text.strip().lower() for text in texts]
    for name, text in zip(names, texts, strict=True):
        if not re.fullmatch(r"sm_\d+|gfx[0-9a-f]+", name):
            raise unknown_name("target", text, known)
        if name not in known:
            raise UserError(
                f"unknown target {text!r}", hint=f"This Triton knows {', '.join(known)}."
            )
        if shipped and family(name) is None:
            raise UserError(
                f"no configuration is shipped for target {text!r}",
                hint=f"There are some for {', '.join(SHARED_LIMIT_BYTES)} and their relatives.",
            )
    return names


def _named_by(tool: str) -> set[int]:
    import triton

    found = getattr(triton.knobs.nvidia, tool, triton.knobs.nvidia.ptxas)
    try:
        done = subprocess.run(
            [found.path, "--help"], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(f"{tool}: {error}", hint="It comes with Triton's wheel.") from None
    return {int(number) for number in _NAME.findall(done.stdout)}
