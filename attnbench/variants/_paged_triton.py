"""The `triton` backend of paged decoding: our kernels, `kernels/paged_decode.py`.

It reads the pages of the eager backend's state (`_paged.py`): a token's place in memory is
its position. On the CPU the kernels are interpreted, for a check.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._protocol import Backend, Learned, Params
from attnbench.variants._support import sinks_among
from attnbench.variants._transforms import featured
from attnbench.variants._triton import cannot_run, kernels, score_options, too_long

if TYPE_CHECKING:
    from torch import Tensor

# Scores that the interpreter gets through in a few seconds on one core: docs/kernels.md.
INTERPRETED_SCORES = 1 << 24
_INTERPRETED_ROWS = 16  # of a matrix product, however few heads share a KV head


def paged_backend(
    supports: Callable[[AttentionShape, Mode, Params, str], str | None],
    prepare: Callable[[AttentionShape, Params, str], Any],
) -> Backend:
    """The backend that runs where `supports` has no reason, over the pages of `prepare`."""

    def can(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
        reason = supports(shape, mode, params, device_type) or cannot_run(shape, device_type)
        if reason is not None or device_type != "cpu":
            return reason
        scores = shape.batch * shape.kv_heads * shape.seq_kv
        scores *= max(_INTERPRETED_ROWS, shape.group)
        return too_long(scores, INTERPRETED_SCORES, "scores")

    def prepare_kernel(shape: AttentionShape, params: Params, device: str) -> Any:
        import torch

        options, sinks = score_options(shape, params, device)
        whole = torch.full((shape.batch,), shape.seq_kv, dtype=torch.int32, device=device)
        options.setdefault("kv_lens", whole)
        pages = prepare(shape, params, device)
        options |= {
            "block_table": pages.table.int().contiguous(), "page_size": pages.page_size,
            "splits": pages.splits, "in_place": True,
        }  # fmt: skip
        return kernels("paged_decode", device).paged_decode, options, sinks

    return featured(
        Backend(
            name="triton",
            supports=can,
            prepare=prepare_kernel,
            forward=_forward,
            workspace_bytes=_workspace_bytes,
            interpreted_on=frozenset({"cpu"}),
            learn=_learn,
        ),
        "alibi",
        "soft_cap",
        "sink_logit",
        "padding",
    )


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: Any) -> "Tensor":
    from attnbench.variants._score import add_sinks

    paged_decode, options, sinks = state
    out: Tensor
    out, lse = paged_decode(query, key, value, **options)
    return out if sinks is None else add_sinks(out, lse, sinks)


def _learn(state: Any, learned: Learned) -> Any:
    *kernel, sinks = state
    return *kernel, sinks_among(learned, sinks)


def _workspace_bytes(shape: AttentionShape, mode: Mode, params: Params) -> int:
    """Partial results and their LSEs in fp32, one a split, and the LSE."""
    rows = shape.batch * shape.heads
    return 4 * rows * (int(params["splits"]) * (shape.head_dim + 1) + 1)
