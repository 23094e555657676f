"""What the compiler makes of the shipped configurations, and the readers of machine code."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
triton = pytest.importorskip("triton")

from attnbench.kernels.block_sparse_aot import FEATURES as SPARSE  # noqa: E402
from attnbench.kernels.flash_bwd_aot import FEATURES as BACKWARD  # noqa: E402
from attnbench.kernels.flash_fwd_aot import FEATURES  # noqa: E402

from attnbench.aot import amdgcn, sass, survey  # noqa: E402
from attnbench.aot.compile import CompileJob, compile_ahead, entry_names  # noqa: E402
from attnbench.aot.facts import KernelFacts, facts_of  # noqa: E402
from attnbench.aot.loads import load_bits  # noqa: E402
from attnbench.aot.loops import Instruction, natural_loops  # noqa: E402
from attnbench.errors import MachineError  # noqa: E402

MMA = {"sm_80": "HMMA", "sm_90": "HGMMA", "sm_100": "UTCHMMA", "gfx942": "v_mfma"}


FAMILIES = {"flash_fwd": FEATURES, "flash_bwd": BACKWARD, "block_sparse": SPARSE}


def facts(
    target: str, head_dim: int, features: str, dtype: str = "bfloat16",
    entry: str = "_flash_fwd",
) -> KernelFacts:  # fmt: skip
    family = next(name for name in FAMILIES if entry.startswith(f"_{name}"))
    job = CompileJob(
        kernel=family, entry=entry, target=target, head_dim=head_dim, features=features,
        dtype=dtype,
    )  # fmt: skip
    return facts_of(job, compile_ahead(job))


def assert_fit_to_ship(found: KernelFacts) -> None:
    assert found.spill_bytes == 0
    assert 0 < found.shared_bytes <= found.shared_limit_bytes
    assert found.ctas_per_sm >= 1
    assert found.load_bits == 128
    assert found.mma is not None
    assert found.mma_redundancy in (None, 1.0)


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_shipped_causal_configuration(target: str, head_dim: int) -> None:
    found = facts(target, head_dim, "causal")
    assert_fit_to_ship(found)
    assert found.mma == MMA[target]
    assert found.mma_redundancy == 1.0


TARGETS = ["sm_80", "sm_90", "sm_100", "gfx942"]
SHIPPED = [
    pytest.param(target, entry, features, id=f"{target}-{entry[1:]}-{features}")
    for target in TARGETS
    for family, named in FAMILIES.items()
    for entry in entry_names(family, target)
    for features in named
    if entry != "_combine"  # it has no matrix products: see below
]


@pytest.mark.slow
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize(("target", "entry", "features"), SHIPPED)
def test_every_shipped_configuration(target: str, entry: str, features: str, head_dim: int) -> None:
    found = facts(target, head_dim, features, entry=entry)
    assert_fit_to_ship(found)
    if features != "decode":  # one query row: too few for the wide matrix instructions
        assert found.mma is not None
        assert found.mma.startswith(MMA[target])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "entry"),
    [("block_sparse", "_combine"), ("paged_decode", "_combine"),
     ("linear", "_prefix"), ("linear", "_prefix_tops")],
)  # fmt: skip
def test_kernels_without_products_are_seen_and_do_not_spill(family: str, entry: str) -> None:
    assert entry in entry_names(family, "sm_80")
    job = CompileJob(kernel=family, entry=entry, target="sm_80", head_dim=128, features="all")
    found = facts_of(job, compile_ahead(job))
    assert found.registers > 0
    assert found.spill_bytes == 0
    assert (found.mma, found.mma_redundancy, found.loop_instructions) == (None, None, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head_dim", "features"), [(64, "plain"), (64, "causal"), (128, "plain"), (128, "causal")]
)
def test_exponentials_run_under_the_products_of_the_next_block(
    head_dim: int, features: str
) -> None:
    found = facts("sm_90", head_dim, features)
    assert found.config["carry"]
    assert found.exp2_overlap is not None
    assert found.exp2_overlap >= 0.9


def test_tma_loop_is_shorter_than_the_tutorials() -> None:
    found = facts("sm_90", 128, "plain", entry="_flash_fwd_tma")
    assert_fit_to_ship(found)
    assert (found.config["block_m"], found.config["block_n"]) == (128, 128)
    assert found.loop_instructions is not None
    assert found.loop_instructions <= 510  # Triton's tutorial: 523


@pytest.mark.slow
@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_single_precision_fits(target: str, head_dim: int) -> None:
    found = facts(target, head_dim, "causal", "float32")
    assert found.spill_bytes == 0
    assert found.shared_bytes <= found.shared_limit_bytes


def test_registers_and_stack_agree_with_ptxas(tmp_path: Path) -> None:
    made = compile_ahead(CompileJob(kernel="flash_fwd", target="sm_80", head_dim=64,
                                    features="causal"))  # fmt: skip
    ptx = tmp_path / "kernel.ptx"
    ptx.write_text(made.texts["ptx"])
    ptxas = triton.knobs.nvidia.ptxas.path
    command = [ptxas, "-v", "--gpu-name=sm_80", str(ptx), "-o", str(tmp_path / "kernel.cubin")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    spilled = re.search(r"(\d+) bytes spill stores", said)
    assert registers is not None
    assert spilled is not None
    listing = sass.read_cubin(made.binary)
    assert listing.registers == int(registers[1])
    assert listing.stack_bytes == int(spilled[1]) == 0


def code(*steps: tuple[str, str, bool]) -> list[Instruction]:
    return [
        Instruction(op=op, text=op, targets=(target,) if target else (), falls=falls)
        for op, target, falls in steps
    ]


def test_nested_loops_are_found_and_a_forward_branch_is_none() -> None:
    steps = code(
        ("start", "", True), ("outer", "", True), ("inner", "inner", True),
        ("skip", "end", True), ("back", "outer", False), ("end", "", False),
    )  # fmt: skip
    found = natural_loops(steps, {"outer": 1, "inner": 2, "end": 5})
    assert sorted([c.op for c in loop] for loop in found) == [
        ["inner"],
        ["outer", "inner", "skip", "back"],
    ]


def test_code_after_the_end_that_jumps_back_is_no_loop() -> None:
    # main waits out of line: WAIT lies after EXIT and jumps back into straight code.
    steps = code(
        ("try", "wait", True), ("work", "", True), ("exit", "", False),
        ("wait", "work", False),
    )  # fmt: skip
    assert natural_loops(steps, {"wait": 3, "work": 1}) == []


def test_two_latches_of_one_head_are_one_loop() -> None:
    steps = code(("head", "", True), ("a", "head", True), ("b", "head", True), ("end", "", False))
    (loop,) = natural_loops(steps, {"head": 0})
    assert [c.op for c in loop] == ["head", "a", "b"]


SASS = """
.text._kernel:
        /*0000*/                   IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDGSTS.E.BYPASS.LTC128B.128 [R5], desc[UR4][R2.64] ;
        /*0020*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0030*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], RZ, !UPT ;
        /*0040*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0050*/              @!P2 BRA `(.L_x_1) ;
        /*0060*/                   BRA.U !UP0, `(.L_x_2) ;
        /*0070*/                   NOP ;
