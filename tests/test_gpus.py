"""`attnbench gpus` and `gpus show`."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from attnbench.catalog.hardware import gpu_names


def test_the_list_has_every_gpu(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("gpus", "--json")
    assert ran.code == 0
    assert next(iter(ran.json)) == "schema"
    assert ran.json["schema"] == "attnbench.gpus/1"
    assert [gpu["name"] for gpu in ran.json["gpus"]] == list(gpu_names())
    assert all(gpu["source"] for gpu in ran.json["gpus"])


@pytest.mark.parametrize("fmt", ["table", "markdown"])
def test_people_see_units(attnbench: Callable[..., Any], fmt: str) -> None:
    ran = attnbench("gpus", "--format", fmt)
    assert ran.code == 0
    line = next(line for line in ran.out.splitlines() if "h100-sxm" in line)
    assert "85.02 GB" in line
    assert "3.35 TB/s" in line
    assert "989.4 TFLOP/s" in line


def test_csv_has_raw_values(attnbench: Callable[..., Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(attnbench("gpus", "--format", "csv").out)))
    h100 = next(row for row in rows if row["name"] == "h100-sxm")
    assert float(h100["bf16"]) == 989.4e12
    assert next(row for row in rows if row["name"] == "t4")["bf16"] == ""


def test_show_prints_figures_and_sources(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("gpus", "show", "h100-sxm")
    assert ran.code == 0
    assert "published.peak_flops_per_s.bf16" in ran.out
    assert "glennklockwood.com" in ran.out
    assert "TRAP" in ran.out
    assert "Not read again: driver_memory_bytes" in ran.out


def test_show_as_json(attnbench: Callable[..., Any]) -> None:
    found = attnbench("gpus", "show", "h100-sxm", "--json").json
    assert found["schema"] == "attnbench.gpus.show/1"
    assert found["published"]["memory_bytes"] == 80_000_000_000
    assert found["published"]["peak_flops_per_s"]["bf16"] == 989.4e12
    assert found["published"]["peak_flops_per_s"]["fp4"] is None
    assert found["memory_bytes"] == found["measured"]["usable_memory_bytes"]
    assert found["source"]


def test_show_of_an_unknown_gpu(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("gpus", "show", "h100-smx")
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.splitlines() == [
        "attnbench: unknown GPU 'h100-smx'",
        "  Did you mean h100-sxm or h800-sxm or h200-sxm?",
    ]
