"""Score features: each backend against float64, the float64 against formulas written out here."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from attnbench.calc.score_features import (
    NAMES,
    ScoreFeatures,
    alibi_slopes,
    documents,
    kv_lens,
    score_features,
    sink_logits,
)
from attnbench.errors import UserError
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant, variant_names
from attnbench.variants._protocol import Backend, Variant
from attnbench.variants._reference import variant_reference
from attnbench.variants._settings import settings_by_variant, settings_of
from attnbench.variants._support import torch_dtype

ON: dict[str, Any] = {
    "alibi": True,
    "soft_cap": 1.5,
    "sink_logit": True,
    "padding": 0.6,
    "varlen": 3,
    "rope_theta": 10000.0,
}
SETS: list[dict[str, Any]] = [
    *({name: value} for name, value in ON.items()),
    {"alibi": True, "soft_cap": 2.0, "sink_logit": True, "padding": 0.4, "rope_theta": 500.0},
    {"alibi": True, "soft_cap": 2.0, "sink_logit": True, "varlen": 2, "rope_theta": 500.0},
]
SMALL: dict[str, dict[str, Any]] = {
    "sliding_window": {"window": 9, "sink": 2},
    "strided": {"window": 6, "stride": 5},
    "longformer": {"window": 8, "global_tokens": 3},
    "bigbird": {"block": 4},
    "performer": {"features": 24},
    "linformer": {"rank": 8},
    "paged_decode": {"page_size": 8},
}
SHAPE = AttentionShape(
    batch=3, heads=6, kv_heads=2, seq_q=57, seq_kv=57, head_dim=16, causal=True, dtype=Dtype.FP64
)


def cases() -> Iterator[Any]:
    for name in variant_names():
        variant = load_variant(name)
        for backend in variant.backends:
            if backend.name == "flex":
                continue  # compiles for seconds a shape: tests/test_flex.py
            for wanted in SETS:
                if set(wanted) <= variant.features:
                    label = "-".join([name, backend.name, *wanted])
                    yield pytest.param(variant, backend, wanted, id=label)


def shapes(variant: Variant, base: AttentionShape) -> Iterator[AttentionShape]:
    for seq_q, seq_kv in ((57, 57), (20, 57), (57, 20)):
        for causal in sorted(variant.causal_forms):
            if variant.modes == {Mode.DECODE}:
                seq_q = 1
            yield msgspec.structs.replace(base, seq_q=seq_q, seq_kv=seq_kv, causal=causal)


def draw(shape: AttentionShape, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((shape.heads, shape.seq_q), (shape.kv_heads, shape.seq_kv))
    return [
        torch.randn(shape.batch, heads, tokens, shape.head_dim, generator=generator).to(
            torch_dtype(shape.dtype)
        )
        for heads, tokens in (*sizes, sizes[1])
    ]


@pytest.mark.parametrize(("variant", "backend", "wanted"), list(cases()))
def test_a_backend_runs_a_feature_or_says_why_not(
    variant: Variant, backend: Backend, wanted: dict[str, Any]
) -> None:
    interpreted = "cpu" in backend.interpreted_on
    dtype = Dtype.FP32 if interpreted else Dtype.FP64
    base = msgspec.structs.replace(SHAPE, dtype=dtype)
    if interpreted:
        base = msgspec.structs.replace(base, batch=2, heads=3, kv_heads=1)
    some = list(shapes(variant, base))
    if interpreted:  # slow
        some = [s for s in some if s.causal and s.seq_q <= s.seq_kv][:1]
    mode = Mode.DECODE if variant.modes == {Mode.DECODE} else Mode.FWD
    ran = 0
    for shape in some:
        plain = settings_of(variant, SMALL.get(variant.name, {}))
        params = settings_of(variant, {**SMALL.get(variant.name, {}), **wanted})
        assert score_features(params).on == set(wanted)
        assert set(params) == set(plain) | set(wanted)
        reason = backend.supports(shape, mode, params, "cpu")
        if reason is not None:
            assert reason.strip()
            continue
        ran += 1
        inputs = draw(shape)
        out = backend.forward(*inputs, backend.prepare(shape, params, "cpu"))
        wanted_out = variant_reference(variant, *inputs, shape, params)
        # Sums of under 100 terms of order 1, chained four deep; fp32's soft-cap by exp2.
        limit = (1e-13 if dtype is Dtype.FP64 else 2e-6) * float(wanted_out.norm())
        assert float((out.double() - wanted_out).norm()) <= limit, (shape, params)
        without = variant_reference(variant, *inputs, shape, plain)
        if shape.seq_q == shape.seq_kv:
            assert float((without - wanted_out).norm()) > 1e-3 * float(without.norm()), "no effect"
    if not ran:
        pytest.skip("refused")


@pytest.mark.parametrize("wanted", SETS[-2:])
@pytest.mark.parametrize("name", [n for n in variant_names() if n != "paged_decode"])
def test_gradients_reach_the_inputs_through_every_feature(
    name: str, wanted: dict[str, Any]
) -> None:
    variant = load_variant(name)
    given = {k: v for k, v in wanted.items() if k in variant.features}
    params = settings_of(variant, {**SMALL.get(name, {}), **given})
    shape = msgspec.structs.replace(SHAPE, causal=True in variant.causal_forms)
    inputs = [x.requires_grad_() for x in draw(shape)]
    upward = draw(shape, seed=1)[0]
    exact = torch.autograd.grad(variant_reference(variant, *inputs, shape, params), inputs, upward)
    ran = 0
    for backend in variant.backends:
        if backend.supports(shape, Mode.BWD, params, "cpu") is None:
            out = backend.forward(*inputs, backend.prepare(shape, params, "cpu"))
            for ours, theirs in zip(torch.autograd.grad(out, inputs, upward), exact, strict=True):
                assert float((ours - theirs).norm()) <= 1e-12 * (1 + float(theirs.norm()))
            ran += 1
    assert ran or name == "flash"


def dense(
    q: Tensor, k: Tensor, v: Tensor, logit: Callable[[int, int, int, float], float | None],
    sink: Callable[[int], float | None] = lambda head: None,
) -> Tensor:  # fmt: skip
    """Attention in plain Python: logit(head, row, column, s) or None where not attended."""
    out = torch.zeros_like(q)
    for h in range(q.shape[1]):
        for i in range(q.shape[2]):
            raw = (q[0, h, i] @ k[0, h].T / math.sqrt(q.shape[3])).tolist()
            logits = {j: logit(h, i, j, s) for j, s in enumerate(raw)}
            weights = {j: math.exp(s) for j, s in logits.items() if s is not None}
            extra = sink(h)
            total = sum(weights.values()) + (math.exp(extra) if extra is not None else 0.0)
            for j, w in weights.items():
                out[0, h, i] += w / total * v[0, h, j]
    return out


def check_dense(
    wanted: dict[str, Any],
    logit: Callable[[int, int, int, float], float | None],
    sink: Callable[[int], float | None] = lambda head: None,
) -> None:
    variant = load_variant("naive")
    shape = msgspec.structs.replace(SHAPE, batch=1, heads=4, kv_heads=4, seq_q=9, seq_kv=9)
    inputs = draw(shape)
    ours = variant_reference(variant, *inputs, shape, settings_of(variant, wanted))
    q, k, v = inputs
    assert float((ours - dense(q, k, v, logit, sink)).abs().max()) < 1e-13


def test_reference_of_alibi() -> None:
    slope = [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]  # four heads: Press et al., section 3
    check_dense({"alibi": True}, lambda h, i, j, s: s - slope[h] * (i - j) if j <= i else None)


def test_reference_of_soft_cap() -> None:
    check_dense({"soft_cap": 0.7}, lambda h, i, j, s: 0.7 * math.tanh(s / 0.7) if j <= i else None)


def test_reference_of_sink_logits() -> None:
    each = [-2.0, -2.0 + 4 / 3, -2.0 + 8 / 3, 2.0]
    check_dense(
        {"sink_logit": True}, lambda h, i, j, s: s if j <= i else None, lambda head: each[head]
    )


def test_reference_of_padding() -> None:
    check_dense({"padding": 0.5}, lambda h, i, j, s: s if j <= i and j < 5 else None)


def test_reference_of_packed_documents() -> None:
    start = [0, 1, 1, 1, 4, 4, 4, 4, 4]  # nine tokens, 1 : 2 : 3, cut at 9·2/12 and 9·6/12
    check_dense({"varlen": 3}, lambda h, i, j, s: s if j <= i and start[i] == start[j] else None)


def test_rope_is_a_rotation_by_position_of_pairs_half_a_head_apart() -> None:
    from attnbench.variants._score import rotate

    x = torch.randn(5, 8, dtype=torch.float64)
    turned = rotate(x, torch.tensor([0, 1, 2, 100000, -3]), 10000.0)
    for row, position in enumerate([0, 1, 2, 100000, -3]):
        for pair in range(4):
            angle = position * 10000.0 ** (-2 * pair / 8)
            z = complex(x[row, pair], x[row, pair + 4])
            z *= complex(math.cos(angle), math.sin(angle))
            assert abs(z.real - turned[row, pair]) < 1e-10
            assert abs(z.imag - turned[row, pair + 4]) < 1e-10


def test_published_slopes() -> None:
    assert alibi_slopes(8) == tuple(2.0**-i for i in range(1, 9))
    # Twelve heads by the authors' get_slopes.
    assert alibi_slopes(12)[8:] == pytest.approx([2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])
    assert len(sink_logits(1)) == 1


def test_lengths() -> None:
    assert kv_lens(4, 1000, 0.5) == (1000, 834, 667, 500)
    assert all(kv_lens(3, 1, 0.9))
    for tokens in (6, 57, 1000):
        ranges = documents(tokens, 3)
        assert [t for r in ranges for t in r] == list(range(tokens))
        assert all(ranges)


@pytest.mark.parametrize("wanted", [{"padding": 0.6}, {"varlen": 3}])
@pytest.mark.parametrize(
    "name", ["naive", "sliding_window", "strided", "longformer", "bigbird", "paged_decode"]
)
def test_pairs_are_those_that_padding_and_packing_leave(name: str, wanted: dict[str, Any]) -> None:
    variant = load_variant(name)
    if not set(wanted) <= variant.features:
        pytest.skip("not a feature of it")
    for shape in shapes(variant, SHAPE):
        params = settings_of(variant, {**SMALL.get(name, {}), **wanted})
        params = variant.resolve(shape, params)
        assert variant.pattern is not None
        features, pairs = score_features(params), 0
        if features.varlen:
            for q, k in zip(documents(shape.seq_q, 3), documents(shape.seq_kv, 3), strict=True):
                alone = msgspec.structs.replace(shape, seq_q=len(q), seq_kv=len(k))
                pattern = variant.pattern(alone, params)
                pairs += sum(
                    bool(pattern.allows(i + alone.offset, j))
                    for i in range(len(q))
                    for j in range(len(k))
                )
            pairs *= shape.batch
        else:
            pattern = variant.pattern(shape, params)
            for length in kv_lens(shape.batch, shape.seq_kv, features.padding):
                pairs += sum(
                    bool(pattern.allows(i + shape.offset, j))
                    for i in range(shape.seq_q)
                    for j in range(length)
                )
        cost = variant.cost(shape, Mode.FWD, params)
        assert cost.pairs == shape.heads * pairs
        assert cost.flops == 4 * shape.heads * pairs * shape.head_dim


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"soft_cap": -1.0}, "soft_cap: -1"),
        ({"soft_cap": math.inf}, "soft_cap: inf"),
        ({"padding": 1.0}, "padding: 1"),
        ({"varlen": -2}, "varlen: -2"),
        ({"rope_theta": 0.5}, "rope_theta: 0.5"),
        ({"padding": 0.5, "varlen": 2}, "padding, varlen"),
        ({"alibi": 1}, "naive.alibi: 1 is not true or false"),
        ({"soft_cap": "x"}, "naive.soft_cap: 'x' is not a number"),
        ({"softcap": 3.0}, "unknown setting of naive 'softcap'"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        settings_of(load_variant("naive"), values)


def test_a_feature_that_is_off_stands_nowhere() -> None:
    naive = load_variant("naive")
    assert settings_of(naive, {name: getattr(ScoreFeatures(), name) for name in NAMES}) == {}
    window = load_variant("sliding_window")
    assert settings_of(window, {"soft_cap": 0}) == dict(window.defaults)
    assert settings_of(window, {"soft_cap": 30})["soft_cap"] == 30.0


def test_settings_of_lists_and_of_all() -> None:
    variants = [load_variant(name) for name in ("naive", "linear", "sliding_window")]
    made = settings_by_variant(
        {"all": {"alibi": True}, "sliding_window": {"window": [64, 128], "alibi": [False, True]}},
        variants,
    )
    assert made["naive"] == [{"alibi": True}]
    assert made["linear"] == [{}]
    assert {(p["window"], p.get("alibi")) for p in made["sliding_window"]} == {
        (64, None), (64, True), (128, None), (128, True),
    }  # fmt: skip
    for given, says in (
        ({"strided": {"window": 3}}, "unknown variant under params 'strided'"),
        ({"all": {"wndow": 3}}, "unknown setting of any variant 'wndow'"),
        ({"sliding_window": {"window": 0}}, "sliding_window.window: 0 is under 1"),
        ({"sliding_window": {"window": []}}, "empty list"),
        ({"sliding_window": {"window": True}}, "True is not a whole number"),
    ):
        with pytest.raises(UserError, match=says):
            settings_by_variant(given, variants)
