"""What may be added to attention over a pattern, each defined once and for every backend.

A logit is s = q·k / √head_dim. In this order: `rope_theta` rotates query and key first;
`soft_cap` bounds the logit; `alibi` lowers it by distance; `padding` hides the keys that
a sequence does not have; `varlen` packs documents that do not see one another;
`sink_logit` adds to a row's denominator. All are off by default, and one that is off
stands nowhere: not among a point's settings and so not in its key.
"""

from collections.abc import Mapping
from itertools import pairwise

import msgspec

from attnbench.errors import UserError


class ScoreFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """The features of a point; False or 0: off.

    `soft_cap` c: s becomes c · tanh(s / c). `padding`: the share of its keys that the
    shortest sequence of the batch lacks (see `kv_lens`). `varlen`: documents packed in
    each sequence (see `documents`). `rope_theta`: the base of the rotation's wavelengths.

    Raises:
        UserError: a value that has no meaning, or padding beside varlen.

    Source: soft-cap: Bello et al. 2016, arXiv:1611.09940, section 3; Gemma 2,
    arXiv:2408.00118, section 2. RoPE: Su et al. 2021, arXiv:2104.09864.
    """

    alibi: bool = False
    soft_cap: float = 0.0
    sink_logit: bool = False
    padding: float = 0.0
    varlen: int = 0
    rope_theta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.soft_cap < float("inf"):
            raise UserError(f"soft_cap: {self.soft_cap:g} is not over 0 (0: off)")
        if not 0 <= self.padding < 1:
            raise UserError(f"padding: {self.padding:g} is no share in 0..1, 1 excluded")
        if self.varlen < 0:
            raise UserError(f"varlen: {self.varlen} is under 0 documents")
        if self.rope_theta and not 1 < self.rope_theta < float("inf"):
            raise UserError(f"rope_theta: {self.rope_theta:g} is not over 1 (0: off)")
        if self.padding and self.varlen:
            raise UserError(
                "padding, varlen: packed documents have no padding; set one of them",
            )

    @property
    def on(self) -> frozenset[str]:
        """Names of the features that are on."""
        return frozenset(name for name in NAMES if getattr(self, name))

    @property
    def changes_scores(self) -> bool:
        """Whether a row is more than the softmax of q·k / √head_dim over what it sees."""
        return bool(self.alibi or self.soft_cap or self.sink_logit)


NAMES: tuple[str, ...] = ScoreFeatures.__struct_fields__
# What attention over pairs of tokens takes, and what any mixing of tokens takes.
PAIRWISE = frozenset(NAMES)
ANY = frozenset({"padding", "rope_theta"})
PLAIN = ScoreFeatures()


def score_features(params: Mapping[str, object]) -> ScoreFeatures:
    """The features among a point's settings.

    >>> score_features({"window": 512, "soft_cap": 30.0}).on
    frozenset({'soft_cap'})
    """
    return ScoreFeatures(**{k: v for k, v in params.items() if k in NAMES})  # type: ignore[arg-type]  # checked where settings are read


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """ALiBi's slope of each head: a logit is lowered by slope · |query - key|.

    For n = 2^k heads 2^(-8/n), 2^(-16/n), ...; for other numbers those of the next
    lower power of two, then every other one of the power after it.

    Source: Press et al. 2022, arXiv:2108.12409, section 3 and its code.

    >>> alibi_slopes(4)
    (0.25, 0.0625, 0.015625, 0.00390625)
    >>> len(alibi_slopes(12)), alibi_slopes(12)[8] == alibi_slopes(16)[0]
    (12, True)
    """
    whole = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * (i + 1) / whole) for i in range(whole)]
    if whole < heads:
        slopes += alibi_slopes(2 * whole)[0::2][: heads - whole]
    return tuple(slopes)


def sink_logits(heads: int) -> tuple[float, ...]:
    """A learned sink's logit for each head, even over -2..2: it stands for trained ones.

    A row's weights are exp(s) / (Σ exp(s) + exp(sink)), so they sum to less than one.

    Source: gpt-oss model card, arXiv:2508.10925, section 2.2; Xiao et al. 2023,
    arXiv:2309.17453, equation 2 (the same with sink 0).

    >>> sink_logits(5)
    (-2.0, -1.0, 0.0, 1.0, 2.0)
    """
    return tuple(-2.0 + 4.0 * i / (heads - 1) if heads > 1 else 0.0 for i in range(heads))


def kv_lens(batch: int, seq_kv: int, padding: float) -> tuple[int, ...]:
    """Keys that each sequence of a padded batch has: from all, evenly, to 1 - padding of them.

    Keys from that one on are hidden; query rows keep their positions (bottom-right).
    A batch of one is the shortest.

    >>> kv_lens(3, 1000, 0.5), kv_lens(1, 1000, 0.5)
    ((1000, 750, 500), (500,))
    """
    if batch == 1:
        return (max(1, seq_kv - int(seq_kv * padding)),)
    return tuple(max(1, seq_kv - int(seq_kv * padding * i / (batch - 1))) for i in range(batch))


def documents(tokens: int, count: int) -> tuple[range, ...]:
    """Tokens of each of `count` documents packed one after another, lengths as 1 : 2 : 3 ...

    Each is attended as if it stood alone: positions, patterns and RoPE start anew.

    >>> documents(600, 3)
    (range(0, 100), range(100, 300), range(300, 600))
    """
    ends = [tokens * i * (i + 1) // (count * (count + 1)) for i in range(count + 1)]
    return tuple(range(start, stop) for start, stop in pairwise(ends))


def rope_frequencies(head_dim: int, theta: float) -> tuple[float, ...]:
    """Radians a token that each pair of channels turns by: theta^(-2i / head_dim).

    Channel i is paired with channel i + head_dim / 2, as Llama's code has it.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.2.2.

    >>> rope_frequencies(4, 10000.0)
    (1.0, 0.01)
    """
    return tuple(theta ** (-2 * i / head_dim) for i in range(head_dim // 2))
