"""The flex backend: its mask and score functions through torch's uncompiled path, in seconds,
and compiled (slow: a C++ compiler runs a shape)."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from attnbench.calc.featured_cost import document_shapes
from attnbench.calc.patterns import ChoosingPattern, Pattern
from attnbench.calc.score_features import score_features
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant
from attnbench.variants._flex import arguments, forward, prepare
from attnbench.variants._flex_mask import block_mask, make_layout
from attnbench.variants._protocol import Backend, Params, Variant
from attnbench.variants._reference import variant_reference
from attnbench.variants._score import add_sinks, make_lens, make_score
from attnbench.variants._settings import settings_of
from attnbench.variants._support import torch_dtype

NAMES = ["flash", "sliding_window", "strided", "longformer", "bigbird"]
SMALL: dict[str, dict[str, Any]] = {
    "sliding_window": {"window": 90, "sink": 3},
    "strided": {"window": 20, "stride": 130},
    "longformer": {"window": 60, "global_tokens": 5},
}
FEATURES: list[dict[str, Any]] = [
    {},
    {"alibi": True},
    {"soft_cap": 1.5},
    {"padding": 0.6},
    {"alibi": True, "soft_cap": 2.0, "padding": 0.3},
    {"varlen": 1},
    {"varlen": 4},
    {"varlen": 3, "alibi": True, "soft_cap": 2.0},
]
SHAPE = AttentionShape(
    batch=2, heads=4, kv_heads=2, seq_q=300, seq_kv=300, head_dim=16, causal=True, dtype=Dtype.FP32
)
LENGTHS = [(300, 300), (17, 17), (60, 333), (333, 60), (1, 300)]


def flex_of(variant: Variant) -> Backend:
    return next(b for b in variant.backends if b.name == "flex")


def draw(shape: AttentionShape, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    kv = (shape.kv_heads, shape.seq_kv)
    return [
        torch.randn(shape.batch, *size, shape.head_dim, generator=generator).to(dtype)
        for size in ((shape.heads, shape.seq_q), kv, kv)
    ]


def shapes() -> Iterator[AttentionShape]:
    for causal in (True, False):
        for seq_q, seq_kv in LENGTHS:
            yield msgspec.structs.replace(SHAPE, seq_q=seq_q, seq_kv=seq_kv, causal=causal)


def shapes_of(wanted: Params) -> Iterator[AttentionShape]:
    """Shapes in which each document has a token."""
    least = sum(range(1, int(wanted.get("varlen", 0)) + 1))
    return (shape for shape in shapes() if min(shape.seq_q, shape.seq_kv) >= least)


def pattern_at(variant: Variant, params: Params) -> Callable[[AttentionShape], Pattern]:
    def pattern(shape: AttentionShape) -> Pattern:
        assert variant.pattern is not None
        return variant.pattern(shape, params)

    return pattern


def settings(name: str, **given: Any) -> tuple[Variant, Params]:
    variant = load_variant(name)
    return variant, settings_of(variant, {**SMALL.get(name, {}), **given})


@pytest.mark.parametrize("wanted", [{}, {"padding": 0.6}, {"varlen": 2}], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_tiles_are_those_that_torch_finds_in_the_dense_mask(name: str, wanted: Params) -> None:
    for shape in shapes_of(wanted):
        variant, params = settings(name, **wanted)
        params = variant.resolve(shape, params)
        features = score_features(params)
        lens = make_lens(features, shape, "cpu")
        layout = make_layout(
            shape, pattern_at(variant, params), count=features.varlen, lens=lens, device="cpu"
        )
        ours = block_mask(shape, layout, "cpu")
        theirs = create_block_mask(
            ours.mask_mod, shape.batch, None, shape.seq_q, shape.seq_kv, device="cpu"
        )
        assert torch.equal(ours.to_dense().expand_as(theirs.to_dense()), theirs.to_dense())
        dense = dense_mask(shape, variant, params)
        assert ours.full_kv_indices is not None
        assert ours.full_kv_num_blocks is not None
        for b in range(ours.full_kv_num_blocks.shape[0]):
            for tile, count in enumerate(ours.full_kv_num_blocks[b, 0].tolist()):
                for column in ours.full_kv_indices[b, 0, tile, :count].tolist():
                    at = (
                        slice(tile * 128, tile * 128 + 128),
                        slice(column * 128, column * 128 + 128),
                    )
                    assert dense[at].shape == (128, 128)
                    assert bool(dense[at].all())
                    assert lens is None or at[1].stop <= int(lens[b])


def dense_mask(shape: AttentionShape, variant: Variant, params: Params) -> Tensor:
    """The pairs of documents, each alone: blocks on the diagonal [seq_q, seq_kv]."""
    pattern, blocks = pattern_at(variant, params), []
    for document in document_shapes(shape, score_features(params).varlen or 1):
        rows, keys = torch.arange(document.seq_q) + document.offset, torch.arange(document.seq_kv)
        blocks.append(pattern(document).allows(rows[:, None], keys[None, :]))
    return torch.block_diag(*blocks).bool()


def by_functions(inputs: list[Tensor], given: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Output and LSE of attention by a mask_mod and a score_mod, asked for every index."""
    q, k, v = inputs
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    sizes = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    at = torch.meshgrid(*(torch.arange(n, dtype=torch.int32) for n in sizes), indexing="ij")
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if "score_mod" in given:
        logits = given["score_mod"](logits, *at)
    seen = given["block_mask"].mask_mod(*at)
    tiles = given["block_mask"].to_dense().repeat_interleave(128, 2).repeat_interleave(128, 3)
    in_tile = tiles[:, :, : sizes[2], : sizes[3]].bool()
    logits = logits.masked_fill(~(seen & in_tile), -torch.inf)
    return torch.softmax(logits, -1).nan_to_num(0.0) @ v, logits.logsumexp(-1)


