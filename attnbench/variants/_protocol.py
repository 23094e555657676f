"""What a variant is: names of its parts in `calc`, and the backends that run it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from attnbench.calc.attention_cost import Cost
from attnbench.calc.patterns import Pattern
from attnbench.spec.attention import AttentionShape, Mode

if TYPE_CHECKING:
    from torch import Tensor

ParamValue = int | float | bool | str
Params = Mapping[str, ParamValue]
Learned = Mapping[str, "Tensor"]


class Reference(Protocol):
    """A variant's mathematics in float64: the output, [batch, heads, rows, head_dim]."""

    def __call__(
        self,
        query: "Tensor",
        key: "Tensor",
        value: "Tensor",
        shape: AttentionShape,
        params: Params,
        rows: "Tensor | None" = None,
        learned: "Learned | None" = None,
    ) -> "Tensor":
        """All query rows, or those that the index tensor `rows` names. Differentiable.

        `learned` are tensors in place of `Variant.learned`'s.
        """
        ...


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """One implementation of a variant.

    `supports(shape, mode, params, device_type)` answers the reason it cannot run,
    or None. `device_type` is torch's: "cpu" or "cuda" (ROCm too).
    `prepare(shape, params, device)` makes everything that does not depend on the
    values of query, key and value (masks, block lists, random features, learned
    projections); it stands in `setup_ms`, never in `time_ms`.
    `forward(query, key, value, state)` answers the output [batch, heads, seq_q,
    head_dim]; autograd runs through it where the mode asks for a backward.
    `workspace_bytes(shape, mode, params)` predicts the most memory held at once
    beyond inputs and outputs, so that a point that cannot fit is skipped.
    `chose(state)` says what `prepare` chose on this device, for the row's note.
    `interpreted_on` names device types where it runs under an interpreter: such a
    point is checked, never timed. `compiled_on` names those where each shape is compiled
    anew, many seconds of it: `verify`, which takes many shapes, leaves it out unless asked.
    `learn(state, learned)` is the state with tensors of one's own in place of those that
    `Variant.learned` names: a forward reads them, and gradients reach them. None: it cannot.
    """

    name: str
    supports: Callable[[AttentionShape, Mode, Params, str], str | None]
    prepare: Callable[[AttentionShape, Params, str], Any]
    forward: Callable[["Tensor", "Tensor", "Tensor", Any], "Tensor"]
    workspace_bytes: Callable[[AttentionShape, Mode, Params], int]
    interpreted_on: frozenset[str] = frozenset()
    compiled_on: frozenset[str] = frozenset()
    chose: Callable[[Any], str] = lambda state: ""
    learn: Callable[[Any, Learned], Any] | None = None


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """An attention variant: its mathematics by reference to `calc`, its backends.

    `exact` is whether its output is softmax attention over all pairs.
    `defaults` are its own settings; `resolve(shape, params)` fills those that
    depend on the shape. `pattern(shape, params)` is the set of attended pairs;
    None where the variant is no pattern (performer, linformer, linear): then
    `reference` states its mathematics in float64. (A pattern's reference is
    `pattern_reference` of `attnbench.variants._reference`.) `causal_forms` are the
    values of `causal` that its mathematics has, `modes` the modes. `features` are the
    names of `attnbench.calc.score_features` that its mathematics takes, as settings that
    stand in `params` only where they are on; a backend that lacks one refuses it.
    `least` are the least values of its whole-number settings, where not 1.
    `learned(shape, params)` are the tensors that a model would learn beside query, key and
    value, by name, at the values that stand for them here: the sinks' logits, projections.
    """

    name: str
    summary: str
    paper: str
    exact: bool
    defaults: Params
    resolve: Callable[[AttentionShape, Params], Params]
    pattern: Callable[[AttentionShape, Params], Pattern] | None
    cost: Callable[[AttentionShape, Mode, Params], Cost]
    backends: tuple[Backend, ...]
    causal_forms: frozenset[bool] = frozenset({True, False})
    modes: frozenset[Mode] = frozenset(Mode)
    reference: Reference | None = None
    features: frozenset[str] = frozenset()
    least: Mapping[str, int] = {}
    learned: Callable[[AttentionShape, Params], Learned] = lambda shape, params: {}
