"""What `speculate` shows: the best draft length, a row a length, the tree."""

import msgspec

from attnbench.calc.speculate_answer import SpeculateAnswer
from attnbench.calc.speculate_time import DraftCost
from attnbench.report.document import Column, Document, Table

_ROWS = (
    Column(key="gamma", heading="tokens drafted", right=True),
    Column(key="tokens_per_step", heading="tokens a step", show="{:.3f}".format, right=True),
    Column(key="step_cost", heading="cost of a step", show="{:.3f}".format, right=True),
    Column(key="speedup", heading="speedup", show="{:.3f}".format, right=True),
    Column(key="operations", heading="operations a token", show="{:.2f}".format, right=True),
)
_TREE = (
    Column(key="widths", heading="nodes a level", show=lambda w: " ".join(map(str, w))),
    Column(key="nodes", heading="nodes", right=True),
    *_ROWS[1:4],
)


def document(found: SpeculateAnswer, measured: DraftCost | None = None) -> Document:
    """The answer as the contract's JSON object and a table a question.

    `measured` are the predicted times that the costs come from, where models were named.
    """
    draft, chosen = found.draft, found.chosen
    title = f"acceptance {draft.acceptance:g}, draft {draft.cost_ratio:g} of a target step" + (
        f", {draft.verify_cost:g} a token verified" if draft.verify_cost else ""
    )
    rows = [[getattr(row, column.key) for column in _ROWS] for row in found.rows]
    tables = [Table(columns=_ROWS, rows=rows, title=title)]
    if found.tree is not None:
        row = [getattr(found.tree, column.key) for column in _TREE]
        tables.append(Table(columns=_TREE, rows=[row], title="tree"))
    return Document(
        schema="attnbench.speculate/1",
        data={
            **msgspec.to_builtins(draft),
            **msgspec.to_builtins(chosen),
            "best_gamma": found.best_gamma,
            "break_even_acceptance": found.break_even_acceptance,
            "break_even_cost_ratio": found.break_even_cost_ratio,
            "rows": msgspec.to_builtins(found.rows),
            "tree": msgspec.to_builtins(found.tree),
            "times": msgspec.to_builtins(measured),
            "assumptions": (*found.assumptions, *_times(measured)),
        },
        tables=tuple(tables),
        notes=tuple(_notes(found)),
        assumptions=(*found.assumptions, *_times(measured)),
    )


def _times(measured: DraftCost | None) -> list[str]:
    if measured is None:
        return []
    return [
        f"predicted, not measured: a step of the target {measured.target_s * 1e3:.3g} ms, of the "
        f"draft {measured.draft_s * 1e3:.3g} ms, verifying {measured.gamma} drafted tokens "
        f"{measured.verify_s * 1e3:.3g} ms; constants of any engine (docs/plan.md)"
    ]


def _notes(found: SpeculateAnswer) -> list[str]:
    chosen = found.chosen
    best = found.best_gamma
    if best == 0:
        notes = ["Drafting does not pay at any length."]
    else:
        what = "Best draft length" if chosen.gamma == best else "Asked for"
        notes = [
            f"{what}: {chosen.gamma} tokens, {chosen.tokens_per_step:.3f} tokens a step, "
            f"{chosen.speedup:.3f} times plain decoding"
        ]
        if chosen.gamma != best:
            notes.append(f"Best draft length: {best} tokens")
    if found.break_even_acceptance < 1:
        notes.append(f"Pays where acceptance is over {found.break_even_acceptance:.3g}")
    cost = found.break_even_cost_ratio
    if cost is not None and cost > 0:
        notes.append(
            f"{chosen.gamma} drafted tokens pay while a draft step is under {cost:.3g} of the "
            "target's"
        )
    return notes
