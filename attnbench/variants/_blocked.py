"""The eager backend of patterns that come in blocks (see `_blocks`)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from attnbench.calc.eager_memory import blocked_workspace
from attnbench.calc.patterns import BlockedPattern
from attnbench.calc.score_features import score_features
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._protocol import Backend, Learned, Params
from attnbench.variants._support import supports_dtype
from attnbench.variants._transforms import featured

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.variants._blocks import Plan
    from attnbench.variants._score import Score

ROWS = 192  # query rows a block: the fastest of 128..512 on a CPU


class _State(NamedTuple):
    """The blocks, and what features do to their scores (None: nothing)."""

    plan: "Plan"
    shape: AttentionShape
    score: "Score | None"


def blocked_backend(pattern: Callable[[AttentionShape, Params], BlockedPattern]) -> Backend:
    """A backend that runs the blocks of `pattern`, and nothing beside them."""

    def prepare(shape: AttentionShape, params: Params, device: str) -> "_State":
        from attnbench.variants._blocks import make_plan
        from attnbench.variants._score import make_score

        plan = make_plan(shape, pattern(shape, params), device, ROWS)
        return _State(plan, shape, make_score(score_features(params), shape, device))

    def workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
        features = score_features(params)
        return blocked_workspace(shape, mode, pattern(shape, params), features, rows=ROWS)

    return featured(
        Backend(
            name="eager",
            supports=supports_dtype,
            prepare=prepare,
            forward=_forward,
            workspace_bytes=workspace,
            learn=_learn,
        ),
        "alibi",
        "soft_cap",
        "sink_logit",
        "padding",
    )


def _learn(state: "_State", learned: Learned) -> "_State":
    from attnbench.variants._score import learn_sinks

    return state if state.score is None else state._replace(score=learn_sinks(state.score, learned))


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: "_State") -> "Tensor":
    from attnbench.variants._blocks import attend, attend_scored
    from attnbench.variants._score import add_sinks, without_padding

    if state.score is None:
        return attend(query, key, value, state.plan)
    key, value = (without_padding(x, state.score.lens) for x in (key, value))
    out, lse = attend_scored(query, key, value, state.plan, state.shape, state.score)
    if state.score.sinks is not None:
        out = add_sinks(out, lse, state.score.sinks)
    return out.to(query.dtype)
