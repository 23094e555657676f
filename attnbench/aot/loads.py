"""How wide a main loop loads the operands of its matrix products.

A loop loads more than tiles: an entry of a block list, a slope, a row's LSE and delta, 32
bits at a time because that is what they are. Machine code does not say which load is of
what, but a tile's bytes are known: the widest loads that together move them bring the tiles.
"""

from collections.abc import Sequence

TMA_BITS = 128  # the unit of a bulk copy's start and strides


def load_bits(
    widths: Sequence[int], *, bulk_copies: int, tiles: Sequence[int], threads: int
) -> int | None:
    """Bits a thread of the narrowest load that the tiles of an iteration need; None of none.

    `widths` are those of a thread's loads in an iteration of a program of `threads`;
    `bulk_copies` bring a tile each. `tiles` are the bytes of each tile that the iteration
    loads; where they are not known, the narrowest of all loads.

    >>> load_bits([128, 32, 128], bulk_copies=0, tiles=[4096], threads=128)
    128
    >>> load_bits([128, 32, 32, 32, 32], bulk_copies=0, tiles=[2048, 2048], threads=128)
    32
    """
    found = sorted([*widths, *[TMA_BITS] * bulk_copies], reverse=True)
    if not tiles or not found:
        return min(found, default=None)
    missing = sum(sorted(tiles)[: max(len(tiles) - bulk_copies, 0)])
    if missing <= 0:
        return TMA_BITS
    for width in sorted(widths, reverse=True):
        missing -= width // 8 * threads
        if missing <= 0:
            return min(width, TMA_BITS)
    return found[-1]
