"""How pipeline parallelism deals layers out to stages."""

from bisect import bisect_left
from functools import lru_cache
from itertools import accumulate


@lru_cache(maxsize=16)  # asked for once a stage
def stage_ranges(layers: int, pp: int) -> tuple[range, ...]:
    """The layers of each of `pp` stages, contiguous, their counts differing by one at most.

    The layers left over go one each to the stages before the last, from the back:
    the first and last stage hold the embeddings, the output and the loss besides.

    Source: vLLM, `get_pp_indices`.

    >>> [len(stage) for stage in stage_ranges(10, 4)]
    [2, 3, 3, 2]
    """
    counts = [layers // pp] * pp
    for extra in range(layers % pp):
        counts[-(extra + 2) if extra < pp - 1 else 0] += 1
    stops = accumulate(counts)
    return tuple(range(stop - n, stop) for stop, n in zip(stops, counts, strict=True))


def held_by(stage: range, indices: tuple[int, ...]) -> tuple[int, ...]:
    """Those of the ascending layer numbers `indices` that `stage` holds.

    >>> held_by(range(2, 5), (0, 2, 4, 6))
    (2, 4)
    """
    return indices[bisect_left(indices, stage.start) : bisect_left(indices, stage.stop)]