.L_x_2:
        /*0080*/                   EXIT ;
.L_x_4:
        /*0090*/                   BRA `(.L_x_4);
"""


def test_sass_is_parsed() -> None:
    instructions, labels = sass.parse(SASS)
    assert [c.op.partition(".")[0] for c in instructions] == [
        "IMAD", "LDGSTS", "HMMA", "HGMMA", "BAR", "BRA", "BRA", "EXIT", "BRA",
    ]  # fmt: skip
    assert [c.falls for c in instructions[5:]] == [True, True, False, False]
    (loop,) = natural_loops(instructions, labels)
    assert len(loop) == 5
    assert sass.load_widths(loop) == [128]
    assert sass.bulk_copies(loop) == 0
    # One warp of 16x8x16, four to a group of 64x128x16: 2 FLOPs a multiply-add.
    assert sass.mma_flops(loop, 8) == 8 * 2 * 16 * 8 * 16 + 2 * 2 * 64 * 128 * 16


@pytest.mark.parametrize(
    ("widths", "bulk_copies", "tiles", "bits"),
    [
        ([128] * 4, 0, (4096, 4096), 128),
        # A row's LSE, a list's entry: the tiles are there without them.
        ([32, 128, 128, 32, 128, 128, 32], 0, (4096, 4096), 128),
        # One of the two tiles by halves, and by words.
        ([128] * 2 + [64] * 4, 0, (4096, 4096), 64),
        ([128] * 2 + [32] * 8, 0, (4096, 4096), 32),
        # Loads that do not add up to the tiles: the narrowest.
        ([128, 32], 0, (4096, 4096), 32),
        # TMA brings a tile a copy, whatever else the loop loads; here only one of them.
        ([32], 2, (4096, 4096), 128),
        ([16] * 16, 1, (4096, 4096), 16),
        # A user's kernel, of whose tiles nothing is known.
        ([128, 32], 0, (), 32),
        ([], 2, (), 128),
        ([], 0, (4096,), None),
    ],
)
def test_width_of_the_loads_that_tiles_need(
    widths: list[int], bulk_copies: int, tiles: tuple[int, ...], bits: int | None
) -> None:
    assert load_bits(widths, bulk_copies=bulk_copies, tiles=tiles, threads=128) == bits


def test_widths_of_loads_by_opcode() -> None:
    nvidia = loop_of("LDG.E.U16 R0", "LDG.E.64.CONSTANT R0", "LDGSTS.E R0", "LDGDEPBAR",
                     "LDGSTS.E.BYPASS.LTC128B.128 R0", "UTMALDG.4D R0", "LDS.128 R0")  # fmt: skip
    assert sass.load_widths(nvidia) == [16, 64, 32, 128]
    assert sass.bulk_copies(nvidia) == 1
    amd = loop_of("global_load_ushort v0", "buffer_load_dwordx2 v0", "ds_read_b128 v0")
    assert amdgcn.load_widths(amd) == [16, 64]


def loop_of(*steps: str) -> list[Instruction]:
    return [Instruction(op=text.partition(" ")[0], text=text) for text in steps]


OPEN, WAIT = "HGMMA.64x128x16.F32.BF16 R24, R8, R24, gsb0", "WARPGROUP.DEPBAR.LE gsb0, 0x0"
EXP2 = "MUFU.EX2 R4, R4"


@pytest.mark.parametrize(
    ("loop", "overlap"),
    [
        ([OPEN, WAIT, EXP2, EXP2], 0.0),
        ([OPEN, EXP2, EXP2, EXP2, WAIT, EXP2], 0.75),
        # An iteration's last product is in flight until the next one waits for it.
        ([EXP2, WAIT, EXP2, OPEN], 0.5),
        # Two in flight, and the older alone is waited for.
        ([OPEN, OPEN, "WARPGROUP.DEPBAR.LE gsb0, 0x1", EXP2, WAIT, EXP2], 0.5),
        # Not the last of its group: nothing is in flight yet.
        ([OPEN.replace(", gsb0", ""), EXP2, OPEN, WAIT], 0.0),
        ([OPEN, WAIT], None),
        (["HMMA.16816.F32.BF16 R4, R8, R12, R4", EXP2], None),
    ],
)
def test_exponentials_under_a_product_in_flight(loop: list[str], overlap: float | None) -> None:
    assert sass.exp2_overlap(loop_of(*loop)) == overlap


AMDGCN = """
_kernel:
	s_load_dwordx2 s[0:1], s[2:3], 0x0
.LBB0_1:                                ; =>This Inner Loop Header: Depth=1
	buffer_load_dwordx4 v[0:3], v4, s[4:7], 0 offen
	buffer_load_dword v5, v4, s[4:7], 0 offen
	v_mfma_f32_32x32x8_bf16 a[0:15], v[0:1], v[2:3], a[0:15]
	s_barrier
	s_cbranch_scc1 .LBB0_1
	s_endpgm
    .private_segment_fixed_size: 16
    .vgpr_count:     144
"""


def test_amdgcn_is_parsed() -> None:
    listing = amdgcn.read_assembly(AMDGCN)
    assert (listing.registers, listing.scratch_bytes) == (144, 16)
    (loop,) = listing.loops
    assert len(loop) == 5
    assert amdgcn.load_widths(loop) == [128, 32]
    assert amdgcn.mma_flops(loop, 4) == 4 * 2 * 32 * 32 * 8


def test_assembly_without_metadata_is_refused() -> None:
    with pytest.raises(MachineError, match="vgpr_count"):
        amdgcn.read_assembly("_kernel:\n\ts_endpgm\n")


def test_inspect_prints_json_and_saves(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    ran = attnbench("kernels", "inspect", "--target", "sm_80", "--head-dims", "64",
                    "--kernel", "flash_fwd", "--features", "causal",
                    "--save", tmp_path / "kept", "--json")  # fmt: skip
    assert ran.code == 0
    data = json.loads(ran.out)
    assert data["schema"] == "attnbench.kernels-inspect/1"
    assert data["failed"] == []
    (row,) = data["kernels"]
    assert (row["kernel"], row["entry"], row["target"]) == ("flash_fwd", "_flash_fwd", "sm_80")
    assert row["spill_bytes"] == 0
    assert {"cubin", "ptx", "sass", "ttgir"} <= row["files"].keys()
    for file in row["files"].values():
        assert Path(file).is_absolute()
        assert Path(file).stat().st_size


def test_a_family_takes_the_features_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"one": ("plain", "causal"), "two": ("plain",)}
    monkeypatch.setattr(survey, "kernel_families", lambda: tuple(own))
    monkeypatch.setattr(survey, "feature_names", lambda kernel: own[kernel])
    monkeypatch.setattr(survey, "entry_names", lambda kernel, target: ("_a", "_b")[: len(kernel)])
    jobs = survey.jobs_for(kernels=None, targets=["sm_90"], head_dims=[64],
                           features=["plain", "causal"], dtype="bf16")  # fmt: skip
    assert [(j.kernel, j.entry, j.features) for j in jobs] == [
        ("one", "_a", "plain"), ("one", "_a", "causal"),
        ("one", "_b", "plain"), ("one", "_b", "causal"),
        ("two", "_a", "plain"), ("two", "_b", "plain"),
    ]  # fmt: skip
    alone = survey.jobs_for(kernels=["two"], targets=["sm_90"], head_dims=[64],
                            features=["plain", "causal"], dtype="bf16")  # fmt: skip
    assert {job.features for job in alone} == {"plain"}, "another family's is no unknown one"


def test_a_kernel_that_fails_costs_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: CompileJob, *, time_limit_s: float) -> Any:
        raise MachineError(f"{job.target}: the compiler crashed")

    monkeypatch.setattr(survey, "compile_ahead", fail)
    jobs = survey.jobs_for(kernels=["flash_fwd"], targets=["sm_80", "sm_86"], head_dims=[64],
                           features=["plain"], dtype="bf16")  # fmt: skip
    found = list(survey.survey(jobs))
    assert [type(f).__name__ for f in found] == ["Failed", "Failed"]


def test_a_compiler_that_hangs_is_stopped() -> None:
    job = CompileJob(kernel="flash_fwd", target="sm_90", head_dim=64)
    with pytest.raises(MachineError, match="flash_fwd for sm_90: timeout"):
        compile_ahead(job, time_limit_s=0.001)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "sm_75"], "no configuration is shipped for target 'sm_75'"),
        (["--target", "h100"], "unknown target 'h100'"),
        (["--kernel", "flash_fwt"], "Did you mean flash_fwd"),
        (["--features", "casual"], "Did you mean causal?"),
        (["--dtype", "fp8"], "unknown dtype of a kernel 'fp8'"),
        (["--head-dims", "x"], "--head-dims: 'x' is not a size"),
        (["--head-dims", "512"], "head_dim: 512 is not in 1..256"),
    ],
)
def test_bad_usage(attnbench: Callable[..., Any], arguments: list[str], says: str) -> None:
    ran = attnbench("kernels", "inspect", *arguments)
    assert ran.code == 2
    assert says in ran.err
    assert ran.out == ""
