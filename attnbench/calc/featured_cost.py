"""What attention over a pattern costs where features hide some of its pairs."""

from collections.abc import Callable

import msgspec

from attnbench.calc.attention_cost import Cost, softmax_cost
from attnbench.calc.patterns import Pattern
from attnbench.calc.score_features import ScoreFeatures, documents, kv_lens
from attnbench.spec.attention import AttentionShape, Mode

PatternOf = Callable[[AttentionShape], Pattern]


def featured_cost(
    shape: AttentionShape, mode: Mode, pattern_of: PatternOf, features: ScoreFeatures
) -> Cost:
    """Cost of softmax attention over the pairs that pattern and features leave.

    Of a padded batch each sequence counts with the keys that it has; packed documents
    count each alone, with the pattern of its own length. What changes a score's value
    (ALiBi, soft-cap, a sink's logit, RoPE) is no matrix product: it costs nothing here.
    """
    if features.varlen:
        seen = [_all(s, pattern_of(s)) for s in document_shapes(shape, features.varlen)]
        seen *= shape.batch
    elif features.padding:
        pattern = pattern_of(shape)
        lens = kv_lens(shape.batch, shape.seq_kv, features.padding)
        size = shape.seq_q, shape.seq_kv
        seen = [(pattern.pairs(*size, n), pattern.keys(*size, n)) for n in lens]
    else:
        seen = [_all(shape, pattern_of(shape))] * shape.batch
    return softmax_cost(shape, mode, pairs=sum(p for p, _ in seen), keys=sum(k for _, k in seen))


def document_shapes(shape: AttentionShape, count: int) -> tuple[AttentionShape, ...]:
    """The shape of each of `count` packed documents, as if it stood alone.

    Raises:
        UserError: a document without a token.
    """
    pairs = zip(documents(shape.seq_q, count), documents(shape.seq_kv, count), strict=True)
    return tuple(
        msgspec.structs.replace(shape, seq_q=len(query), seq_kv=len(key)) for query, key in pairs
    )


def _all(shape: AttentionShape, pattern: Pattern) -> tuple[int, int]:
    return pattern.pairs(shape.seq_q, shape.seq_kv), pattern.keys(shape.seq_q, shape.seq_kv)
