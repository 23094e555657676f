"""Everything that `speculate` answers: a row a draft length, the best one, a tree."""

from collections.abc import Sequence

import msgspec

from attnbench.calc import draft_tree
from attnbench.calc.draft_tree import Tree
from attnbench.calc.speculative import (
    Draft,
    Speedup,
    best_gamma,
    break_even_acceptance,
    break_even_cost_ratio,
    speedup,
)
from attnbench.errors import UserError

MOST_NODES = 4096


class TreeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A tree to judge: `branches` a level, or the best one of `nodes`; chances by rank."""

    branches: tuple[int, ...] | None = None
    nodes: int | None = None
    ranks: tuple[float, ...] | None = None


class SpeculateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`chosen` is the draft length asked for, or the best; `rows` every length up to the most.

    `break_even_cost_ratio` is that of the chosen length, None where nothing is drafted.
    """

    draft: Draft
    chosen: Speedup
    best_gamma: int
    break_even_acceptance: float
    break_even_cost_ratio: float | None
    rows: tuple[Speedup, ...]
    tree: Tree | None
    assumptions: tuple[str, ...]


def answer(
    draft: Draft, *, gamma: int | None, max_gamma: int, tree: TreeRequest | None = None
) -> SpeculateAnswer:
    """What drafting with `draft` gives at each length up to `max_gamma`, and at `gamma`.

    Raises:
        UserError: a chance outside 0 to 1, a cost under 0, or a tree that cannot be.
    """
    _check(draft)
    best = best_gamma(draft, max_gamma)
    chosen = best if gamma is None else gamma
    lengths = range(max(max_gamma, chosen) + 1)
    return SpeculateAnswer(
        draft=draft,
        chosen=speedup(draft, chosen),
        best_gamma=best,
        break_even_acceptance=break_even_acceptance(draft),
        break_even_cost_ratio=break_even_cost_ratio(draft, chosen) if chosen else None,
        rows=tuple(speedup(draft, n) for n in lengths),
        tree=None if tree is None else _tree(draft, tree),
        assumptions=tuple(_assumptions(draft, best, max_gamma, tree)),
    )


def _check(draft: Draft) -> None:
    if not 0 <= draft.acceptance <= 1:
        raise UserError(f"--acceptance: {draft.acceptance:g} is not a chance, 0 to 1")
    for name, value in (("cost-ratio", draft.cost_ratio), ("verify-cost", draft.verify_cost)):
        if not 0 <= value < float("inf"):
            raise UserError(f"--{name}: {value:g} is not a cost, 0 or more")


def _tree(draft: Draft, wanted: TreeRequest) -> Tree:
    if (wanted.branches is None) == (wanted.nodes is None):
        raise UserError("--tree (children a level) and --tree-nodes: one of the two, not both")
    if wanted.branches is not None:
        widest = max(wanted.branches)
        ranks = _ranks(draft, wanted.ranks, widest)
        if widest > len(ranks):
            raise UserError(
                f"--tree: {widest} children need {widest} chances; "
                f"--rank-acceptance has {len(ranks)}"
            )
        made = draft_tree.full_tree(wanted.branches, ranks, draft)
        if made.nodes > MOST_NODES:
            raise UserError(f"--tree: {made.nodes:,} nodes are over {MOST_NODES:,}")
        return made
    assert wanted.nodes is not None
    return draft_tree.best_tree(wanted.nodes, _ranks(draft, wanted.ranks, wanted.nodes), draft)


def _ranks(draft: Draft, given: Sequence[float] | None, count: int) -> tuple[float, ...]:
    ranks = given or draft_tree.independent_ranks(draft.acceptance, count)
    ranks = tuple(rank for rank in ranks if rank > 0)
    if not ranks or sum(ranks) > 1 + 1e-9 or list(ranks) != sorted(ranks, reverse=True):
        raise UserError(
            "--rank-acceptance: chances of the first, second, ... candidate must be over 0, "
            "not rise, and sum to 1 at most"
        )
    return ranks


def _assumptions(draft: Draft, best: int, max_gamma: int, tree: TreeRequest | None) -> list[str]:
    notes = [
        "every drafted token is accepted with the same chance, whatever came before",
        "a draft step costs cost_ratio of a decode step of the target; drafts come one by one",
    ]
    if draft.verify_cost == 0:
        notes.append(
            "verifying costs one decode step, whatever the length: true while the target is "
            "bound by reading weights (small batches)"
        )
    if best == max_gamma:
        notes.append(f"the speedup still rises at {max_gamma}: the best length may be longer")
    if tree is not None and tree.ranks is None:
        notes.append(
            "tree: each further candidate is taken with the same chance, independently; "
            "real drafts' are worse: --rank-acceptance"
        )
    return notes
