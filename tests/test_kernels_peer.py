"""A user's own Triton kernel compiled ahead of time; what fails costs its row alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

from attnbench.aot.peer import Call, parse_peer, read_call
from attnbench.aot.survey import parse_config
from attnbench.errors import UserError

PEERS = Path(__file__).parent / "peers"
COPY = """
arguments:
  X: {tensor: fp32, shape: [128], strides: [1]}
  Y: {tensor: fp32, shape: [128]}
  N: 128
options: {num_warps: 2}
"""


def inspect(attnbench: Callable[..., Any], peer: str, *options: object) -> Any:
    return attnbench("kernels", "inspect", "--peer", PEERS / peer, "--target", "sm_80", "--json",
                     *options)  # fmt: skip


def test_each_configuration_of_an_autotuned_kernel_has_its_row(
    attnbench: Callable[..., Any], tmp_path: Path
) -> None:
    ran = inspect(attnbench, "autotuned.py:product", "--save", tmp_path)
    assert ran.code == 0, ran.err
    rows = ran.json["kernels"]
    assert ran.json["failed"] == []
    # Its own pruning leaves four warps; the stub is an sm_80, for which it asks two stages.
    assert [row["config"] for row in rows] == [
        {"BLOCK_M": m, "num_warps": 4, "num_stages": 2} for m in (64, 128)
    ]
    for row in rows:
        assert (row["kernel"], row["entry"], row["head_dim"]) == ("autotuned", "product", 64)
        assert row["mma"] == "HMMA"
        assert row["mma_redundancy"] == 1.0
        assert row["load_bits"] == 128  # lengths and strides are known to be multiples of 16
        assert sum(row["loop_classes"].values()) == row["loop_instructions"]
        assert row["loop_classes"]["mma"] * 4 * 2 * 16 * 8 * 16 == (
            2 * row["config"]["BLOCK_M"] * 64 * 32
        )
        assert row["model_flops_per_s"] < 312e12
    saved = [Path(file) for row in rows for file in row["files"].values()]
    assert len(set(saved)) == len(saved) >= 8
    assert all(file.stat().st_size for file in saved)


def test_a_kernel_by_descriptors_whose_configuration_sets_their_blocks(
    attnbench: Callable[..., Any],
) -> None:
    ran = inspect(attnbench, "descriptors.py:product", "--target", "sm_90")
    assert ran.code == 0, ran.err
    (row,) = ran.json["kernels"]
    assert row["mma"] == "HGMMA"
    assert row["mma_redundancy"] == 1.0
    assert row["bulk_loads"]
    assert row["load_bits"] == 128


def test_a_kernel_called_as_yaml_says(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    call = tmp_path / "call.yaml"
    call.write_text(COPY)
    ran = inspect(attnbench, "plain.py:copy", "--peer-call", call)
    (row,) = ran.json["kernels"]
    assert row["config"] == {"N": 128, "num_warps": 2, "num_stages": 3}
    assert row["spill_bytes"] == 0
    assert row["mma"] is None
    assert row["model_flops_per_s"] is None


@pytest.mark.parametrize(
    ("peer", "says"),
    [
        ("plain.py:wrong", "nowhere"),
        ("plain.py:hangs", "timeout"),
        ("plain.py:aborts", "crash"),
        ("plain.py:copy", "how is copy called?"),
        ("plain.py:missing", "has no missing"),
        ("asks_a_gpu.py:kernel", "CUDA"),
    ],
)
def test_what_cannot_be_compiled_is_a_row_with_its_reason(
    attnbench: Callable[..., Any], peer: str, says: str
) -> None:
    ran = inspect(attnbench, peer, "--time-limit", "20" if "hangs" not in peer else "2")
    assert ran.code == 3  # nothing could be compiled
    (row,) = ran.json["failed"]
    assert says in row["why"]
    assert ran.json["kernels"] == []


def test_one_configuration_that_the_kernel_has_not(attnbench: Callable[..., Any]) -> None:
    ran = inspect(attnbench, "autotuned.py:product", "--config", "BLOCK_M=32")
    assert ran.code == 2
    assert "no configuration of product is like that" in ran.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--peer", "nowhere.py:f"], "no such file"),
        (["--peer", "nowhere"], "is not FILE.py:FUNCTION"),
        (["--peer", f"{PEERS / 'plain.py'}:copy", "--kernel", "flash_fwd"], "do not go together"),
        (["--peer-call", "call.yaml"], "there is none"),
        (["--target", "sm_33"], "This Triton knows sm_70, sm_72"),
        (["--target", "gfx9999"], "gfx942"),
        (["--config", "128by64"], "As in 128x64w8s3"),
    ],
)
def test_bad_usage(attnbench: Callable[..., Any], options: list[str], says: str) -> None:
    ran = attnbench("kernels", "inspect", *options)
    assert ran.code == 2
    assert says in ran.err
    assert ran.out == ""


def test_configurations_are_read() -> None:
    assert parse_config("64x32w4s1,carry=1") == {
        "block_m": 64, "block_n": 32, "num_warps": 4, "num_stages": 1, "carry": 1,
    }  # fmt: skip
    assert parse_config("block_c=64, num_warps=4") == {"block_c": 64, "num_warps": 4}


@pytest.mark.parametrize("text", ["arguments: [", "{}", "arguments: {}\nproduct: []", "- 1"])
def test_a_call_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "call.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"call\.yaml"):
        read_call(path)


def test_a_call_and_a_name_are_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "call.yaml"
    path.write_text(COPY)
    assert Call(**read_call(path)).arguments["N"] == 128
    assert parse_peer(f"{PEERS}/plain.py:copy") == (PEERS / "plain.py", "copy")
