"""Is the output right? Errors against float64, and the limit that they must keep.

`rel_error` compares with exact attention, `kernel_error` with the variant's own
mathematics: the first says how good an approximation is, the second whether the code
computes what it says. The limit of the second is derived, not chosen: twice the error
of plain attention over the same pairs in the same precision, plus one rounding. For
variants that are no pattern it adds what moving the inputs by one rounding does, times
√head_dim: their features are dot products of that many terms, each of which is rounded.
"""

import math
from typing import TYPE_CHECKING

import msgspec

from attnbench.calc.patterns import Full, Pattern
from attnbench.calc.score_features import ScoreFeatures, score_features
from attnbench.measure.inputs import Inputs
from attnbench.measure.plan import Point
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._protocol import Learned, Variant

if TYPE_CHECKING:
    from torch import Tensor

_SAMPLED_ROWS = 256  # enough for the size of an error that a limit is made from
_TILE_ROWS = 16  # of a matrix product; BLAS sums fewer rows otherwise, vector by vector
_PLAIN_FACTOR = 2.0
_GRAD_ROWS = 512


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of an output and its gradients, and the limits they must keep."""

    rel_error: float
    kernel_error: float
    limit: float
    grad_error: float | None = None
    grad_limit: float = math.inf

    @property
    def passed(self) -> bool:
        """Whether output and gradients are as near as the arithmetic allows."""
        right = self.kernel_error <= self.limit
        return right and (self.grad_error is None or self.grad_error <= self.grad_limit)

    def explain(self) -> str:
        """What is wrong, for the row's note."""
        text = f"kernel_error {self.kernel_error:.2e}, limit {self.limit:.2e}"
        if self.grad_error is not None:
            text += f"; grad_error {self.grad_error:.2e}, limit {self.grad_limit:.2e}"
        return text


class Checker:
    """Checks outputs at one shape; float64 references are made once and shared."""

    def __init__(self, inputs: Inputs, shape: AttentionShape, mode: Mode) -> None:
        self._inputs = inputs
        self._shape = shape
        self._mode = mode
        self._exact: tuple[ScoreFeatures, Tensor] | None = None

    def check(self, point: Point, result: "Tensor | tuple[Tensor, ...]") -> Errors:
        """Errors of what the point's call answered: output, or output and gradients."""
        output = result if isinstance(result, tuple) else (result,)
        exact = self._exact_output(point)
        own = self.own(point)
        errors = Errors(
            rel_error=relative_error(output[0], exact),
            kernel_error=relative_error(output[0], own),
            limit=self.limit(point, own),
        )
        if self._mode in (Mode.FWD, Mode.DECODE):
            return errors
        wanted = self.own_gradients(point)
        return msgspec.structs.replace(
            errors,
            grad_error=max(relative_error(g, w) for g, w in zip(output[1:], wanted, strict=True)),
            grad_limit=grad_limit(errors.limit, output[1]),
        )

    def forget(self) -> None:
        """Drop the references, so that they stand in no timed call's way."""
        self._exact = None

    def own(self, point: Point) -> "Tensor":
        """The point's own mathematics in float64."""
        variant, _ = point.implementation()
        if variant.exact:
            return self._exact_output(point)
        return own_mathematics(point, *_qkv(self._inputs))

    def limit(self, point: Point, own: "Tensor") -> float:
        """What the output's error against `own`, its own mathematics, must keep within."""
        variant, _ = point.implementation()
        rows = self._some_rows()
        exactly = own if variant.pattern is not None else self._exact_output(point)
        plain = relative_error(self._plainly(variant, point, rows), exactly[:, :, rows])
        limit = _PLAIN_FACTOR * plain + _unit_roundoff(self._inputs.query)
        if variant.pattern is not None:
            return limit
        # How far those rows of the float64 output move when inputs move by one rounding.
        moved = own_mathematics(point, *self._perturbed(), rows=rows)
        return limit + math.sqrt(self._shape.head_dim) * relative_error(moved, own[:, :, rows])

    def _exact_output(self, point: Point) -> "Tensor":
        """Exact attention under the point's score features."""
        features = score_features(point.params)
        if self._exact is None or self._exact[0] != features:
            from attnbench.variants._reference import softmax_reference

            exact = softmax_reference(*_qkv(self._inputs), self._shape, _full, features)
            self._exact = features, exact
        return self._exact[1]

    def _plainly(self, variant: Variant, point: Point, rows: "Tensor") -> "Tensor":
        """Plain attention over the same pairs, every step in the inputs' precision."""
        from attnbench.variants._reference import softmax_reference

        def pattern_of(at: AttentionShape) -> Pattern:
            return variant.pattern(at, point.params) if variant.pattern else _full(at)

        return softmax_reference(
            *_qkv(self._inputs), self._shape, pattern_of, score_features(point.params),
            rows=rows, dtype=self._inputs.query.dtype,
        )  # fmt: skip

    def _some_rows(self) -> "Tensor":
        """Rows over which plain attention's error is read: a tile of them at least, repeated.

        Of one row plain attention is a product with a vector, which BLAS sums in more parts,
        at head_dim 256 to a third of the error. Kernels multiply tiles, whatever the rows.
        """
        import torch

        count = max(_TILE_ROWS, min(_SAMPLED_ROWS, self._shape.seq_q))
        device = self._inputs.query.device
        return torch.linspace(0, self._shape.seq_q - 1, count, device=device).long()

    def _perturbed(self) -> "tuple[Tensor, Tensor, Tensor]":
        """Query, key and value in float64, each element moved by up to one rounding."""
        import torch

        generator = torch.Generator().manual_seed(0)

        def move(x: "Tensor") -> "Tensor":
            signs = torch.rand(x.shape, generator=generator).to(x.device).double() * 2 - 1
            return x.double() * (1 + 2 * _unit_roundoff(x) * signs)

        q, k, v = _qkv(self._inputs)
        return move(q), move(k), move(v)

    def own_gradients(self, point: Point, learned: Learned | None = None) -> "list[Tensor]":
        """Gradients of the point's mathematics by float64 autograd, rows in chunks.

        Of query, key and value, and of the tensors of `learned`, in their order.
        """
        import torch

        given = {name: _leaf(x) for name, x in (learned or {}).items()}
        q, k, v = (_leaf(x) for x in _qkv(self._inputs))
        leaves = [q, k, v, *given.values()]
        grad_output = self._inputs.grad_output
        assert grad_output is not None
        total = [torch.zeros_like(leaf) for leaf in leaves]
        for rows in torch.arange(self._shape.seq_q, device=grad_output.device).split(_GRAD_ROWS):
            out = own_mathematics(point, q, k, v, rows=rows, learned=given or None)
            parts = torch.autograd.grad(out, leaves, grad_output[:, :, rows].double())
            total = [t + part for t, part in zip(total, parts, strict=True)]
        return total


