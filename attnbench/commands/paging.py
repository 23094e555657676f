"""`attnbench paging MODEL`: a cache in pages against one piece a sequence."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.calc.kv_cache import Rules
from attnbench.calc.paging_answer import answer
from attnbench.catalog import load_model
from attnbench.catalog.trace import read_trace
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.errors import UserError
from attnbench.report.emit import Format
from attnbench.report.paging import document
from attnbench.spec.dtype import parse_dtype
from attnbench.units import parse_bytes, parse_length, parse_lengths

app = typer.Typer(add_completion=False)
_MOST_SEQUENCES = 1_000_000


@app.command()
def paging(
    model: Annotated[str, typer.Argument(help="Profile, config.json, GGUF, safetensors, hub id.")],
    seq_lens: Annotated[
        str, typer.Option(help="Tokens of the sequences held: 300,1200,5k or 1k..8k.")
    ] = "100..6400",
    batch: Annotated[str, typer.Option(help="Sequences of each length.")] = "1",
    trace: Annotated[
        Path | None, typer.Option(help="Lengths from a trace: CSV or JSONL of requests.")
    ] = None,
    page_size: Annotated[int, typer.Option(min=1, max=1 << 20, help="Tokens of a block.")] = 16,
    page_sizes: Annotated[str, typer.Option(help="Block sizes to compare.")] = "1..256",
    max_len: Annotated[
        str | None, typer.Option(help="Tokens reserved in one piece; the model's longest.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="First tokens that all share.")] = "0",
    pool: Annotated[str | None, typer.Option(help="Bytes of a cache to fill: 40GiB.")] = None,
    kv_dtype: Annotated[str, typer.Option(help="Dtype of keys and values.")] = "bf16",
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """What a cache wastes in one piece a sequence and in pages; block sizes, a shared prefix."""
    if trace is not None:
        lengths = [r.input_tokens + r.output_tokens for r in read_trace(trace)]
    else:
        copies = parse_length(batch, what="--batch")
        each = parse_lengths(seq_lens, what="--seq-lens")
        if copies * len(each) > _MOST_SEQUENCES:
            raise UserError(f"--batch: {copies:,} of each length are over {_MOST_SEQUENCES:,}")
        lengths = list(each) * copies
    found = answer(
        load_model(model),
        lengths,
        rules=Rules(dtype=parse_dtype(kv_dtype, what="--kv-dtype")),
        page_size=page_size,
        page_sizes=parse_lengths(page_sizes, what="--page-sizes"),
        max_len=None if max_len is None else parse_length(max_len, what="--max-len"),
        prefix=parse_length(prefix, what="--prefix", minimum=0),
        pool_bytes=None if pool is None else parse_bytes(pool, what="--pool"),
    )
    write(document(found), fmt, json, output)
