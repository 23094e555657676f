"""The `triton` backend of exact and windowed attention: our kernels, `kernels/flash_grad.py`.

It runs on CUDA and ROCm devices; on the CPU under Triton's interpreter, for a check.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from attnbench.calc.patterns import Pattern
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._protocol import Backend, Learned, Params
from attnbench.variants._support import sinks_among
from attnbench.variants._transforms import featured
from attnbench.variants._triton import cannot_run, kernels, score_options, too_long

if TYPE_CHECKING:
    from torch import Tensor

# Scores that the interpreter gets through in about 15 s on one core: docs/kernels.md.
INTERPRETED_SCORES = 3 << 26
_BACKWARD = (Mode.BWD, Mode.FWD_BWD)
_SCORES_AGAIN = 2  # a backward computes them for dQ, and for dK and dV
_INTERPRETED_BLOCK = 1024  # a row's scores outside its pattern, of blocks that it crosses


class _State(NamedTuple):
    flash: Callable[..., Any]
    settings: dict[str, Any]
    sinks: "Tensor | None"


def triton_backend(
    pattern: Callable[[AttentionShape, Params], Pattern],
    options: Callable[[Params], dict[str, Any]] = lambda params: {},
) -> Backend:
    """The backend of a variant over `pattern`: all pairs, or a window with sinks.

    `options` turns its settings into those of `flash_fwd` that give that pattern.
    """

    def supports(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
        return cannot_run(shape, device_type) or (
            _takes_minutes(shape, mode, pattern(shape, params)) if device_type == "cpu" else None
        )

    def prepare(shape: AttentionShape, params: Params, device: str) -> Any:
        given, sinks = score_options(shape, params, device)
        settings = {"causal": shape.causal, **options(params), **given}
        if device.startswith("cuda"):
            settings["choice"] = _tuned(shape, settings, device)
        return _State(kernels("flash_grad", device).flash, settings, sinks)

    return featured(
        Backend(
            name="triton",
            supports=supports,
            prepare=prepare,
            forward=_forward,
            workspace_bytes=_workspace_bytes,
            interpreted_on=frozenset({"cpu"}),
            chose=_chose,
            learn=_learn,
        ),
        "alibi",
        "soft_cap",
        "sink_logit",
        "padding",
    )


def _tuned(shape: AttentionShape, settings: dict[str, Any], device: str) -> Any:
    """The forward's configuration that is fastest here at this shape, on random operands."""
    import torch

    from attnbench.kernels.flash import choose
    from attnbench.variants._support import torch_dtype

    def draw(heads: int, tokens: int) -> torch.Tensor:
        sizes = (shape.batch, heads, tokens, shape.head_dim)
        return torch.randn(sizes, device=device).to(torch_dtype(shape.dtype))

    query = draw(shape.heads, shape.seq_q)
    return choose(query, *(draw(shape.kv_heads, shape.seq_kv) for _ in range(2)), **settings)


def _chose(state: Any) -> str:
    """What was tuned; nothing of a state that rotations or documents wrap."""
    choice = state.settings.get("choice") if isinstance(state, _State) else None
    return "" if choice is None else str(choice)


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: Any) -> "Tensor":
    from attnbench.variants._score import add_sinks

    flash, settings, sinks = state
    out: Tensor
    out, lse = flash(query, key, value, **settings)
    return out if sinks is None else add_sinks(out, lse, sinks)


def _learn(state: _State, learned: Learned) -> _State:
    return state._replace(sinks=sinks_among(learned, state.sinks))


def _workspace_bytes(shape: AttentionShape, mode: Mode, params: Params) -> int:
    """Beyond operands and results: fp32 [batch, heads, seq_q], and what a backward keeps.

    Forward the LSE; backward its row sums too, and the output.
    """
    rows = shape.batch * shape.heads * shape.seq_q
    if mode not in _BACKWARD:
        return 4 * rows
    return 8 * rows + shape.dtype.bytes_of(rows * shape.head_dim)


def _takes_minutes(shape: AttentionShape, mode: Mode, pattern: Pattern) -> str | None:
    """The reason not to interpret: blocks are computed whole, those with no pair left out."""
    pairs = pattern.pairs(shape.seq_q, shape.seq_kv)
    scores = shape.batch * shape.heads * (pairs + shape.seq_q * _INTERPRETED_BLOCK)
    scores *= 1 + _SCORES_AGAIN * (mode in _BACKWARD)
    return too_long(scores, INTERPRETED_SCORES, "scores")
