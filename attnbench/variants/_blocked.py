"""The eager backend of patterns that come in blocks (see `_blocks`)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from attnbench.calc.attention_cost import blocked_workspace
from attnbench.calc.patterns import BlockedPattern
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._protocol import Backend, Params
from attnbench.variants._support import supports_dtype
from attnbench.variants._transforms import featured

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.variants._blocks import Plan

ROWS = 320  # query rows a block: the fastest of 128..512 on a CPU, by little


def blocked_backend(pattern: Callable[[AttentionShape, Params], BlockedPattern]) -> Backend:
    """A backend that runs the blocks of `pattern`, and nothing beside them."""

    def prepare(shape: AttentionShape, params: Params, device: str) -> "Plan":
        from attnbench.variants._blocks import make_plan

        return make_plan(shape, pattern(shape, params), device, ROWS)

    def workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
        return blocked_workspace(shape, mode, pattern(shape, params), rows=ROWS)

    return featured(
        Backend(
            name="eager",
            supports=supports_dtype,
            prepare=prepare,
            forward=_forward,
            workspace_bytes=workspace,
        ),
    )


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: "Plan") -> "Tensor":
    from attnbench.variants._blocks import attend

    return attend(query, key, value, state)
