"""results.csv: every value reads back as itself, and a broken file is named by its place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.errors import UserError
from attnbench.spec.result import COLUMNS, ResultRow
from attnbench.spec.results_csv import header_line, parse_rows, read_rows, rows_to_csv

ROW = ResultRow(
    variant="naive", backend="eager", mode="fwd", device='CPU "x", 2 cores', dtype="fp32",
    batch=1, heads=2, kv_heads=1, seq_q=17, seq_kv=127, head_dim=64, causal=True,
    params='{"window": 512}', status="ok", time_ms=0.1 + 0.2, rounds=5, pairs=2**70,
    note="two\nlines",
)  # fmt: skip


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.booleans(),
)
def test_every_value_reads_back_as_itself(number: float, whole: int, text: str, flag: bool) -> None:
    row = ResultRow(
        variant=text, backend="", mode="decode", device=text, dtype="bf16", batch=whole,
        heads=1, kv_heads=1, seq_q=1, seq_kv=1, head_dim=1, causal=flag, params="{}",
        status="oom", time_ms=number, pairs=whole, note=text,
    )  # fmt: skip
    assert parse_rows(rows_to_csv([ROW, row]), label="f") == [ROW, row]


def test_header_is_the_contracts() -> None:
    assert header_line() == ",".join(COLUMNS) + "\n"


def _broken(name: str, text: str) -> str:
    cells = rows_to_csv([ROW]).splitlines()[0].split(",")
    values = dict.fromkeys(cells, "")
    values |= {"causal": "true", "status": "ok", "mode": "fwd", "dtype": "fp32", "time_ms": "1.5"}
    values |= dict.fromkeys(("batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim"), "1")
    values[name] = text
    return header_line() + ",".join(values.values()) + "\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("time_ms", "fast"), ("time_ms", "nan"), ("time_ms", "inf"), ("batch", ""),
        ("batch", "1.5"), ("causal", "True"), ("status", "fine"), ("mode", "forward"),
        ("dtype", "fp33"), ("pairs", "1e9"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_file_line_and_column(name: str, text: str) -> None:
    parse_rows(_broken("note", "fine"), label="f")
    with pytest.raises(UserError, match=rf"results\.csv:2: {name}: '{text}' is not"):
        parse_rows(_broken(name, text), label="results.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "f:1: empty"),
        ("a,b\n", "f:1: column 1 is 'a', where 'variant'"),
        (header_line().replace(",note", ""), "f:1: column 41 is nothing, where 'note'"),
        (header_line().replace("note", "note,more"), "f:1: column 42 is 'more', where nothing"),
        (header_line() + "naive,eager\n", "f:2: 2 values"),
        (header_line() + '"naive', "f:2: not valid CSV"),
    ],
)
def test_a_broken_file_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_rows(text, label="f")
    assert str(caught.value).startswith(says)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.csv: No such file"):
        read_rows(tmp_path / "results.csv")
    (tmp_path / "results.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        read_rows(tmp_path / "results.csv")
