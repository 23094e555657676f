"""Trees of drafted tokens: what a tree is expected to give, and the best one of a size.

Each node is a candidate for the token after its parent. `ranks[r]` is the chance that the
target's token is the draft's candidate of rank r, alike at each node; a node is reached
with the product of the chances on its path, and the step gains a token for each node on
the longest accepted path. So the expected tokens are 1 + the sum of those products.

Sources: Miao et al. 2023, arXiv:2305.09781 (SpecInfer); Cai et al. 2024, arXiv:2401.10774
(Medusa), section 2.3; Chen et al. 2024, arXiv:2402.12374 (Sequoia).
"""

import heapq
import math
from collections.abc import Sequence

import msgspec

from attnbench.calc.speculative import Draft


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A tree of `nodes` drafted tokens, `depth` levels of them, and what it gives.

    `widths` are its nodes a level. `step_cost` takes one draft step a level, whose
    candidates are drafted together, and verifies every node.
    """

    nodes: int
    depth: int
    widths: tuple[int, ...]
    tokens_per_step: float
    step_cost: float
    speedup: float


def independent_ranks(acceptance: float, count: int) -> tuple[float, ...]:
    """Chances of `count` ranks where each candidate not yet refused is taken with `acceptance`.

        a_r = alpha · (1 - alpha)^r

    What multi-round speculative sampling gives where tries are independent; real drafts'
    later candidates are worse, so this is a bound from above.

    >>> independent_ranks(0.5, 3)
    (0.5, 0.25, 0.125)
    """
    return tuple(acceptance * (1 - acceptance) ** rank for rank in range(count))


def full_tree(branches: Sequence[int], ranks: Sequence[float], draft: Draft) -> Tree:
    """A tree in which each node of level i has `branches[i]` children, the likeliest ranks.

        tokens = 1 + Σ_depth Π_(i <= depth) Σ_(r < branches[i]) a_r

    >>> full_tree((2, 2), (0.5, 0.25), Draft(acceptance=0.5, cost_ratio=0.1)).tokens_per_step
    2.3125
    """
    reached, tokens, width = 1.0, 1.0, 1
    widths = []
    for branch in branches:
        reached *= math.fsum(ranks[:branch])
        tokens += reached
        width *= branch
        widths.append(width)
    return _tree(widths, tokens, draft)


def best_tree(nodes: int, ranks: Sequence[float], draft: Draft) -> Tree:
    """The tree of `nodes` nodes with the most expected tokens.

    A path's product is never over its parent's, so the `nodes` largest products are a
    tree, and no tree of that size has a larger sum: they are taken one by one. Chances
    are over 0 and fall with the rank.

    >>> best_tree(3, (0.6, 0.2), Draft(acceptance=0.6, cost_ratio=0.0)).widths
    (1, 1, 1)
    """
    tokens = 1.0
    widths: list[int] = []
    # (-chance of the path, its level, the rank of its last node): siblings come by rank.
    waiting = [(-ranks[0], 0, 0)]
    while waiting and sum(widths) < nodes:
        negative, level, rank = heapq.heappop(waiting)
        tokens -= negative
        if level == len(widths):
            widths.append(0)
        widths[level] += 1
        heapq.heappush(waiting, (negative * ranks[0], level + 1, 0))
        if rank + 1 < len(ranks):
            sibling = negative / ranks[rank] * ranks[rank + 1]
            heapq.heappush(waiting, (sibling, level, rank + 1))
    return _tree(widths, tokens, draft)


def _tree(widths: Sequence[int], tokens: float, draft: Draft) -> Tree:
    nodes, depth = sum(widths), len(widths)
    step = 1 + depth * draft.cost_ratio + nodes * draft.verify_cost
    return Tree(
        nodes=nodes,
        depth=depth,
        widths=tuple(widths),
        tokens_per_step=tokens,
        step_cost=step,
        speedup=tokens / step,
    )
