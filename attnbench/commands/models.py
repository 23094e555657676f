"""`attnbench models`: the model profiles; `models show NAME`; `models add PATH`."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.calc import kv_cache, params
from attnbench.catalog import load_model, profiles
from attnbench.catalog.config_json import read_json
from attnbench.catalog.resolve import from_file
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.errors import UserError
from attnbench.files import write_atomically
from attnbench.report.emit import Format
from attnbench.report.models import list_document, show_document, summary
from attnbench.spec.model import ModelSpec

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """List the model profiles; `models show NAME` prints one, `models add PATH` makes one."""
    if context.invoked_subcommand is None:
        rows = [_summary(load_model(name)) for name in profiles.names()]
        write(list_document(rows), fmt, json, output)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A profile, or any other MODEL.")],
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Print one model: sizes, layers, parameters by role, and where its figures come from."""
    spec = load_model(name)
    write(show_document(spec, _summary(spec), params.by_role(spec)), fmt, json, output)


@app.command()
def add(
    path: Annotated[Path, typer.Argument(help="A config.json, or a folder that holds one.")],
    name: Annotated[str, typer.Option(help="The profile's name; else the folder's.")] = "",
) -> None:
    """Keep a config.json as a profile of your own."""
    file = path / "config.json" if path.is_dir() else path
    name = name or (file.resolve().parent.name if file.name == "config.json" else file.stem)
    target = profiles.user_file(name)
    from_file(file, name=name)  # refused here rather than at its first use
    text = profiles.text_of(read_json(file), source=f"config.json at {file.resolve()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target.parent}: {error.strerror}") from None
    write_atomically(target, text)
    typer.echo(f"{name}: {target}")


def _summary(spec: ModelSpec) -> dict[str, object]:
    counted = params.count(spec)
    rules = kv_cache.Rules()
    return summary(
        spec, counted, kv_cache.bytes_per_token(spec, seq_len=1, rules=rules, encoder_len=1)
    )
