"""The tables of what several releases of Triton make of the kernels."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from attnbench.aot import releases

ROW: dict[str, Any] = {
    "kernel": "flash_fwd", "entry": "_flash_fwd", "target": "sm_90", "head_dim": 64,
    "features": "plain", "config": {"block_m": 128, "block_n": 64, "num_warps": 8},
    "registers": 190, "spill_bytes": 0, "shared_bytes": 65536, "shared_limit_bytes": 232448,
    "ctas_per_sm": 1, "mma": "HGMMA", "mma_redundancy": 1.0, "load_bits": 128,
    "exp2_overlap": None, "loop_instructions": 498,
}  # fmt: skip
FOUND = {
    "3.7.1": {"triton": "3.7.1", "kernels": [ROW], "failed": []},
    "3.9.0": {
        "triton": "3.9.0",
        "kernels": [ROW | {"registers": 188, "spill_bytes": 24}],
        "failed": [ROW | {"kernel": "linear", "why": "timeout"}],
    },
}


def test_a_row_a_release_and_family() -> None:
    lines = releases.table_of(FOUND).splitlines()[2:]
    assert lines == [
        "| 3.7.1 | `flash_fwd` | 1 | 0 | none | 0 | 1.00 | 498 |",
        "| 3.9.0 | `flash_fwd` | 1 | 0 | _flash_fwd sm_90 D64 plain: 24 B | 0 | 1.00 | 498 |",
        "| 3.9.0 | `linear` | 0 | 1 | none | 0 | 1.00 | 0 |",
    ]


def test_releases_stand_side_by_side_where_they_differ() -> None:
    (line,) = releases.side_by_side(FOUND).splitlines()[2:]
    assert line == (
        "| flash_fwd | `_flash_fwd` | sm_90 | 64 | plain | 128×64 w8 | 190 / 188 | 0 / 24 | 64 |"
        " 1 | HGMMA | 1.00 | 128 | - | 498 |"
    )


def test_families_that_share_an_entry_stand_apart() -> None:
    both = [
        ROW | {"kernel": name, "entry": "_combine"} for name in ("block_sparse", "paged_decode")
    ]
    found = {"3.9.0": {"triton": "3.9.0", "kernels": both, "failed": []}}
    lines = releases.side_by_side(found).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| block_sparse", "| paged_decode"]


def test_each_release_is_installed_once_and_found_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command[2])
        if command[2] == "pip":
            place = Path(command[command.index("--target") + 1])
            (place / "triton").mkdir(parents=True)
        else:
            kept = Path(command[-1])
            assert options["env"]["PYTHONPATH"].split(os.pathsep)[0] == str(kept.parent / kept.stem)
            kept.write_text(json.dumps(FOUND[kept.stem]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert releases.main(["--folder", str(tmp_path), "3.7.1"]) == 0
    assert releases.main(["--folder", str(tmp_path), "3.7.1", "3.9.0"]) == 1
    assert ran == ["pip", "attnbench", "attnbench", "pip", "attnbench"]
    assert "| 3.9.0 | `linear` | 0 | 1 |" in capsys.readouterr().out
