"""Every variant and backend over head_dim × dtype × heads × lengths × causal, both directions.

The ordinary test takes combinations in which each pair of values occurs; the whole product,
and Triton's kernels under its interpreter, are slow ones. Errors are held to float64 within
the limits of `measure.accuracy`: twice plain attention's in the same precision, one rounding.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
import torch

from attnbench.measure.accuracy import Checker, grad_limit, misformed, relative_error
from attnbench.measure.inputs import make_inputs
from attnbench.measure.plan import Point
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant, variant_names
from attnbench.variants._protocol import Backend, Variant
from attnbench.variants._settings import settings_of

SMALL: dict[str, dict[str, Any]] = {
    "sliding_window": {"window": 9, "sink": 2},
    "strided": {"window": 6, "stride": 5},
    "longformer": {"window": 8, "global_tokens": 3},
    "bigbird": {"block": 8},
    "performer": {"features": 32},
    "linformer": {"rank": 16},
    "paged_decode": {"page_size": 8},
}
HEAD_DIMS = (32, 80, 128, 256)
MORE_HEAD_DIMS = (32, 40, 64, 80, 96, 112, 128, 192, 256)
DTYPES = (Dtype.FP32, Dtype.BF16, Dtype.FP16)
HEADS = ((4, 4), (6, 2), (4, 1))  # as many KV heads, grouped, a single one
# (Of one key the gradients of query and key are 0, and so have no relative error.)
LENGTHS = ((67, 67), (127, 127), (1, 67), (17, 67), (67, 17))
FACTORS = (HEAD_DIMS, DTYPES, HEADS, LENGTHS, (True, False))


def pairwise(factors: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Combinations, few of them, in which each pair of two factors' values occurs."""
    every = list(itertools.product(*(range(len(f)) for f in factors)))

    def pairs(row: tuple[int, ...]) -> set[tuple[int, int, int, int]]:
        return {(i, row[i], j, row[j]) for i, j in itertools.combinations(range(len(row)), 2)}

    left = set().union(*map(pairs, every))
    found = []
    while left:
        best = max(every, key=lambda row: len(pairs(row) & left))
        left -= pairs(best)
        found.append(tuple(f[i] for f, i in zip(factors, best, strict=True)))
    return found


PAIRWISE = pairwise(FACTORS)
EVERY = list(itertools.product(MORE_HEAD_DIMS, *FACTORS[1:]))


def subjects(*names: str) -> Iterator[Any]:
    for name in variant_names():
        variant = load_variant(name)
        for backend in variant.backends:
            if backend.name in names:
                yield pytest.param(variant, backend, id=f"{name}-{backend.name}")


def points(variant: Variant, backend: Backend, rows: Sequence[tuple[Any, ...]]) -> Iterator[Point]:
    """A point a row that the variant has a form for, forward and backward where it can."""
    mode = Mode.FWD_BWD if Mode.FWD_BWD in variant.modes else Mode.DECODE
    for head_dim, dtype, (heads, kv_heads), (seq_q, seq_kv), causal in rows:
        if causal not in variant.causal_forms:
            continue
        shape = AttentionShape(
            batch=2, heads=heads, kv_heads=kv_heads, head_dim=head_dim, causal=causal, dtype=dtype,
            seq_q=1 if mode is Mode.DECODE else seq_q, seq_kv=seq_kv,
        )  # fmt: skip
        params = variant.resolve(shape, settings_of(variant, SMALL.get(variant.name, {})))
        assert backend.supports(shape, mode, params, "cpu") is None, shape.label
        yield Point(
            variant=variant.name, backend=backend.name, mode=mode, shape=shape, params=params
        )


def prove(point: Point) -> None:
    """Output and gradients against float64."""
    _, backend = point.implementation()
    inputs = make_inputs(point.shape, point.mode, "cpu")
    checker = Checker(inputs, point.shape, point.mode)
    own = checker.own(point)
    limit = checker.limit(point, own)
    leaves = [x.requires_grad_() for x in (inputs.query, inputs.key, inputs.value)]
    out = backend.forward(*leaves, backend.prepare(point.shape, point.params, "cpu"))
    assert misformed(out, inputs.query) is None
    assert relative_error(out, own) <= limit, point.label
    if point.mode is Mode.DECODE:
        return
    found = torch.autograd.grad(out, leaves, inputs.grad_output)
    for name, ours, theirs in zip("qkv", found, checker.own_gradients(point), strict=True):
        assert ours.dtype == leaves[0].dtype
        assert relative_error(ours, theirs) <= grad_limit(limit, ours), (name, point.label)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_pair_of_values_is_among_the_combinations() -> None:
    assert len(PAIRWISE) < 30
    for i, j in itertools.combinations(range(len(FACTORS)), 2):
        met = {(row[i], row[j]) for row in PAIRWISE}
        assert met == set(itertools.product(FACTORS[i], FACTORS[j]))


def test_one_query_is_allowed_what_a_tile_of_it_is() -> None:
    """A product with one row is summed otherwise, at head_dim 256 to a third of the error."""
    variant = load_variant("flash")
    inputs, limits = None, []
    for seq_q in (1, 16):
        shape = AttentionShape(
            batch=1, heads=4, kv_heads=4, seq_q=seq_q, seq_kv=67, head_dim=256, causal=False,
            dtype=Dtype.FP32,
        )  # fmt: skip
        inputs = inputs or make_inputs(shape, Mode.FWD, "cpu")
        given = msgspec.structs.replace(inputs, query=inputs.query.repeat(1, 1, seq_q, 1))
        point = Point(
            variant="flash", backend="sdpa", mode=Mode.FWD, shape=shape, params=variant.defaults
        )
        checker = Checker(given, shape, Mode.FWD)
        limits.append(checker.limit(point, checker.own(point)))
    assert limits[0] == pytest.approx(limits[1], rel=1e-6)


@pytest.mark.parametrize(("variant", "backend"), list(subjects("eager", "sdpa")))
def test_each_pair_of_values(variant: Variant, backend: Backend) -> None:
    for point in points(variant, backend, PAIRWISE):
        prove(point)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # minutes each on a busy machine
@pytest.mark.parametrize(("variant", "backend"), list(subjects("eager", "sdpa")))
def test_the_whole_product(variant: Variant, backend: Backend) -> None:
    for point in points(variant, backend, EVERY):
        prove(point)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # minutes each on a busy machine
@pytest.mark.parametrize(("variant", "backend"), list(subjects("triton")))
def test_each_pair_of_values_interpreted(variant: Variant, backend: Backend) -> None:
    for point in points(variant, backend, PAIRWISE):
        alone = msgspec.structs.replace(point.shape, batch=1)
        prove(msgspec.structs.replace(point, shape=alone))