@pytest.mark.parametrize("wanted", FEATURES, ids=lambda w: "-".join(w) or "plain")
@pytest.mark.parametrize("name", NAMES)
def test_mask_and_score_functions_are_the_pattern_and_the_features(
    name: str, wanted: dict[str, Any]
) -> None:
    for shape in shapes_of(wanted):
        shape = msgspec.structs.replace(shape, dtype=Dtype.FP64)
        variant, params = settings(name, **wanted)
        params = variant.resolve(shape, params)
        features = score_features(params)
        score = make_score(features, shape, "cpu")
        given = arguments(shape, pattern_at(variant, params), features, score, "cpu")
        inputs = draw(shape, torch.float64)
        out, _ = by_functions(inputs, given)
        exact = variant_reference(variant, *inputs, shape, params)
        # Sums of 333 terms of order 1.
        assert float((out - exact).norm()) <= 1e-12 * (1 + float(exact.norm())), shape


def test_sinks_join_through_the_log_sum_exp() -> None:
    variant, params = settings("sliding_window", sink_logit=True, alibi=True)
    wide = msgspec.structs.replace(SHAPE, dtype=Dtype.FP64)
    features = score_features(params)
    score = make_score(features, wide, "cpu")
    assert score is not None
    assert score.sinks is not None
    inputs = draw(wide, torch.float64)
    given = arguments(wide, pattern_at(variant, params), features, score, "cpu")
    assert given["return_aux"].lse
    ours = add_sinks(*by_functions(inputs, given), score.sinks)
    exact = variant_reference(variant, *inputs, wide, params)
    assert float((ours - exact).norm()) <= 1e-12 * float(exact.norm())


@pytest.mark.parametrize(
    ("changes", "params", "mode", "device", "says"),
    [
        ({}, {}, Mode.BWD, "cpu", "for CUDA and ROCm alone"),
        ({}, {"sink_logit": True}, Mode.FWD, "cpu", "no log-sum-exp on a CPU"),
        ({"dtype": Dtype.FP64}, {}, Mode.FWD, "cuda", "not fp64"),
        ({"head_dim": 8}, {}, Mode.FWD, "cuda", "from 16, not 8"),
        ({}, {"sink_logit": True}, Mode.FWD_BWD, "cuda", None),
    ],
)
def test_reasons(
    changes: dict[str, Any], params: Params, mode: Mode, device: str, says: str | None
) -> None:
    shape = msgspec.structs.replace(SHAPE, **changes)
    reason = flex_of(load_variant("flash")).supports(shape, mode, params, device)
    assert (reason is None) == (says is None)
    assert says is None or says in str(reason)


