"""Loops of machine code, by its control-flow graph.

Looking for backward branches alone is wrong: code that waits at a barrier is placed
after the program's end and jumps back, and distant code is reached by a call.
"""

from collections.abc import Mapping, Sequence

import msgspec


class Instruction(msgspec.Struct, frozen=True, kw_only=True):
    """One instruction: `targets` are labels it may jump to; else it `falls` to the next."""

    op: str
    text: str
    targets: tuple[str, ...] = ()
    falls: bool = True


def natural_loops(
    code: Sequence[Instruction], labels: Mapping[str, int]
) -> list[tuple[Instruction, ...]]:
    """The instructions of each natural loop of `code`, in order; `labels` are indices.

    A loop is a jump to an instruction that dominates it, with all that reaches the jump
    without passing that one; loops with one head are one.

    Source: Aho, Lam, Sethi, Ullman, "Compilers", 2nd edition, sections 9.6.1 and 9.6.6.
    """
    if not code:
        return []
    starts = sorted(
        {0, *(i for i in labels.values() if i < len(code))}
        | {i + 1 for i, c in enumerate(code) if (c.targets or not c.falls) and i + 1 < len(code)}
    )
    block_at = {start: n for n, start in enumerate(starts)}
    ends = [*starts[1:], len(code)]
    after: list[list[int]] = []
    for end in ends:
        last = code[end - 1]
        jumps = [block_at[labels[t]] for t in last.targets if labels.get(t, len(code)) < len(code)]
        falls = [block_at[end]] if last.falls and end < len(code) else []
        after.append(jumps + falls)
    bodies = _loops_of_blocks(after)
    return [tuple(c for n in sorted(body) for c in code[starts[n] : ends[n]]) for body in bodies]


def _loops_of_blocks(after: list[list[int]]) -> list[set[int]]:
    dominators = _dominators(after)
    before: list[list[int]] = [[] for _ in after]
    for block, following in enumerate(after):
        for successor in following:
            before[successor].append(block)
    loops: dict[int, set[int]] = {}
    for block, following in enumerate(after):
        for head in following:
            if block not in dominators or head not in dominators[block]:
                continue
            body = loops.setdefault(head, {head})
            pending = [block]
            while pending:
                inside = pending.pop()
                if inside not in body:
                    body.add(inside)
                    pending += (b for b in before[inside] if b in dominators)
    return list(loops.values())


def _dominators(after: list[list[int]]) -> dict[int, set[int]]:
    """Blocks that every path from block 0 to a reachable block passes."""
    reachable, pending = {0}, [0]
    while pending:
        for successor in after[pending.pop()]:
            if successor not in reachable:
                reachable.add(successor)
                pending.append(successor)
    before: dict[int, list[int]] = {block: [] for block in reachable}
    for block in reachable:
        for successor in after[block]:
            before[successor].append(block)
    found = {block: set(reachable) for block in reachable}
    found[0] = {0}
    changed = True
    while changed:
        changed = False
        for block in sorted(reachable - {0}):
            new = set.intersection(*(found[b] for b in before[block])) | {block}
            if new != found[block]:
                found[block], changed = new, True
    return found
