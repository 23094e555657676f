"""Ranking configurations by static facts."""

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

from attnbench.aot import search
from attnbench.aot.compile import CompileJob
from attnbench.aot.facts import KernelFacts
from attnbench.errors import MachineError, UserError

JOB = CompileJob(kernel="flash_fwd", target="sm_90", head_dim=64)


def facts(**changes: Any) -> KernelFacts:
    sound: dict[str, Any] = {
        "kernel": "flash_fwd", "entry": "_flash_fwd", "target": "sm_90", "head_dim": 64,
        "dtype": "bfloat16", "features": "plain", "config": {}, "registers": 128,
        "spill_bytes": 0, "shared_bytes": 1 << 16, "shared_limit_bytes": 227 << 10,
        "ctas_per_sm": 2, "ctas_limit": "registers", "mma": "HGMMA", "mma_redundancy": 1.0,
        "load_bits": 128, "exp2_overlap": 0.0, "loop_instructions": 500,
        "loop_instructions_per_mma_flop": 1e-4, "barriers": 2,
    }  # fmt: skip
    return KernelFacts(**sound | changes)


def ranked(*made: KernelFacts | MachineError) -> list[search.Ranked]:
    configs = [{"block_m": n} for n in range(len(made))]

    def read(job: CompileJob, compiled: Any) -> KernelFacts:
        assert job.config is not None
        found = made[job.config["block_m"]]
        if isinstance(found, MachineError):
            raise found
        return found

    none: Any = lambda job: None  # noqa: E731
    return search.rank(JOB, configs, ["plain"], compiled=none, read=read)


def order(*made: KernelFacts | MachineError) -> list[int]:
    return [r.config["block_m"] for r in ranked(*made)]


def test_what_is_fit_comes_first_then_overlap_then_the_shorter_loop_then_occupancy() -> None:
    quick = 1e-5
    assert order(
        facts(spill_bytes=8, exp2_overlap=1.0, loop_instructions_per_mma_flop=quick),
        facts(ctas_per_sm=1),
        facts(),
        facts(loop_instructions_per_mma_flop=9e-5),
        facts(exp2_overlap=0.95, loop_instructions_per_mma_flop=3e-4),
        MachineError("the compiler crashed"),
    ) == [4, 3, 2, 1, 0, 5]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spill_bytes": 64}, "spills 64 B"),
        ({"shared_bytes": 300_000}, "over the limit"),
        ({"ctas_per_sm": 0}, "no CTA fits an SM: registers"),
        ({"mma": None, "mma_redundancy": None}, "no matrix instructions"),
        ({"mma_redundancy": 1.5}, "redundancy 1.50"),
    ],
)
def test_faults(changes: dict[str, Any], says: str) -> None:
    (fault,) = search.faults_of(facts(**changes))
    assert says in fault
    assert search.faults_of(facts()) == []


def test_grid_is_the_product_of_its_axes() -> None:
    assert search.grid_of(["block_m=64,128", "num_warps=4"]) == [
        {"block_m": 64, "num_warps": 4},
        {"block_m": 128, "num_warps": 4},
    ]
    for text in ("block_m", "block_m=x"):
        with pytest.raises(UserError, match="is not like block_m=64,128"):
            search.grid_of([text])


def test_a_real_point_is_ranked(capsys: pytest.CaptureFixture[str]) -> None:
    grid = ["block_m=64", "block_n=32", "num_warps=4", "num_stages=2"]
    options = ["--kernel", "flash_fwd", "--target", "sm_80", "--head-dim", "64"]
    axes = [word for axis in grid for word in ("--grid", axis)]
    assert search.main([*options, "--features", "plain", *axes]) == 0
    _, _, row = capsys.readouterr().out.splitlines()
    assert row.startswith("| block_m=64 block_n=32 num_warps=4 num_stages=2 | 0.00 |")
    assert row.endswith("|  |")
