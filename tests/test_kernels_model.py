"""Classes of machine instructions, and the throughput model over them."""

import random

import pytest

from attnbench.aot.classes import class_of, count_classes, shared_bytes
from attnbench.aot.loops import Instruction
from attnbench.aot.model import DERATE, estimate, throughput


def code(*ops: str) -> list[Instruction]:
    return [Instruction(op=op, text=op) for op in ops]


@pytest.mark.parametrize(
    ("op", "name"),
    [
        ("HGMMA.64x128x16.F32.BF16", "mma"), ("QGMMA.64x128x32.F32.E4M3.E4M3", "mma"),
        ("UTCHMMA", "mma"), ("MUFU.EX2", "mufu"), ("FFMA.FTZ", "fp32"), ("FFMA2", "fp32"),
        ("IMAD.MOV.U32", "fp32"), ("FMNMX.FTZ", "alu"), ("F2FP.BF16.F32.PACK_AB", "alu"),
        ("ISETP.GE.AND", "alu"), ("LDSM.16.MT88.4", "shared"), ("SHFL.BFLY", "shared"),
        ("LDGSTS.E.BYPASS.LTC128B.128", "global"), ("UTMALDG.2D", "global"), ("STL", "local"),
        ("LDTM.x32", "tensor_memory"), ("WARPGROUP.DEPBAR.LE", "sync"), ("LDGDEPBAR", "sync"),
        ("SYNCS.PHASECHK.TRANS64.TRYWAIT", "sync"), ("BRA.U", "branch"), ("UIADD3", "uniform"),
        ("R2UR", "uniform"), ("WHAT.IS.THIS", "other"),
        ("v_mfma_f32_32x32x8_bf16", "mma"), ("v_exp_f32_e32", "mufu"), ("v_pk_mul_f32", "fp32"),
        ("v_max_f32_e32", "fp32"), ("v_accvgpr_write_b32", "alu"), ("v_cndmask_b32_e64", "alu"),
        ("ds_read_b128", "shared"), ("buffer_load_dwordx4", "global"),
        ("scratch_store_dword", "local"), ("s_waitcnt", "sync"), ("s_cbranch_scc1", "branch"),
        ("s_add_i32", "uniform"),
    ],
)  # fmt: skip
def test_class(op: str, name: str) -> None:
    assert class_of(op) == name


def test_classes_are_counted() -> None:
    assert count_classes(code("FADD", "MUFU.EX2", "FMUL")) == {"mufu": 1, "fp32": 2}


@pytest.mark.parametrize(
    ("op", "moved"),
    [("LDS", 128), ("LDS.64", 256), ("STS.128", 512), ("LDS.U16", 128), ("LDSM.16.M88.2", 256),
     ("LDSM.16.M88", 128), ("SHFL.BFLY", 128), ("ds_read_b64", 512), ("ds_read2_b64", 1024),
     ("ds_write_b16", 256)],
)  # fmt: skip
def test_bytes_of_shared_memory(op: str, moved: int) -> None:
    assert shared_bytes(op) == moved


def test_one_customer_waits_for_nobody_and_many_for_the_slowest() -> None:
    held = [7.0, 2.0, 1.0]
    assert throughput(held, 1) == pytest.approx(1 / 10)
    assert throughput(held, 0.5) == pytest.approx(1 / 20)
    rates = [throughput(held, n / 4) for n in range(1, 200)]
    assert rates == pytest.approx(sorted(rates))
    assert rates[-1] == pytest.approx(1 / 7, rel=0.01)


def test_two_stations_against_a_simulation() -> None:
    # Exponential service, three customers: what mean-value analysis is exact for.
    held, customers = [3.0, 2.0], 3
    rng = random.Random(0)
    at = [customers, 0]
    clock, rounds = 0.0, 0
    while rounds < 100_000:
        rates = [1 / h if n else 0.0 for h, n in zip(held, at, strict=True)]
        clock += rng.expovariate(sum(rates))
        first = rng.random() < rates[0] / sum(rates)
        at = [at[0] - 1, at[1] + 1] if first else [at[0] + 1, at[1] - 1]
        rounds += not first
    assert throughput(held, customers) == pytest.approx(rounds / clock, rel=0.02)


def test_a_loop_of_matrix_products_alone_runs_at_the_peak() -> None:
    flops = 64 * 128 * 16 * 2 * 2  # eight warps: two warpgroups
    found = estimate(
        code("HGMMA.64x128x16.F32.BF16"), family="sm_90", executed_flops=flops,
        useful_flops=flops, num_warps=8, ctas_per_sm=1, overlap=0.0,
    )  # fmt: skip
    assert found is not None
    assert found.bound == "tensor"
    # 64·128·16 multiply-adds of a warpgroup, 1,024 a clock and partition's quarter of them.
    assert found.cycles["tensor"] == pytest.approx(64 * 128 * 16 / 2048, rel=0.001)
    assert 0.9 < found.flops_per_s / (989.4e12 * DERATE) <= 1.0


def test_work_done_twice_halves_the_estimate_and_overlap_helps() -> None:
    loop = code("HGMMA.64x128x16.F32.BF16", *["MUFU.EX2"] * 8)
    flops = 64 * 128 * 16 * 2 * 2

    def at(useful: int, overlap: float) -> float:
        found = estimate(
            loop, family="sm_90", executed_flops=flops, useful_flops=useful, num_warps=8,
            ctas_per_sm=1, overlap=overlap,
        )  # fmt: skip
        assert found is not None
        return found.flops_per_s

    assert at(flops // 2, 0.0) == pytest.approx(at(flops, 0.0) / 2)
    assert at(flops, 1.0) > 1.1 * at(flops, 0.0)


def test_no_estimate_of_what_fits_no_sm() -> None:
    assert estimate(code("HMMA.16816.F32"), family="sm_80", executed_flops=1, useful_flops=1,
                    num_warps=8, ctas_per_sm=0, overlap=1.0) is None  # fmt: skip
