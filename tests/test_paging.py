"""Pages against one piece: against a cache that is filled a token at a time."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from attnbench.calc.paging import PagedKind, contiguous_bytes, paged, used_bytes
from attnbench.catalog.trace import read_trace
from attnbench.cli import run
from attnbench.errors import UserError

KINDS = {
    "full": PagedKind(token_bytes=10),
    "sliding": PagedKind(token_bytes=10, window=24),
    "chunked": PagedKind(token_bytes=10, window=32, chunked=True),
}


def _needed(kind: PagedKind, tokens: int) -> set[int]:
    """Cached tokens that the next one, at position `tokens`, or a token now, can still see."""
    if kind.window is None:
        return set(range(tokens))
    if kind.chunked:
        last = tokens - 1
        return {j for j in range(tokens) if j // kind.window == last // kind.window}
    return {j for j in range(tokens) if tokens - kind.window < j}


def _filled(kind: PagedKind, lengths: list[int], block: int, prefix: int) -> tuple[int, float]:
    """Pages of a cache with a table a sequence, whole blocks of the prefix in common."""
    pages: set[tuple[int, int]] = set()
    useful: set[tuple[int, int]] = set()
    for sequence, tokens in enumerate(lengths):
        for j in _needed(kind, tokens):
            owner = -1 if j // block < prefix // block else sequence
            pages.add((owner, j // block))
            useful.add((owner, j))
    held = len(pages) * block
    return held * kind.token_bytes, 1 - len(useful) / held


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("block", [1, 3, 16, 40])
@pytest.mark.parametrize("prefix", [0, 17, 32])
def test_pages_are_those_of_a_cache_that_is_filled(
    kind: PagedKind, block: int, prefix: int
) -> None:
    for lengths in ([33], [33, 64, 100, 1000], [32, 33, 47, 48, 49], [64] * 5):
        found = paged([kind], lengths, block, prefix=prefix)
        total, waste = _filled(kind, lengths, block, prefix)
        assert found.paged_bytes == total
        assert found.waste_fraction == pytest.approx(waste)


def test_one_piece_is_reserved_for_the_longest() -> None:
    both = [KINDS["full"], KINDS["sliding"]]
    assert contiguous_bytes(both, 3, 100) == 3 * 10 * (100 + 24)
    assert used_bytes([KINDS["full"]], [5, 7]) == 120


def test_the_waste_of_pages_is_under_a_block_a_sequence() -> None:
    """Kwon et al. 2023: under 4% in pages of 16 at their lengths, 60 to 80% in one piece."""
    lengths = [161 + 338] * 40  # ShareGPT's mean prompt and output there
    found = paged([KINDS["full"]], lengths, 16)
    assert 0 < found.waste_fraction < 0.04
    assert 1 - used_bytes([KINDS["full"]], lengths) / contiguous_bytes(
        [KINDS["full"]], 40, 2048
    ) == pytest.approx(1 - 499 / 2048)


def test_the_command_answers_the_contracts_keys(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["paging", "llama-3-8b", "--seq-lens", "1000", "--max-len", "2k"]
    assert run([*arguments, "--batch", "2", "--pool", "1GiB", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["contiguous_bytes"] == 2 * 2048 * 131072
    assert found["paged_bytes"] == 2 * 1008 * 131072
    assert found["waste_fraction"] == pytest.approx(1 - 1000 / 1008)
    assert (found["contiguous_pool_sequences"], found["paged_pool_sequences"]) == (4, 8)


@pytest.mark.parametrize(
    "text",
    [
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,374,44\n,12,1\n",
        '{"input_length": 374, "output_length": 44, "hash_ids": []}\n\n'
        '{"input_length": 12, "output_length": 1}\n',
        "Timestamp,Model,Request tokens,Response tokens\n5,ChatGPT,374,44\n6,GPT-4,12,1\n7,x,0,0\n",
    ],
    ids=["azure", "mooncake", "burstgpt"],
)
def test_public_traces_are_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    found = [(r.input_tokens, r.output_tokens) for r in read_trace(path)]
    assert found == [(374, 44), (12, 1)]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p.write_text(""), "no request"),
        (lambda p: p.write_text("a,b\n1,2\n"), "no column 'input_tokens'"),
        (lambda p: p.write_text("input_len,output_len\n5,x\n"), "output_len 'x'"),
        (lambda p: p.write_text("input_len,output_len\n5\n"), "output_len None"),
        (lambda p: p.write_text("input_len,output_len\n-5,1\n"), "input_len '-5'"),
        (lambda p: p.write_text("input_len,output_len\n1e999,1\n"), "input_len '1e999'"),
        (lambda p: p.write_text('{"input_len": 5,\n'), ":1: not a JSON object"),
        (lambda p: p.write_bytes(b"\x80\x81\xff" * 40), "cannot be read"),
        (lambda p: p.mkdir(), "cannot be read"),
    ],
)
def test_a_bad_trace_is_named(make: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    make(path)
    with pytest.raises(UserError, match=r"trace\.csv") as caught:
        read_trace(path)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mamba-130m"], "nothing to page"),
        (["llama-3-8b", "--max-len", "10"], "--max-len"),
        (["llama-3-8b", "--prefix", "1k"], "--prefix"),
        (["llama-3-8b", "--batch", "1m"], "--batch"),
    ],
)
def test_bad_input_is_named(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["paging", *arguments]) == 2
    assert says in capsys.readouterr().err
