"""Costs against counts made here by hand, and workspace against what really was held."""

import msgspec
import pytest

from attnbench.calc.attention_cost import (
    feature_cost,
    naive_workspace,
    operand_bytes,
    pattern_cost,
    projection_cost,
)
from attnbench.calc.patterns import Full, SlidingWindow
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype

SHAPE = AttentionShape(
    batch=2, heads=8, kv_heads=2, seq_q=1024, seq_kv=1024, head_dim=64, causal=False,
    dtype=Dtype.BF16,
)  # fmt: skip


def test_full_attention_costs_what_flash_attention_counts() -> None:
    # Dao 2023, section 4.1: 4 · seqlen² · head_dim · heads, and 2.5 times for a backward.
    forward = 4 * 1024**2 * 64 * 8 * 2
    assert pattern_cost(SHAPE, Mode.FWD, Full(causal=False)).flops == forward
    assert pattern_cost(SHAPE, Mode.BWD, Full(causal=False)).flops == forward * 5 // 2
    assert pattern_cost(SHAPE, Mode.FWD_BWD, Full(causal=False)).flops == forward * 7 // 2


def test_causal_counts_the_pairs_attended() -> None:
    cost = pattern_cost(SHAPE, Mode.FWD, Full(causal=True))
    assert cost.pairs == 16 * 1024 * 1025 // 2
    assert cost.flops == 4 * cost.pairs * 64


def test_bytes_are_each_operand_once_with_kv_heads() -> None:
    q, kv = 2 * 8 * 1024 * 64 * 2, 2 * 2 * 1024 * 64 * 2
    assert operand_bytes(SHAPE, Mode.FWD) == 2 * q + 2 * kv
    assert operand_bytes(SHAPE, Mode.BWD) == 4 * q + 4 * kv  # Q O dO dQ, K V dK dV
    assert operand_bytes(SHAPE, Mode.FWD_BWD) == 6 * q + 6 * kv


def test_a_window_decodes_from_its_window_alone() -> None:
    one = msgspec.structs.replace(SHAPE, seq_q=1, causal=True)
    cost = pattern_cost(one, Mode.DECODE, SlidingWindow(window=100, causal=True))
    q, kv = 2 * 8 * 64 * 2, 2 * 2 * 100 * 64 * 2
    assert cost.bytes_min == 2 * q + 2 * kv
    assert cost.pairs == 16 * 100


def test_linear_attention_costs_two_products_a_token() -> None:
    # A head and token: φ(k)ᵀ[v 1] and φ(q)·sums, 64 × 65 multiply-adds each.
    tokens_q, tokens_kv = 2 * 8 * 1024, 2 * 2 * 1024
    cost = feature_cost(SHAPE, Mode.FWD, features=64, projected=False)
    assert cost.flops == 2 * 64 * 65 * (tokens_q + tokens_kv)
    backward = feature_cost(SHAPE, Mode.BWD, features=64, projected=False)
    assert backward.flops == 2 * cost.flops


def test_features_of_performer_cost_a_product_more() -> None:
    cost = feature_cost(SHAPE, Mode.FWD, features=256, projected=True)
    tokens = 2 * 8 * 1024 + 2 * 2 * 1024
    assert cost.flops == tokens * (2 * 64 * 256 + 2 * 256 * 65)


def test_linformer_costs_its_projections_and_short_attention() -> None:
    cost = projection_cost(SHAPE, Mode.FWD, rank=256)
    project = 2 * (2 * 256 * 1024 * 64) * 2 * 2  # E K and F V, for each batch and KV head
    attend = 4 * 1024 * 256 * 64 * 16
    assert cost.flops == project + attend
    assert cost.pairs == 16 * 1024 * 1024


@pytest.mark.parametrize("mode", [Mode.FWD, Mode.BWD])
def test_naive_grows_with_the_square(mode: Mode) -> None:
    once = msgspec.structs.replace(SHAPE, seq_q=16384, seq_kv=16384)
    twice = msgspec.structs.replace(SHAPE, seq_q=32768, seq_kv=32768)
    assert 3.9 < naive_workspace(twice, mode) / naive_workspace(once, mode) <= 4
