"""The points that no other beats in cost, time between tokens and throughput at once."""

from collections.abc import Sequence

from attnbench.calc.plan_search import Point


def key(point: Point) -> tuple[float, float, float]:
    """What is made small: cost, seconds between tokens, tokens/s with their sign turned."""
    return point.cost, point.itl_s, -point.served.tokens_per_s


def rank(point: Point) -> tuple[float, ...]:
    """The order of preference: cost, then GPUs, ITL, tokens/s, TTFT, the longest stall."""
    made = point.served
    gpus = made.replicas * point.row.layout.gpus
    return point.cost, gpus, point.itl_s, -made.tokens_per_s, made.ttft_s, point.stall_s


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is no worse than `other` in everything, and better in something."""
    a, b = key(one), key(other)
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def front(points: Sequence[Point]) -> list[Point]:
    """The points that none dominates, the preferred first; of equals the first alone.

    In order of cost a point can be dominated by earlier ones only, so each is compared
    with the front so far.
    """
    kept: list[Point] = []
    keys: list[tuple[float, float, float]] = []
    for point in sorted(points, key=lambda p: (*key(p), rank(p))):
        _, itl_s, made = key(point)
        for _, least_s, most in keys:
            if least_s <= itl_s and most <= made:
                break
        else:
            kept.append(point)
            keys.append(key(point))
    return kept
