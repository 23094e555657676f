"""`attnbench variants`: the attention variants there are."""

import typer

from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.report.document import Column, Document, Table
from attnbench.report.emit import Format
from attnbench.variants import load_variant, variant_names

app = typer.Typer(add_completion=False)


@app.command()
def variants(
    fmt: FormatOption = Format.TABLE, json: JsonOption = False, output: OutputOption = None
) -> None:
    """List the attention variants: what each is, its backends, its settings, its paper."""
    found = [load_variant(name) for name in variant_names()]
    rows = [
        {
            "name": v.name,
            "summary": v.summary,
            "exact": v.exact,
            "backends": [b.name for b in v.backends],
            "modes": sorted(v.modes),
            "causal": sorted(v.causal_forms),
            "defaults": dict(v.defaults),
            "paper": v.paper,
        }
        for v in found
    ]
    columns = (
        Column(key="name", heading="variant"),
        Column(key="summary", heading="is"),
        Column(key="backends", heading="backends", show=", ".join),
        Column(key="defaults", heading="settings", show=_settings),
        Column(key="paper", heading="paper"),
    )
    table = Table(columns=columns, rows=[[row[c.key] for c in columns] for row in rows])
    write(
        Document(schema="attnbench.variants/1", data={"variants": rows}, tables=(table,)),
        fmt,
        json,
        output,
    )


def _settings(defaults: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in defaults.items()) or "-"