def test_a_missing_compiler_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    reason = flex_of(load_variant("flash")).supports(SHAPE, Mode.FWD, {}, "cpu")
    assert "neither g++ nor clang++" in str(reason)


# inductor itself imports what torch has deprecated
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.timeout(1200)  # a busy machine compiles C++ for minutes
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("dtype", "changes"),
    [
        (Dtype.FP32, {"varlen": 0}),
        (Dtype.BF16, {"varlen": 0}),
        (Dtype.FP32, {"varlen": 3}),
        (Dtype.BF16, {"varlen": 3, "rope_theta": 1e4}),
    ],
    ids=str,
)
def test_compiled_output_is_the_reference(name: str, dtype: Dtype, changes: Params) -> None:
    shape = msgspec.structs.replace(SHAPE, head_dim=64, dtype=dtype, causal=dtype is Dtype.BF16)
    variant, params = settings(name, alibi=True, soft_cap=20.0, **changes)
    params = variant.resolve(shape, params)
    backend = flex_of(variant)
    assert backend.supports(shape, Mode.FWD, params, "cpu") is None
    inputs = draw(shape, torch_dtype(dtype))
    with torch.no_grad():
        out = backend.forward(*inputs, backend.prepare(shape, params, "cpu"))
    exact = variant_reference(variant, *inputs, shape, params)
    # Inputs, weights and output rounded once each, and tanh and exp to a few units.
    eps = torch.finfo(out.dtype).eps
    assert float((out.double() - exact).norm()) <= 4 * eps * float(exact.norm())


# inductor itself imports what torch has deprecated
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.timeout(1200)  # a busy machine compiles C++ for minutes
@pytest.mark.slow
def test_no_number_of_shapes_leaves_the_fused_path() -> None:
    """More shapes than dynamo's recompile limit: each call runs what was compiled for it."""
    variant, params = settings("sliding_window")
    pattern = pattern_at(variant, params)
    states = []
    assert torch._dynamo.config.recompile_limit >= 8
    with torch._dynamo.config.patch(recompile_limit=2):
        for length in (32, 48, 64, 80):
            shape = msgspec.structs.replace(SHAPE, batch=1, seq_q=length, seq_kv=length)
            states.append((shape, prepare(shape, pattern, score_features(params), "cpu")))
    with torch.compiler.set_stance("fail_on_recompile"), torch.no_grad():
        for shape, state in states:
            inputs = draw(shape)
            exact = variant_reference(variant, *inputs, shape, params)
            out = forward(*inputs, state)
            assert float((out.double() - exact).norm()) <= 1e-6 * float(exact.norm())


@pytest.mark.parametrize("name", ["sliding_window", "strided", "longformer", "bigbird"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_patterns_definition_can_be_traced(name: str, causal: bool) -> None:
    """Dynamo makes no object inside a mask_mod: `allows` must get by without."""
    shape = AttentionShape(
        batch=1, heads=1, kv_heads=1, seq_q=300, seq_kv=300, head_dim=32, causal=causal,
        dtype=Dtype.FP32,
    )  # fmt: skip
    variant = load_variant(name)
    assert variant.pattern is not None
    pattern = variant.pattern(shape, variant.resolve(shape, variant.defaults))
    query, key = torch.arange(300)[:, None], torch.arange(300)[None]
    asked, given = pattern.allows, (query, key)
    if isinstance(pattern, ChoosingPattern):
        asked, given = pattern.allows_chosen, (query, key, pattern.choices(query))
    traced = torch.compile(asked, fullgraph=True, dynamic=False, backend="eager")
    assert torch.equal(traced(*given), pattern.allows(query, key))