def grad_limit(limit: float, gradient: "Tensor") -> float:
    """What a gradient's error must keep within, from the output's `limit`.

    A gradient is three products deep where the output is two.
    """
    return 2 * limit + 4 * _unit_roundoff(gradient)


def _leaf(x: "Tensor") -> "Tensor":
    return x.detach().double().requires_grad_()


def own_mathematics(
    point: Point,
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    *,
    rows: "Tensor | None" = None,
    learned: Learned | None = None,
) -> "Tensor":
    """What the point's variant should give, in float64: all query rows, or `rows`."""
    from attnbench.variants._reference import variant_reference

    variant, _ = point.implementation()
    return variant_reference(variant, query, key, value, point.shape, point.params, rows, learned)


def misformed(result: "Tensor | tuple[Tensor, ...]", query: "Tensor") -> str | None:
    """Why what a call answered is no attention output of `query`, or None."""
    import torch

    output = result[0] if isinstance(result, tuple) and len(result) == 4 else result
    if not isinstance(output, torch.Tensor):
        return f"the output is {type(output).__name__}, not a tensor"
    for name in ("shape", "dtype", "device"):
        found, wanted = getattr(output, name), getattr(query, name)
        if found != wanted:
            plain = [list(x) if name == "shape" else str(x) for x in (found, wanted)]
            return f"the output's {name} is {plain[0]}, not {plain[1]}"
    return None


def relative_error(value: "Tensor", reference: "Tensor") -> float:
    """‖value − reference‖ / ‖reference‖ in float64; ‖value‖ where the reference is 0."""
    error = (value.detach().double() - reference.detach()).norm()
    norm = reference.detach().norm()
    return float(error / norm if norm > 0 else error)


def _full(shape: AttentionShape) -> Full:
    return Full(causal=shape.causal)


def _qkv(inputs: Inputs) -> "tuple[Tensor, Tensor, Tensor]":
    return inputs.query, inputs.key, inputs.value


def _unit_roundoff(x: "Tensor") -> float:
    import torch

    return torch.finfo(x.dtype).eps / 2
