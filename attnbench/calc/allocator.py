"""What torch's caching allocator makes of a tensor's bytes, counted and taken from the device.

Up to 1 MiB a tensor shares segments of 2 MiB; under 10 MiB it is cut from one of 20 MiB;
above, its segment is rounded up to 2 MiB. The rest of a segment becomes a block of its
own only where it is over 1 MiB: else the tensor is counted with it.

Source: pytorch, `c10/cuda/CUDACachingAllocator.cpp` (`round_size`, `get_allocation_size`,
`should_split`), without expandable segments.
"""

from attnbench.units import MIB

_ROUND = 512
_SMALL = MIB
_LARGE_SEGMENT = 20 * MIB
_LARGE = 10 * MIB
_ROUND_LARGE = 2 * MIB


def counted(size: int) -> float:
    """Bytes that a tensor of `size` bytes adds to the memory allocated, on average.

    >>> counted(259 * MIB) / MIB, counted(24 * MIB + MIB // 2) / MIB
    (260.0, 24.5)
    """
    size = _up(size, _ROUND)
    if size <= _SMALL:
        return size
    if size < _LARGE:
        fit = _LARGE_SEGMENT // size
        left = _LARGE_SEGMENT - fit * size
        return size + (left / fit if left <= _SMALL else 0)
    whole = _up(size, _ROUND_LARGE)
    return whole if whole - size <= _SMALL else size


def taken(size: int) -> float:
    """Bytes of the device that a tensor of `size` bytes takes; small ones fill segments together.

    >>> taken(24 * MIB + MIB // 2) / MIB, taken(6 * MIB) / MIB
    (26.0, 6.0)
    """
    return _up(size, _ROUND_LARGE if size >= _LARGE else _ROUND)


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
