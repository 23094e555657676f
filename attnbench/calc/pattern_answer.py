"""What `patterns` answers of one pattern: density, cost terms, receptive field, picture."""

import itertools

import msgspec

from attnbench.calc.attention_cost import Cost
from attnbench.calc.pattern_picture import Grid, density_grid
from attnbench.calc.pattern_words import Words, words_of
from attnbench.calc.patterns import Full, ReachPattern
from attnbench.calc.receptive import Field, fields
from attnbench.spec.attention import AttentionShape


class PatternAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One pattern at one shape; `pairs` and `density` are of one head.

    `fields` are of position `token`, after 1 to at most the layers asked for: it ends
    early where the token sees no more. `layers_to_all` is None where it never sees all
    that it may.
    """

    pairs: int
    density: float
    share_of_full: float
    cost_forward: Cost
    cost_backward: Cost
    words: Words
    token: int
    fields: tuple[Field, ...]
    layers_to_all: int | None
    grid: Grid
    grid_exact: bool


def answer(
    pattern: ReachPattern,
    shape: AttentionShape,
    costs: tuple[Cost, Cost],
    *,
    layers: int,
    token: int,
    grid: tuple[int, int],
) -> PatternAnswer:
    """Everything about `pattern` at `shape`, whose `costs` are forward and backward.

    `grid` is the picture's rows and columns. Self-attention: seq_q = seq_kv.
    """
    tokens = shape.seq_kv
    pairs = pattern.pairs(tokens, tokens)
    grown = fields(pattern, tokens=tokens, token=token)
    first = tuple(itertools.islice(grown, layers))
    last = first[-1]
    for last in grown:  # noqa: B007  # the last of them is what is wanted
        pass
    picture, exact = density_grid(pattern, tokens=tokens, rows=grid[0], columns=grid[1])
    everything = token + 1 if shape.causal else tokens
    return PatternAnswer(
        pairs=pairs,
        density=pairs / tokens**2,
        share_of_full=pairs / Full(causal=shape.causal).pairs(tokens, tokens),
        cost_forward=costs[0],
        cost_backward=costs[1],
        words=words_of(pattern),
        token=token,
        fields=first,
        layers_to_all=last.layers if last.keys == everything else None,
        grid=picture,
        grid_exact=exact,
    )
