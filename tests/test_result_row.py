"""One dataclass makes the header, the JSON and the documentation."""

from pathlib import Path

from attnbench.report.columns import columns_markdown
from attnbench.spec.result import COLUMN_DOCS, COLUMNS, KEY_COLUMNS

CONTRACT = (
    "variant, backend, mode, device, dtype, batch, heads, kv_heads, seq_q, seq_kv, head_dim, "
    "causal, params, status, time_ms, time_ms_p20, time_ms_p80, time_ms_ci_low, "
    "time_ms_ci_high, rounds, samples, timer, cache_regime, setup_ms, first_call_ms, pairs, "
    "density, flops, achieved_flops_per_s, bytes_min, achieved_bytes_per_s, peak_memory_bytes, "
    "workspace_bytes, rel_error, kernel_error, grad_error, speedup_vs_naive, roofline_ms, "
    "roofline_fraction, recipe, note"
)
POINT = (
    "variant, backend, mode, dtype, batch, heads, kv_heads, seq_q, seq_kv, head_dim, causal, params"
)


def test_columns_are_the_contracts_in_its_order() -> None:
    assert ", ".join(COLUMNS) == CONTRACT
    assert ", ".join(KEY_COLUMNS) == POINT


def test_every_column_is_documented_and_the_page_is_current() -> None:
    assert all(COLUMN_DOCS[name] for name in COLUMNS)
    page = Path(__file__).parent.parent / "docs" / "results.md"
    assert page.read_text() == columns_markdown(), "run: python -m attnbench.report.columns"
