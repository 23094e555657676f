"""What order must not matter: sequences, heads, and keys where all are seen alike."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from attnbench.measure.accuracy import own_mathematics, relative_error
from attnbench.spec.dtype import Dtype
from attnbench.verification.case import Case, place
from attnbench.verification.finding import Reading
from attnbench.verification.scene import SQUARE

if TYPE_CHECKING:
    from torch import Tensor

EVERY_DTYPE = False
_EXACT = 1e-10  # float64: two orders of one sum


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """‖out of permuted inputs − permuted out‖ / ‖out‖.

    The limit is twice the output's: each side may be as far from the truth. Keys are
    permuted where the variant's mathematics in float64 does not mind.
    """
    for point in case.points(dtype, (SQUARE,), whole=True):
        known = case.known(point)
        inputs = known.inputs
        q, k, v = inputs.query, inputs.key, inputs.value
        out = case.forward(point, q, k, v)
        limit = 2 * known.limit
        batch, heads, kv_heads = (_shuffled(n, q) for n in (q.shape[0], q.shape[1], k.shape[1]))
        group = q.shape[1] // k.shape[1]
        heads = (kv_heads[:, None] * group + torch.arange(group, device=q.device)).flatten()
        moved = {
            "sequences": (case.forward(point, q[batch], k[batch], v[batch]), out[batch]),
            "heads": (
                case.forward(point, q[:, heads], k[:, kv_heads], v[:, kv_heads]), out[:, heads],
            ),
        }  # fmt: skip
        keys = _shuffled(k.shape[2], q)
        permuted = own_mathematics(point, q, k[:, :, keys], v[:, :, keys])
        if relative_error(permuted, known.own) < _EXACT:
            moved["keys"] = (case.forward(point, q, k[:, :, keys], v[:, :, keys]), out)
        for what, (found, wanted) in moved.items():
            error = relative_error(found, wanted.double())
            yield Reading(value=error, limit=limit, at=f"{what} of {place(point)}")


def _shuffled(count: int, like: "Tensor") -> "Tensor":
    """A permutation of `count` that moves every one of them."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    return order[(torch.argsort(order) + 1) % count].to(like.device)
