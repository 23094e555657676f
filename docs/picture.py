"""Draws the README's picture from a run folder: `python docs/picture.py RUN > docs/sweep.svg`.

The picture is the table that `attnbench sweep` prints, as rich draws it.
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from attnbench.measure.journal import RESULTS
from attnbench.measure.rows import slopes
from attnbench.report.as_terminal import draw
from attnbench.report.sweep_document import sweep_document
from attnbench.spec.results_csv import read_rows

run = Path(sys.argv[1])
rows = read_rows(run / RESULTS)
document = sweep_document(rows, run, slopes=slopes(rows))
console = Console(record=True, width=118, file=io.StringIO(), highlight=False)
console.print("$ make sweep", style="bold")
for table in document.tables:
    console.print(draw(table))
picture = console.export_svg(title=f"attnbench sweep, {rows[0].device}")
# The reader's own monospaced font will do: a picture should fetch nothing.
sys.stdout.write(re.sub(r"\s*@font-face \{.*?\n    \}", "", picture, flags=re.DOTALL))
