"""A pattern's density on a grid: what a picture of it is drawn from."""

from attnbench.calc.patterns import ReachPattern

Grid = list[list[float]]

_ROWS_A_CELL = 64


def density_grid(
    pattern: ReachPattern, *, tokens: int, rows: int, columns: int
) -> tuple[Grid, bool]:
    """Share of pairs attended in each of rows × columns cells, and whether it is exact.

    Queries run down, keys to the right. Exact where a cell is at most 64 queries high;
    else from 64 of its queries, evenly spaced. A grid finer than the tokens is as fine
    as they are.
    """
    rows, columns = min(rows, tokens), min(columns, tokens)
    edges = [tokens * column // columns for column in range(columns + 1)]
    grid, exact = [], True
    for row in range(rows):
        first, last = tokens * row // rows, tokens * (row + 1) // rows
        count = min(last - first, _ROWS_A_CELL)
        exact = exact and count == last - first
        queries = [first + (last - first) * n // count for n in range(count)]
        held = [0] * columns
        for query in queries:
            for keys in pattern.reach_of(range(query, query + 1), tokens):
                _spread(keys, edges, held)
        grid.append([
            n / (count * (b - a)) for n, a, b in zip(held, edges, edges[1:], strict=False)
        ])  # fmt: skip
    return grid, exact


def _spread(keys: range, edges: list[int], held: list[int]) -> None:
    """Add how many of `keys` lie between each two edges to `held`."""
    if not keys:
        return
    columns, tokens = len(held), edges[-1]
    # The column of a key is one of two: edges are rounded down.
    column = min(columns - 1, keys[0] * columns // tokens)
    column += edges[column + 1] <= keys[0]
    at = 0
    while at < len(keys):
        past = min(len(keys), -(-(edges[column + 1] - keys.start) // keys.step))
        held[column] += past - at
        at, column = past, column + 1
