"""`attnbench speculate`: the speedup that speculative decoding is expected to give."""

from typing import Annotated, TypeVar

import typer

from attnbench.calc.speculate_answer import MOST_NODES, TreeRequest, answer
from attnbench.calc.speculative import Draft
from attnbench.commands import _speculate
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.errors import UserError
from attnbench.report.emit import Format
from attnbench.report.speculate import document

app = typer.Typer(add_completion=False)

_Number = TypeVar("_Number", int, float)


@app.command()
def speculate(
    acceptance: Annotated[
        float, typer.Option("--acceptance", help="Chance that a drafted token is accepted (α).")
    ] = 0.8,
    cost_ratio: Annotated[
        float | None,
        typer.Option(help="A draft step's time over a target's (c); 0.05, or from the models."),
    ] = None,
    verify_cost: Annotated[
        float | None,
        typer.Option(help="What a token more adds to verifying: 0 to 1; 0, or from the models."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="The model that is served.")] = None,
    draft_model: Annotated[
        str | None, typer.Option("--draft", help="The model that drafts.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="With --target: where they run.")] = "h100-sxm",
    batch: Annotated[str, typer.Option(help="With --target: sequences at once.")] = "1",
    seq_len: Annotated[str, typer.Option(help="With --target: tokens a sequence.")] = "4096",
    tp: Annotated[
        int, typer.Option(min=1, max=64, help="With --target: GPUs that share a layer.")
    ] = 1,
    gamma: Annotated[
        int | None, typer.Option(min=0, max=1024, help="Tokens drafted a step; the best.")
    ] = None,
    max_gamma: Annotated[int, typer.Option(min=1, max=1024, help="Longest draft tried.")] = 16,
    tree: Annotated[str | None, typer.Option(help="Children a level of a tree: 4,2,2.")] = None,
    tree_nodes: Annotated[
        int | None, typer.Option(min=1, max=MOST_NODES, help="The best tree of so many nodes.")
    ] = None,
    rank_acceptance: Annotated[
        str | None, typer.Option(help="Chances of the first, second, ... candidate: 0.6,0.2.")
    ] = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Expected tokens a step and speedup of drafting, the best draft length, break-even, trees."""
    wanted = None
    if tree is not None or tree_nodes is not None:
        wanted = TreeRequest(
            branches=None if tree is None else _numbers(tree, "--tree", int),
            nodes=tree_nodes,
            ranks=None
            if rank_acceptance is None
            else _numbers(rank_acceptance, "--rank-acceptance", float),
        )
    elif rank_acceptance is not None:
        raise UserError("--rank-acceptance is of a tree: give --tree or --tree-nodes too")
    measured = _speculate.derived(target, draft_model, gpu, batch, seq_len, tp, gamma)
    if measured is not None:
        cost_ratio = measured.cost_ratio if cost_ratio is None else cost_ratio
        verify_cost = measured.verify_cost if verify_cost is None else verify_cost
    draft = Draft(
        acceptance=acceptance,
        cost_ratio=0.05 if cost_ratio is None else cost_ratio,
        verify_cost=verify_cost or 0.0,
    )
    found = answer(draft, gamma=gamma, max_gamma=max_gamma, tree=wanted)
    write(document(found, measured), fmt, json, output)


def _numbers(text: str, what: str, kind: type[_Number]) -> tuple[_Number, ...]:
    try:
        numbers = tuple(kind(word) for word in text.split(","))
    except ValueError:
        raise UserError(f"{what}: {text!r} is not a list of numbers", hint="Write 4,2,2.") from None
    if len(numbers) > 64 or not all(0 < n <= MOST_NODES for n in numbers):
        raise UserError(f"{what}: {text!r}: up to 64 numbers, each over 0")
    return numbers
