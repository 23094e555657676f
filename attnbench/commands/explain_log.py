"""`attnbench explain-log FILE`: rebuilds the figures of an engine's start-up log."""

from typing import Annotated

import typer

from attnbench.catalog.engine_log import read_log
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.engines.explain import explain
from attnbench.errors import NothingToDoError
from attnbench.report.emit import Format
from attnbench.report.explained import document

app = typer.Typer(add_completion=False)


@app.command()
def explain_log(
    file: Annotated[str, typer.Argument(help="A log of vLLM, SGLang or llama.cpp; - for stdin.")],
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Rebuild each figure of a start-up log, name the term that differs, warn of misreadings."""
    log = read_log(file)
    if not log.servers:
        raise NothingToDoError(
            f"{file}: {log.bytes_read:,} bytes and no start-up line of vLLM, SGLang or llama.cpp",
            hint="It wants the lines that the engine prints while it starts.",
        )
    write(document([explain(server) for server in log.servers], log.notes, file), fmt, json, output)
