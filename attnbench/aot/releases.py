"""Compiles every shipped kernel with several releases of Triton: `make kernels-tritons`.

    python -m attnbench.aot.releases --folder build/tritons 3.6.0 3.7.1 3.8.0 3.9.0

installs each release into a folder of its own (torch and the rest stay this
interpreter's; nothing here imports torch's use of Triton), runs `attnbench kernels inspect`
with it, keeps its JSON beside, and prints two tables: a row a release and family, and a row
a kernel with the releases side by side. Exit 1 where a kernel did not compile.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnbench.aot.show import shown_config

TARGETS, HEAD_DIMS, FEATURES = "sm_80,sm_90,sm_100,gfx942", "64,128", "plain,causal"


def table_of(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A markdown table of `inspect`'s data by release: a row a release and family."""
    lines = [
        "| Triton | family | compiled | failed | spill | over the limit |"
        " redundancy, worst | loop instructions, sum |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for release, data in found.items():
        for family in sorted({row["kernel"] for row in (*data["kernels"], *data["failed"])}):
            rows = [row for row in data["kernels"] if row["kernel"] == family]
            failed = sum(row["kernel"] == family for row in data["failed"])
            spills = [_spill(row) for row in rows if row["spill_bytes"]]
            over = sum(row["shared_bytes"] > row["shared_limit_bytes"] for row in rows)
            redundancy = max((row["mma_redundancy"] or 1.0 for row in rows), default=1.0)
            instructions = sum(row["loop_instructions"] or 0 for row in rows)
            lines.append(
                f"| {release} | `{family}` | {len(rows)} | {failed} |"
                f" {'; '.join(spills) or 'none'} | {over} | {redundancy:.2f} | {instructions:,} |"
            )
    return "\n".join(lines)


def side_by_side(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A markdown table with a row a kernel: its facts by each release, "190 / 188"."""
    releases = list(found)
    rows: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for release, data in found.items():
        for row in data["kernels"]:
            key = tuple(row[name] for name in _KEY)
            rows.setdefault(key, {})[release] = row
    lines = [
        "| family | kernel | target | D | features | tile, warps, stages | registers | spill, B |"
        " shared, KiB | CTAs/SM | MMA | redundancy | load bits | exp2 overlap | loop instr. |",
        "| --- | --- | --- | ---: | --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |"
        " ---: | ---: |",
    ]
    for (kernel, entry, *about), by_release in rows.items():
        cells = [_cell([by_release.get(r) for r in releases], show) for show in _SHOWN]
        lines.append(f"| {' | '.join([kernel, f'`{entry}`', *map(str, about), *cells])} |")
    return "\n".join(lines)


# Two families have an entry `_combine`.
_KEY = ("kernel", "entry", "target", "head_dim", "features")
_SHOWN: tuple[Callable[[Mapping[str, Any]], str], ...] = (
    lambda row: shown_config(row["config"]),
    lambda row: str(row["registers"]),
    lambda row: str(row["spill_bytes"]),
    lambda row: f"{row['shared_bytes'] / 1024:.0f}",
    lambda row: str(row["ctas_per_sm"]),
    lambda row: row["mma"] or "-",
    lambda row: _number(row["mma_redundancy"]),
    lambda row: str(row["load_bits"] or "-"),
    lambda row: _number(row["exp2_overlap"]),
    lambda row: str(row["loop_instructions"] or "-"),
)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _cell(
    rows: Sequence[Mapping[str, Any] | None], show: Callable[[Mapping[str, Any]], str]
) -> str:
    """What each release says; once where they agree, "failed" where one has no such row."""
    said = ["failed" if row is None else show(row) for row in rows]
    return said[0] if len(set(said)) == 1 else " / ".join(said)


def _spill(row: Mapping[str, Any]) -> str:
    about = f"{row['entry']} {row['target']} D{row['head_dim']} {row['features']}"
    return f"{about}: {row['spill_bytes']} B"


def inspect_with(release: str, folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """What `attnbench kernels inspect` says with Triton `release`, installed if need be.

    Raises:
        CalledProcessError: it cannot be installed, or inspect refused its options.
    """
    place, kept = (folder / release).absolute(), (folder / f"{release}.json").absolute()
    if not (place / "triton").is_dir():
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place)]
        subprocess.run([sys.executable, *install, f"triton=={release}"], check=True)
    path = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
    asked = ["-m", "attnbench", "kernels", "inspect", *options, "--json", "--output", str(kept)]
    done = subprocess.run([sys.executable, *asked], env=os.environ | {"PYTHONPATH": path})
    if done.returncode not in (0, 3):
        raise subprocess.CalledProcessError(done.returncode, asked)
    data: dict[str, Any] = json.loads(kept.read_text())
    if data["triton"] != release:
        raise RuntimeError(f"asked for Triton {release}, {data['triton']} ran")
    return data


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile with each release; print the table; 1 where a kernel failed."""
    parser = argparse.ArgumentParser(prog="python -m attnbench.aot.releases")
    parser.add_argument("releases", nargs="+", help="3.9.0")
    parser.add_argument("--folder", type=Path, required=True, help="where they are installed")
    parser.add_argument("--target", default=TARGETS)
    parser.add_argument("--head-dims", default=HEAD_DIMS)
    parser.add_argument("--features", default=FEATURES)
    asked = parser.parse_args(arguments)
    asked.folder.mkdir(parents=True, exist_ok=True)
    options = ["--target", asked.target, "--head-dims", asked.head_dims,
               "--features", asked.features]  # fmt: skip
    found = {release: inspect_with(release, asked.folder, options) for release in asked.releases}
    print(table_of(found), side_by_side(found), sep="\n\n")
    return 1 if any(data["failed"] for data in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
