"""Windows over a histogram of attention by distance: what each keeps, and which suffices.

`mass[d]` is the mean mass that a query row puts on keys at distance d = |query - key|;
together they are 1. A window is the contract's: of w keys back, self included, when
causal; |query - key| <= w // 2 otherwise.
"""

from collections.abc import Sequence
from itertools import accumulate


def mass_in_window(mass: Sequence[float], window: int, *, causal: bool) -> float:
    """Share of the attention that a window keeps.

    >>> mass_in_window([0.5, 0.25, 0.25], 2, causal=True)
    0.75
    >>> mass_in_window([0.5, 0.25, 0.25], 2, causal=False)
    0.75
    """
    return sum(mass[: window if causal else window // 2 + 1])


def smallest_window(mass: Sequence[float], share: float, *, causal: bool) -> int:
    """The smallest window that keeps at least `share` of the attention.

    Rounding may leave the histogram's total short of a share of 1: the whole length
    then answers.

    >>> smallest_window([0.5, 0.25, 0.25], 0.9, causal=True)
    3
    >>> smallest_window([0.5, 0.25, 0.25], 0.9, causal=False)
    4
    """
    farthest = len(mass) - 1
    for distance, kept in enumerate(accumulate(mass)):
        if kept >= share:
            farthest = distance
            break
    return farthest + 1 if causal else max(1, 2 * farthest)


def doubling_windows(tokens: int) -> tuple[int, ...]:
    """16, 32, ... under the tokens: the windows that a table shows.

    >>> doubling_windows(128)
    (16, 32, 64)
    """
    windows, window = [], 16
    while window < tokens:
        windows.append(window)
        window *= 2
    return tuple(windows)
