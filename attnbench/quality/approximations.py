"""Each variant's float64 mathematics against exact attention: the approximation's own error.

A kernel's rounding is not in these figures; `kernel_error` of a sweep has it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from attnbench.calc.patterns import Full, Pattern
from attnbench.spec.attention import AttentionShape
from attnbench.variants import load_variant, variant_names
from attnbench.variants._protocol import Params, Variant

if TYPE_CHECKING:
    from torch import Tensor

Tensors = "tuple[Tensor, Tensor, Tensor]"


class Approximation(msgspec.Struct, frozen=True, kw_only=True):
    """A variant with its settings, in the form (causal or not) that it is judged in."""

    variant: Variant
    params: Params
    causal: bool

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.variant.name

    def at(self, shape: AttentionShape) -> tuple[AttentionShape, Params]:
        """`shape` in this form, and the settings that it makes."""
        mine = msgspec.structs.replace(shape, causal=self.causal)
        return mine, self.variant.resolve(mine, self.params)

    def pattern(self, shape: AttentionShape) -> Pattern | None:
        """Its pattern at `shape`; None where it is none."""
        mine, params = self.at(shape)
        return None if self.variant.pattern is None else self.variant.pattern(mine, params)

    def density(self, shape: AttentionShape) -> float | None:
        """Share of all query-key pairs that its pattern attends; None where it is none."""
        pattern = self.pattern(shape)
        if pattern is None:
            return None
        return pattern.pairs(shape.seq_q, shape.seq_kv) / (shape.seq_q * shape.seq_kv)


class Both(msgspec.Struct, frozen=True, kw_only=True):
    """The pairs that two patterns share: a sparse pattern in a layer with its own window."""

    first: Any
    second: Any

    def allows(self, query: Any, key: Any) -> Any:
        """Whether both attend the pair."""
        return self.first.allows(query, key) & self.second.allows(query, key)


class ErrorOf(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of an approximation's output.

    `rel_error` = ‖out − ref‖ / ‖ref‖ over all; `row_error_median` and `_p95`: the same
    of each row of each head. `mass_kept`: mean share of the exact weights that lies in
    the pattern, `density` the pattern's share of all pairs; None where it is none.
    """

    variant: str
    params: Params
    causal: bool
    rel_error: float
    row_error_median: float
    row_error_p95: float
    mass_kept: float | None
    density: float | None


def approximations(
    names: tuple[str, ...] | None, settings: Mapping[str, Params], *, causal: bool
) -> list[Approximation]:
    """The variants `names`, or all that are not exact; `settings` are each one's.

    One that has no causal form is judged without, against exact attention without.

    Raises:
        UserError: an unknown variant.
    """
    chosen = [load_variant(name) for name in names or variant_names()]
    return [
        Approximation(
            variant=v,
            params=settings.get(v.name, v.defaults),
            causal=causal if causal in v.causal_forms else not causal,
        )
        for v in chosen
        if not v.exact
    ]


def output_of(
    approximation: Approximation, query: "Tensor", key: "Tensor", value: "Tensor",
    own: Pattern | None = None,
) -> "Tensor":  # fmt: skip
    """What the approximation gives, in float64; a pattern within `own` where that is given."""
    from attnbench.variants._reference import pattern_reference, variant_reference
    from attnbench.variants._support import shape_of

    shape, params = approximation.at(shape_of(query, key))
    pattern = approximation.pattern(shape)
    if own is not None and pattern is not None:
        both: Any = Both(first=pattern, second=own)
        return pattern_reference(query, key, value, both)
    return variant_reference(approximation.variant, query, key, value, shape, params)


def exact_output(query: "Tensor", key: "Tensor", value: "Tensor", own: Pattern) -> "Tensor":
    """Softmax attention over the pairs of `own`, in float64."""
    from attnbench.variants._reference import pattern_reference

    return pattern_reference(query, key, value, own)


def error_of(
    approximation: Approximation, query: "Tensor", key: "Tensor", value: "Tensor",
    mass_kept: float | None,
) -> ErrorOf:  # fmt: skip
    """Errors against exact attention in the same form, over all rows and heads."""
    import torch

    from attnbench.variants._support import shape_of

    exact = exact_output(query, key, value, Full(causal=approximation.causal))
    difference = output_of(approximation, query, key, value) - exact
    rows = difference.norm(dim=-1) / exact.norm(dim=-1)
    median, p95 = torch.quantile(rows.flatten(), torch.tensor([0.5, 0.95]).double()).tolist()
    return ErrorOf(
        variant=approximation.name,
        params=approximation.params,
        causal=approximation.causal,
        rel_error=float(difference.norm() / exact.norm()),
        row_error_median=median,
        row_error_p95=p95,
        mass_kept=mass_kept,
        density=approximation.density(shape_of(query, key)),
    )
