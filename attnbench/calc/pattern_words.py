"""Each pattern's formulas as people read them: pairs of a head, receptive field.

n tokens, w window, h = ⌊w/2⌋, s sinks, d dilation, k stride, g global tokens, b block,
L layers. `tests/test_patterns_command.py` holds each to the counts.
"""

import msgspec

from attnbench.calc.pattern_bigbird import BigBird
from attnbench.calc.pattern_longformer import Longformer
from attnbench.calc.pattern_strided import Strided
from attnbench.calc.patterns import Full, Pattern, SlidingWindow


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """Formulas of one pattern; `field` says "composed" where there is no closed form."""

    pairs: str
    field: str


def words_of(pattern: Pattern) -> Words:
    """The formulas of `pattern`, with the causal form's where it is causal."""
    causal = bool(getattr(pattern, "causal", False))
    for kind, texts in _WORDS.items():
        if isinstance(pattern, kind):
            return texts[0 if causal else 1]
    return _COUNTED


_COUNTED = Words(pairs="counted over positions", field="composed from positions")
_WORDS: dict[type, tuple[Words, Words]] = {
    Full: (
        Words(pairs="n(n+1)/2", field="all: L = 1"),
        Words(pairs="n²", field="all: L = 1"),
    ),
    SlidingWindow: (
        Words(
            pairs="n·w − w(w−1)/2 (d = 1, s = 0)",
            field="min(n, 1 + L(w−1)) keys, back L(w−1)d; with sinks s more",
        ),
        Words(
            pairs="n(2h+1) − h(h+1) (d = 1, s = 0)",
            field="L·h·d back and ahead; from a sink too, after L = 2",
        ),
    ),
    Longformer: (
        Words(
            pairs="n·w − w(w−1)/2, and g keys before each window",
            field="min(n, 1 + L(w−1)) keys and the g globals",
        ),
        Words(
            pairs="n(2h+1) − h(h+1), and 2g(n − g) less what windows hold",
            field="all: L = 2, through a global token",
        ),
    ),
    Strided: (
        Words(
            pairs="Σᵢ min(i+1, w) + ⌊i/k⌋ − ⌊min(i, w−1)/k⌋",
            field="all: L = 1 + ⌈(k−1)/(w−1)⌉",
        ),
        Words(
            pairs="n(2h+1) − h(h+1), and every k-th key outside",
            field="all: L = 1 + ⌈(k−1)/h⌉ at most",
        ),
    ),
    BigBird: (
        Words(
            pairs="(window/2 + global + random)·b·n at most, less triangles",
            field="composed: the random blocks have no closed form",
        ),
        Words(
            pairs="(window + global + random)·b·n at most, and global·b·n",
            field="all: L = 2, through a global block",
        ),
    ),
}
