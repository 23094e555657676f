"""The layouts that `plan` tries, and the batches: which there are, in a fixed order."""

from collections.abc import Iterator
from functools import cache

import msgspec

from attnbench.calc.parallel import Parallel, head_counts
from attnbench.calc.plan_problem import Problem
from attnbench.spec.model import ModelSpec

_STAGES = (1, 2, 3, 4, 6, 8, 12, 16)  # 3, 6 and 12 where they divide the layers
_MOST_TP = 64
_MOST_OF_AN_ENGINE = 64  # GPUs; a load that takes more takes replicas
_MOST_SLOTS = 1024
_SHARED_BY = 16  # replicas that users are dealt to exactly; more are rounded to the grid


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How one engine is laid out over tp · pp · ranks GPUs.

    `ranks` data-parallel ranks of attention share the experts; 1 for a dense model.
    """

    tp: int
    pp: int
    ep: int = 1
    ranks: int = 1

    @property
    def gpus(self) -> int:
        """GPUs of one engine."""
        return self.tp * self.pp * self.ranks

    @property
    def parallel(self) -> Parallel:
        """As the memory calculator takes it."""
        return Parallel(tp=self.tp, pp=self.pp, ep=self.ep, dp=self.ranks)


def layouts(model: ModelSpec, max_gpus: int, node: int) -> Iterator[Layout]:
    """Every layout of at most `max_gpus` GPUs and 64, those of fewest first within a kind.

    tp: powers of two that divide the heads, within a node of `node` GPUs. pp: powers of
    two, and 3, 6, 12 where those divide the layers. Experts stay split by tp, or go whole
    to all of tp · ranks.
    """
    most = min(max_gpus, _MOST_OF_AN_ENGINE)
    heads = head_counts(model) or {1 << 20}
    experts = min((layer.experts.total for layer in model.layers if layer.experts), default=0)
    for tp in _powers(min(_MOST_TP, node, most)):
        if any(count % tp for count in heads):
            continue
        for pp in _STAGES:
            if pp > max(model.num_layers, 1) or tp * pp > most:
                continue
            if pp % 3 == 0 and model.num_layers % pp:
                continue
            yield Layout(tp=tp, pp=pp)
            if not experts:
                continue
            for ranks in _powers(most // (tp * pp)):
                if 1 < tp * ranks <= experts:
                    yield Layout(tp=tp, pp=pp, ep=tp * ranks, ranks=ranks)


def _powers(most: int) -> list[int]:
    return [1 << n for n in range(max(most, 0).bit_length()) if 1 << n <= most]


@cache
def slots(users: int | None) -> tuple[int, ...]:
    """Sequences at once on a data-parallel rank: 1, 2, 3, 4, 6, 8, 12, ... 1,024.

    With `users`, also as many as deal them evenly to 1, 2, ... replicas.
    """
    grid = {1 << n for n in range(11)} | {3 << n for n in range(9)}
    if users is not None:
        grid |= {-(-users // n) for n in range(1, _SHARED_BY + 1)}
    return tuple(sorted(size for size in grid if size <= max(_MOST_SLOTS, users or 0)))


def chunks(problem: Problem) -> tuple[int | None, ...]:
    """Tokens of a prefill a step worth trying: those under the prompt, and all at once."""
    longest = problem.traffic.input_len
    return tuple(c for c in problem.chunks if c is None or c < longest)


def size(problem: Problem) -> int:
    """Candidates in all: every GPU, format, layout, chunk and batch."""
    each = len(problem.weights) * len(problem.kv_dtypes) * len(chunks(problem))
    each *= len(slots(problem.traffic.users))
    most = problem.limits.max_gpus
    return each * sum(
        sum(1 for _ in layouts(problem.model, most, offer.links.node)) for offer in problem.offers
    )
