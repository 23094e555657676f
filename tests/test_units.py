import pytest

from attnbench.errors import UserError
from attnbench.units import format_gib, parse_bytes, parse_length, parse_lengths


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("4096", 4096), ("4k", 4096), ("128K", 131072), ("1m", 1 << 20), ("0.5k", 512)],
)
def test_lengths_count_k_as_1024(text: str, tokens: int) -> None:
    assert parse_length(text) == tokens


@pytest.mark.parametrize("text", ["", "-1", "4q", "k", "1.0001k", "1e3", "٤", "9" * 40, "0", "nan"])
def test_a_length_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_length(text, what="--seq-len")
    assert "--seq-len" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists_and_doubling_ranges() -> None:
    assert parse_lengths("1k..8k") == (1024, 2048, 4096, 8192)
    assert parse_lengths("3,1k..2k,3") == (3, 1024, 2048)
    with pytest.raises(UserError, match="empty"):
        parse_lengths("8k..1k")


def test_bytes_know_gb_from_gib() -> None:
    assert parse_bytes("6GB") == 6 * 10**9
    assert parse_bytes("6GiB") == parse_bytes("6g") == 6 * 2**30
    assert format_gib(10_737_418_240) == "10.00 GiB"
