"""Operands, poisoned memory and mutated copies: shared by the tests of the kernels."""

import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attnbench.kernels._interpreter import load_interpreted

from attnbench import kernels

KERNELS = Path(next(iter(kernels.__path__)))
GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA or ROCm device"),
    ],
)
_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody wrote is NaN, so that an unwritten output cannot look right."""
    for name in ("empty", "empty_like"):
        plain = getattr(torch, name)

        def poisoned(*args: Any, plain: Any = plain, **kwargs: Any) -> Any:
            made = plain(*args, **kwargs)
            return made.fill_(float("nan")) if made.is_floating_point() else made

        monkeypatch.setattr(torch, name, poisoned)


def operands(
    device: str, seq_q: int, seq_kv: int, *, batch: int = 1, heads: int = 1, kv_heads: int = 1,
    head_dim: int = 64, dtype: torch.dtype = torch.float16,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Random query, key and value, in layout [B, T, H, D] seen as [B, H, T, D]."""
    source = torch.Generator().manual_seed(seq_q * 1009 + seq_kv)

    def draw(heads: int, tokens: int) -> Any:
        drawn = torch.randn(batch, tokens, heads, head_dim, generator=source)
        return drawn.to(device, dtype).transpose(1, 2)

    return draw(heads, seq_q), draw(kv_heads, seq_kv), draw(kv_heads, seq_kv)


def mutants_of(name: str) -> Callable[..., Any]:
    """A fixture: module `name` of a copy of the kernels in which one text is replaced.

    Its parameter is (file, old text, new text).
    """

    @pytest.fixture
    def mutant(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
        file, old, new = request.param
        folder = tmp_path / "kernels"
        shutil.copytree(KERNELS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        text = (folder / file).read_text()
        assert old in text, f"{file} no longer says {old!r}"
        (folder / file).write_text(text.replace(old, new))
        package = f"mutant_kernels_{next(_NUMBERS)}"
        yield load_interpreted(folder, package, name)
        for loaded in [n for n in sys.modules if n.partition(".")[0] == package]:
            del sys.modules[loaded]

    return mutant
