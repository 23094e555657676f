"""Nothing seq × seq: what a sparse or linear variant holds at once grows as its length does."""

import functools
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnbench.calc.operands import result_bytes
from attnbench.measure.inputs import make_inputs
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant
from attnbench.variants._protocol import Backend, Params
from attnbench.variants._settings import settings_of

VARIANTS = [
    "sliding_window", "strided", "longformer", "bigbird", "performer", "linear", "linformer",
]  # fmt: skip
SHORT, LONG = 2048, 8192


class Allocations(TorchDispatchMode):
    """The most bytes that tensors made under it hold at once; views count once."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, list[int]] = {}  # storage -> [bytes, tensors that share it]
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        known = {id(x) for x in tree_leaves((args, kwargs))}
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and id(tensor) not in known:
                self._add(tensor, [x for x in tree_leaves(args) if isinstance(x, Tensor)])
        self.peak = max(self.peak, sum(size for size, _ in self.live.values()))
        return made

    def _add(self, tensor: Tensor, inputs: list[Tensor]) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        foreign = any(x.untyped_storage()._cdata == key for x in inputs)
        if foreign and key not in self.live:
            return  # a view of an input
        entry = self.live.setdefault(key, [storage.nbytes(), 0])
        entry[1] += 1
        weakref.finalize(tensor, self._drop, key)

    def _drop(self, key: int) -> None:
        self.live[key][1] -= 1
        if not self.live[key][1]:
            del self.live[key]


def shape_of(name: str, tokens: int, **others: Any) -> AttentionShape:
    shape = AttentionShape(
        batch=1, heads=2, kv_heads=1, seq_q=tokens, seq_kv=tokens, head_dim=64,
        causal=True in load_variant(name).causal_forms, dtype=Dtype.BF16,
    )  # fmt: skip
    return msgspec.structs.replace(shape, **others)


def peak_bytes(name: str, tokens: int, params: Params, mode: Mode = Mode.FWD) -> int:
    """Without what `prepare` makes."""
    shape = shape_of(name, tokens)
    backend = eager(name)
    state = backend.prepare(shape, load_variant(name).resolve(shape, params), "cpu")
    return held(backend, shape, mode, lambda: state)


def eager(name: str) -> Backend:
    return next(b for b in load_variant(name).backends if b.name == "eager")


def held(backend: Backend, shape: AttentionShape, mode: Mode, prepare: Callable[[], Any]) -> int:
    """The most bytes that live at once while `prepare` and one call run; results too."""
    given = make_inputs(shape, mode, "cpu")
    inputs = [given.query, given.key, given.value]
    with Allocations() as allocations:
        state = prepare()
        if mode is Mode.FWD:
            with torch.no_grad():
                backend.forward(*inputs, state)
        else:
            inputs = [x.requires_grad_() for x in inputs]
            out = backend.forward(*inputs, state)
            torch.autograd.grad(out, inputs, given.grad_output)
    return allocations.peak


def test_the_count_sees_a_matrix_of_scores() -> None:
    short, long = (peak_bytes("naive", n, {}) for n in (512, 2048))
    assert 4 * long > 3 * 16 * short
    assert long >= 2 * (2 * 2048 * 2048 * 2)  # scores and softmax, two heads, bf16


@pytest.mark.parametrize("features", [{}, {"alibi": True, "soft_cap": 20.0, "padding": 0.3}])
@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_held_grows_no_faster_than_the_length(name: str, features: dict[str, Any]) -> None:
    variant = load_variant(name)
    given = {k: v for k, v in features.items() if k in variant.features}
    params = settings_of(variant, given)
    short, long = (peak_bytes(name, n, params) for n in (SHORT, LONG))
    assert long <= 1.05 * LONG / SHORT * short
    assert long < 2 * LONG * LONG * 2 / 2, "half a matrix of scores"


@pytest.mark.parametrize(
    "name", ["sliding_window", "longformer", "bigbird", "performer", "linear", "linformer"]
)
def test_a_backward_too(name: str) -> None:
    params = load_variant(name).defaults
    short, long = (peak_bytes(name, n, params, Mode.FWD_BWD) for n in (SHORT, LONG))
    assert long <= 1.1 * LONG / SHORT * short


# Shapes that try each term: short and long, GQA, MHA and MQA, wide heads and dtypes.
SHAPES: list[dict[str, Any]] = [
    {"heads": 4, "kv_heads": 2},
    {"heads": 2, "kv_heads": 2, "dtype": Dtype.FP32},
    {"heads": 4, "kv_heads": 1, "head_dim": 128},
]
FEATURES: list[dict[str, Any]] = [
    {}, {"alibi": True, "soft_cap": 20.0}, {"padding": 0.3}, {"sink_logit": True},
]  # fmt: skip


@pytest.mark.parametrize("given", FEATURES, ids=lambda given: "-".join(given) or "plain")
@pytest.mark.parametrize("mode", [Mode.FWD, Mode.FWD_BWD])
@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_predicted_is_held_to_within_a_factor_of_two(
    name: str, mode: Mode, given: dict[str, Any]
) -> None:
    """Never less than was held, and at most twice it, a MiB aside: nothing tells that apart."""
    if not set(given) <= load_variant(name).features:
        pytest.skip("not a feature of it")
    for tokens, others in itertools.product((256, 1024, 2500), SHAPES[: 1 if given else None]):
        is_held_as_predicted(name, mode, given, tokens, others)


LONG_SHAPES: list[dict[str, Any]] = [
    {"heads": heads, "kv_heads": 2, "dtype": dtype}
    for heads, dtype in itertools.product((4, 2), (Dtype.BF16, Dtype.FP32))
]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # half a minute each on a quiet core
@pytest.mark.parametrize("given", FEATURES, ids=lambda given: "-".join(given) or "plain")
@pytest.mark.parametrize("name", VARIANTS)
def test_at_4k_to_16k_too(name: str, given: dict[str, Any]) -> None:
    if not set(given) <= load_variant(name).features:
        pytest.skip("not a feature of it")
    for mode, tokens in itertools.product((Mode.FWD, Mode.FWD_BWD), (4000, 8192, 16000)):
        for others in LONG_SHAPES:
            is_held_as_predicted(name, mode, given, tokens, others)


def is_held_as_predicted(
    name: str, mode: Mode, given: dict[str, Any], tokens: int, others: dict[str, Any]
) -> None:
    variant, backend = load_variant(name), eager(name)
    shape = shape_of(name, tokens, **others)
    params = variant.resolve(shape, settings_of(variant, given))
    prepare = functools.partial(backend.prepare, shape, params, "cpu")
    most = held(backend, shape, mode, prepare)
    workspace = max(0, most - result_bytes(shape, mode))
    predicted = backend.workspace_bytes(shape, mode, params)
    assert workspace <= predicted <= 2 * workspace + (1 << 20), shape.label
