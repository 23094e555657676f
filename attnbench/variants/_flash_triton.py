"""The `triton` backend of exact and windowed attention: our kernels, `kernels/flash_grad.py`.

It runs on CUDA and ROCm devices; on the CPU under Triton's interpreter, for a check.
"""

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from attnbench.calc.patterns import Pattern
from attnbench.calc.score_features import score_features
from attnbench.kernels._targets import MAX_HEAD_DIM
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants._protocol import Backend, Params
from attnbench.variants._transforms import featured

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = (Dtype.FP16, Dtype.BF16, Dtype.FP32)
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
    refuses: Callable[[Params], str | None] = lambda params: None,
) -> Backend:
    """The backend of a variant over `pattern`: all pairs, or a window with sinks.

    `options` turns its settings into those of `flash_fwd` that give that pattern;
    `refuses` answers why the kernel cannot do some settings, or None.
    """

    def supports(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
        return (
            refuses(params)
            or _cannot_run(shape, device_type)
            or (
                _takes_minutes(shape, mode, pattern(shape, params))
                if device_type == "cpu"
                else None
            )
        )

    def prepare(shape: AttentionShape, params: Params, device: str) -> Any:
        given, sinks = _score_options(shape, params, device)
        settings = {"causal": shape.causal, **options(params), **given}
        if device.startswith("cuda"):
            settings["choice"] = _tuned(shape, settings, device)
        return _State(_flash(device), settings, sinks)

    return featured(
        Backend(
            name="triton",
            supports=supports,
            prepare=prepare,
            forward=_forward,
            workspace_bytes=_workspace_bytes,
            interpreted_on=frozenset({"cpu"}),
            chose=_chose,
        ),
        "alibi",
        "soft_cap",
        "sink_logit",
        "padding",
    )


def _score_options(
    shape: AttentionShape, params: Params, device: str
) -> "tuple[dict[str, Any], Tensor | None]":
    """Arguments of the kernel for the score features, and the sinks' logits."""
    from attnbench.variants._score import make_score

    score = make_score(score_features(params), shape, device)
    if score is None:
        return {}, None
    given = {"soft_cap": score.soft_cap, "alibi_slopes": score.slopes, "kv_lens": score.lens}
    return {name: value for name, value in given.items() if value is not None}, score.sinks


def _flash(device: str) -> Callable[..., Any]:
    if device.startswith("cpu"):
        from attnbench.kernels._interpreter import interpreted

        return interpreted("flash_grad").flash  # type: ignore[no-any-return]
    from attnbench.kernels.flash_grad import flash

    return flash  # type: ignore[no-any-return]


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


def _workspace_bytes(shape: AttentionShape, mode: Mode, params: Params) -> int:
    """Beyond operands and results: fp32 [batch, heads, seq_q], and what a backward keeps.

    Forward the LSE; backward its row sums too, and the output.
    """
    rows = shape.batch * shape.heads * shape.seq_q
    if mode not in _BACKWARD:
        return 4 * rows
    return 8 * rows + shape.dtype.bytes_of(rows * shape.head_dim)


def _cannot_run(shape: AttentionShape, device_type: str) -> str | None:
    if shape.dtype not in _DTYPES:
        return f"the triton kernel takes {', '.join(_DTYPES)}, not {shape.dtype}"
    if shape.head_dim > MAX_HEAD_DIM:
        return f"the triton kernel takes head_dim up to {MAX_HEAD_DIM}, not {shape.head_dim}"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install 'attnbench[bench]'"
    if device_type == "cuda":
        return _no_configuration()
    if device_type != "cpu":
        return f"triton has no backend for {device_type}"
    return None


def _takes_minutes(shape: AttentionShape, mode: Mode, pattern: Pattern) -> str | None:
    """The reason not to interpret: blocks are computed whole, those with no pair left out."""
    pairs = pattern.pairs(shape.seq_q, shape.seq_kv)
    scores = shape.batch * shape.heads * (pairs + shape.seq_q * _INTERPRETED_BLOCK)
    scores *= 1 + _SCORES_AGAIN * (mode in _BACKWARD)
    if scores <= INTERPRETED_SCORES:
        return None
    return (
        f"interpreter: about {scores:,} scores would take minutes;"
        f" up to {INTERPRETED_SCORES:,} are checked"
    )


def _no_configuration() -> str | None:
    import torch
    import triton

    from attnbench.kernels._targets import family, target_of

    if triton.knobs.runtime.interpret:
        return "TRITON_INTERPRET is set: the kernel would be interpreted, not timed"
    target = target_of(torch.device("cuda"))
    if family(target) is None:
        return f"the triton kernels have no configuration for {target}"
    return None
