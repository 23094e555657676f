"""The corpus that attnbench ships: some rows of a larger one, as they were published."""

import csv
import io
from pathlib import Path

from attnbench.files import write_atomically

# Columns that nothing reads: a figure in another unit, and how it was counted.
_LEFT_OUT = ("value", "unit", "flops_model", "quality", "output_tokens_per_s_per_gpu")


def sample(source: Path, ids: set[str], target: Path) -> None:
    """Writes the rows of `source` that `ids` names to `target`, each with its `id`."""
    with source.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        names = [name for name in reader.fieldnames or () if name not in (*_LEFT_OUT, "id")]
        made = io.StringIO()
        writer = csv.DictWriter(made, ["id", *names], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for number, row in enumerate(reader):
            row["id"] = row.get("id") or str(number)
            if row["id"] in ids:
                writer.writerow(row)
    write_atomically(target, made.getvalue())
