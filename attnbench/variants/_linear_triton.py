"""The `triton` backend of attention through feature maps: our kernels, `kernels/linear.py`.

The forward is the kernels'; the backward is autograd's through the eager mathematics, which
it runs again. On the CPU the kernels are interpreted, for a check.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._protocol import Backend, Params
from attnbench.variants._transforms import featured
from attnbench.variants._triton import cannot_run, kernels, too_long

if TYPE_CHECKING:
    from torch import Tensor

# Features of tokens that the interpreter gets through in a few seconds: docs/kernels.md.
INTERPRETED_FEATURES = 1 << 20
_CHUNK = 32  # the shortest chunk: states are the more, the shorter


def linear_backend(
    features: Callable[[AttentionShape, Params], int],
    omega: "Callable[[Any], Tensor | None]",
    eager: Backend,
    lens: "Callable[[Any], Tensor | None]",
) -> Backend:
    """The backend whose backward is that of `eager`, and whose state wraps `eager`'s.

    `features` says how many there are; `omega` and `lens` pick directions (None: elu + 1)
    and the keys that each sequence has from the eager state.
    """

    def supports(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
        reason = cannot_run(shape, device_type)
        if reason is not None or device_type != "cpu":
            return reason
        tokens = shape.batch * shape.heads * max(shape.seq_q, shape.seq_kv)
        return too_long(tokens * features(shape, params), INTERPRETED_FEATURES, "features")

    def prepare(shape: AttentionShape, params: Params, device: str) -> Any:
        state = eager.prepare(shape, params, device)
        options = {"causal": shape.causal, "omega": omega(state), "kv_lens": lens(state)}
        return kernels("linear", device).linear_attention, options, eager.forward, state

    def workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
        count = features(shape, params)
        chunks = shape.seq_kv // _CHUNK + 2
        states = 4 * shape.batch * shape.kv_heads * chunks * count * (shape.head_dim + 1)
        rows = shape.batch * (shape.heads * shape.seq_q + shape.kv_heads * shape.seq_kv)
        made = 4 * rows + shape.dtype.bytes_of(rows * count)  # random features and their scales
        backward = 0 if mode is Mode.FWD else eager.workspace_bytes(shape, mode, params)
        return max(states + made, backward)

    return featured(
        Backend(
            name="triton",
            supports=supports,
            prepare=prepare,
            forward=_forward,
            workspace_bytes=workspace,
            interpreted_on=frozenset({"cpu"}),
        ),
        "padding",
    )


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: Any) -> "Tensor":
    import torch

    attention, options, eager, eager_state = state
    if not (torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))):
        out: Tensor = attention(query, key, value, **options)
        return out
    from attnbench.variants._recomputed import recomputed

    return recomputed(
        lambda q, k, v: attention(q, k, v, **options),
        lambda q, k, v: eager(q, k, v, eager_state),
        query, key, value,
    )  # fmt: skip
