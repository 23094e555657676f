"""Two revisions timed in turn: the statistics on simulated pairs, the rest on a real repository."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from _gate_runs import make_rows, write_run

from attnbench.cli import run
from attnbench.errors import NotComparableError, UserError
from attnbench.gate.check import Outcome
from attnbench.gate.paired import check_pairs, confirm
from attnbench.gate.runs import Run, build_run
from attnbench.gate.selfcheck import noise_floor
from attnbench.gate.verdict import Limits, Verdict, Word
from attnbench.measure.pairs import Job, run_pairs
from attnbench.measure.preset import Grid, load_preset
from attnbench.measure.revision import Tree, checked_out, repository_root
from attnbench.spec.result import ResultRow
from attnbench.spec.results_csv import read_rows

TIME = Limits(metrics=("time_ms",))


def simulated(
    rows: list[ResultRow],
    seed: int,
    *,
    pairs: int = 10,
    noise: float = 0.02,
    bursts: float = 0.0,
    slower: dict[int, float] | None = None,
) -> list[tuple[Run, Run]]:
    """Pairs of runs: each process's own noise, a drift that a pair shares, bursts of load."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(pairs):
        drift = np.exp(0.05 * rng.standard_normal())
        sides = []
        for changed in ({}, slower or {}):
            factors = drift * np.exp(noise * rng.standard_normal(len(rows)))
            hit = rng.random(len(rows)) < bursts
            factors = np.where(hit, factors * rng.uniform(1.5, 8, len(rows)), factors)
            timed = [
                replace(row, time_ms=(row.time_ms or 0) * float(factors[i]) * changed.get(i, 1.0))
                for i, row in enumerate(rows)
            ]
            sides.append(build_run(label="run", rows=timed, rounds_ms={}))
        made.append((sides[0], sides[1]))
    return made


def times(outcome: Outcome) -> dict[str, Verdict]:
    return {v.point: v for v in outcome.verdicts if v.metric == "time_ms"}


@pytest.mark.parametrize("pairs", [5, 10])
def test_no_alarm_on_unchanged_code(pairs: int) -> None:
    rows = make_rows(300)
    for seed in range(5):
        found = check_pairs(simulated(rows, seed, pairs=pairs), TIME)
        assert Word.SLOWER not in found.counts


def test_no_alarm_under_bursts_of_load_once_it_is_confirmed() -> None:
    rows = make_rows(200)
    for seed in range(20):
        pairs = simulated(rows, seed, bursts=0.3)
        further = simulated(rows, 1000 + seed, bursts=0.3)
        found = confirm(check_pairs(pairs, TIME), pairs, further, TIME)
        assert Word.SLOWER not in found.counts


def test_a_slowdown_of_a_tenth_is_called_ninety_five_times_of_a_hundred() -> None:
    rows = make_rows(120)
    planted = dict.fromkeys(range(0, 120, 6), 1.1)  # 20 points a check
    called = 0
    for seed in range(10):
        pairs = simulated(rows, seed, slower=planted)
        further = simulated(rows, 500 + seed, slower=planted)
        both = confirm(check_pairs(pairs, TIME), pairs, further, TIME)
        called += len(both.failed)
        assert {v.point for v in both.failed} <= {rows[i].label for i in planted}
    assert called >= 0.95 * 200


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rows = make_rows(200)
    found = check_pairs(simulated(rows, 3, slower=dict.fromkeys(range(200), 1.2)), TIME)
    inside = [v.ratio_low < 1.2 < v.ratio_high for v in times(found).values()]  # type: ignore[operator]
    assert sum(inside) == pytest.approx(190, abs=4 * (200 * 0.95 * 0.05) ** 0.5)


def test_one_slow_batch_alone_is_unsure() -> None:
    rows = make_rows(30)
    pairs = simulated(rows, 1, slower={4: 1.5})
    first = check_pairs(pairs, TIME)
    assert [v.verdict for v in first.failed] == [Word.SLOWER]
    for then in (1.0, 1.03):  # all twenty pairs together are surely over the limit in both
        found = confirm(first, pairs, simulated(rows, 2, slower={4: then}), TIME)
        verdict = times(found)[rows[4].label]
        assert (verdict.verdict, verdict.failed) == (Word.UNSURE, False)
        assert "not surely so in 10 further pairs" in verdict.reason


def test_a_slowdown_need_not_prove_its_size_twice() -> None:
    """Further pairs noisier than the first still confirm what all pairs together show."""
    rows = make_rows(30)
    pairs = simulated(rows, 1, slower={4: 1.1})
    further = simulated(rows, 2, slower={4: 1.1}, noise=0.04)
    alone = times(check_pairs(further, TIME))[rows[4].label]
    assert alone.verdict is not Word.SLOWER
    found = confirm(check_pairs(pairs, TIME), pairs, further, TIME)
    assert [v.point for v in found.failed] == [rows[4].label]


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        ({"status": "incorrect", "time_ms": None}, "status"),
        ({"status": "oom", "time_ms": None}, "status"),
        ({"peak_memory_bytes": 90_000_000}, "peak_memory_bytes"),
        ({"rel_error": 1e-3}, "rel_error"),
        ({"pairs": 7}, "pairs"),
    ],
)
def test_what_is_exact_is_judged_by_the_first_pair(change: dict[str, object], metric: str) -> None:
    rows = make_rows(12)
    pairs = simulated(rows, 1, pairs=3)
    before, now = pairs[0]
    worse = [replace(r, **change) if i == 5 else r for i, r in enumerate(now.rows.values())]  # type: ignore[arg-type]
    pairs[0] = (before, build_run(label="run", rows=worse, rounds_ms={}))
    found = check_pairs(pairs, Limits())
    assert [v.metric for v in found.failed] == [metric]


def test_a_result_that_is_wrong_now_and_then_fails() -> None:
    rows = make_rows(12)
    pairs = simulated(rows, 1, pairs=4)
    wrong = [
        replace(r, status="incorrect", time_ms=None) if i == 5 else r
        for i, r in enumerate(pairs[2][1].rows.values())
    ]
    pairs[2] = (pairs[2][0], build_run(label="run", rows=wrong, rounds_ms={}))
    assert [v.metric for v in check_pairs(pairs, TIME).failed] == ["status"]


def test_selfcheck_finds_the_noise_that_is_there() -> None:
    pairs = simulated(make_rows(200), 8, pairs=10, noise=0.03)
    floor = noise_floor(pairs, check_pairs(pairs, TIME), TIME)
    assert floor.pair_log_sd == pytest.approx(0.03 * 2**0.5, rel=0.2)
    # Between separate runs the drift of 5% that a pair shares is in it.
    assert floor.record.log_sd == pytest.approx((0.03**2 + 0.05**2) ** 0.5, rel=0.35)
    assert floor.record.dof == 19
    seen = [floor.detectable[n] or np.inf for n in (3, 5, 10, 20)]
    assert seen == sorted(seen, reverse=True)
    assert seen[2] == pytest.approx(np.exp(np.log(1.05) + 0.03 * 2**0.5 * 5.2 / 10**0.5), rel=0.2)


FAKE = '''
"""A program called attnbench whose sweep takes the times that a file of its tree states."""
import csv, json, pathlib, shutil, sys

words = sys.argv[1:]
tree = pathlib.Path(__file__).parent.parent
if (tree / "broken").exists():
    print("attnbench: this revision is broken", file=sys.stderr)
    sys.exit(2)
run = pathlib.Path(words[words.index("--run-dir") + 1])
shutil.copytree(tree / "template", run)
factor = float((tree / "factor").read_text())
text = (run / "results.csv").read_text()
rows = list(csv.DictReader(text.splitlines()))
noise = 1 + 0.001 * (hash(run.name) % 7)
with (run / "results.csv").open("w", newline="") as file:
    writer = csv.DictWriter(file, rows[0], lineterminator="\\n")
    writer.writeheader()
    for row in rows:
        if row["time_ms"]:
            row["time_ms"] = str(float(row["time_ms"]) * factor * noise)
        if "--no-memory" in words:
            row["peak_memory_bytes"] = ""
        writer.writerow(row)
(run / "samples.jsonl").write_text("")
'''


TAKES_A_TURN = """
import os, time
from pathlib import Path
begun = time.monotonic()
turns = os.environ.get("ATTNBENCH_TURNS", "")
(run / "turns").write_text(turns)
if turns:
    mine, theirs = (os.open(pipe, os.O_RDWR) for pipe in turns.split(":"))
    os.read(mine, 1)
    os.write(theirs, b"t")
    time.sleep(0.3)
(run / "when").write_text(json.dumps([begun, time.monotonic()]))
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a fake attnbench; its last commit's times are as they were."""
    root = tmp_path / "repository"
    (root / "attnbench").mkdir(parents=True)
    (root / "attnbench" / "__init__.py").write_text("")
    (root / "attnbench" / "__main__.py").write_text(FAKE)
    (root / "factor").write_text("1.0")
    write_run(root / "template", make_rows(6))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(root)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    monkeypatch.chdir(root)
    monkeypatch.setattr("attnbench.commands._ab.find_device", lambda _: _Cpu)
    return root


class _Cpu:
    type = "cpu"


def test_ab_calls_a_slower_working_tree(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "factor").write_text("1.3")
    arguments = ["check", "--ab", "HEAD", "--pairs", "4", "--run-dir", str(tmp_path / "runs")]
    assert run([*arguments, "--json", "--junit", str(tmp_path / "j.xml")]) == 1
    found = json.loads(capsys.readouterr().out)
    slow = [v for v in found["verdicts"] if v["metric"] == "time_ms"]
    assert {v["verdict"] for v in slow} == {"SLOWER"}
    assert slow[0]["ratio"] == pytest.approx(1.3, rel=0.01)
    assert "4 further pairs" in slow[0]["reason"]
    assert found["noise"]["source"] == "4 interleaved pairs of fresh processes"
    assert "<failure" in (tmp_path / "j.xml").read_text()
    assert len(list((tmp_path / "runs").glob("0*-now/results.csv"))) == 4
    assert not list((repository / ".git" / "worktrees").glob("*"))


def test_ab_passes_unchanged_code_and_a_faster_one(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", "--ab", "HEAD", "--pairs", "4", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["counts"]) == {"SAME"}
    (repository / "factor").write_text("0.5")
    assert run(["check", "--ab", "HEAD", "--pairs", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["FASTER"] == 6


def test_a_revision_that_cannot_be_timed_is_not_comparable(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    (repository / "broken").write_text("")
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "two"], check=True)
    (repository / "broken").unlink()
    assert run(["check", "--ab", "HEAD", "--pairs", "3"]) == 4
    assert "HEAD (" in (said := capsys.readouterr().err)
    assert "this revision is broken" in said
    assert run(["check", "--ab", "HEAD~1", "--pairs", "3"]) == 0
    (repository / "broken").write_text("")
    assert run(["check", "--ab", "HEAD~1", "--pairs", "3"]) == 3
    assert not list((repository / ".git" / "worktrees").glob("*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--ab", "nowhere"], "nowhere"),
        (["--ab", "HEAD", "--pairs", "2"], "--pairs"),
        (["--ab", "HEAD", "--update"], "--update"),
        (["--ab", "HEAD", "--baseline", "x"], "--baseline"),
        (["--ab", "HEAD", "runs/x"], "RUN"),
        (["--ab", "HEAD", "--relative-to", "naive"], "--relative-to"),
        (["--ab", "HEAD", "--preset", "smok"], "smoke"),
        (["--ab", "HEAD", "--variant", "/etc/passwd:x"], "--variant"),
        (["--baseline", "x"], "--ab"),
        ([], "--baseline"),
    ],
)
def test_bad_usage_is_named(
    repository: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_outside_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="not a git repository"):
        repository_root(tmp_path)


def test_a_tree_that_maps_packages_is_imported_as_it_would_be_installed(repository: Path) -> None:
    (repository / "elsewhere").mkdir()
    (repository / "elsewhere" / "__init__.py").write_text("here = 1\n")
    (repository / "pyproject.toml").write_text(
        '[tool.setuptools.package-dir]\n"attnbench.inner" = "elsewhere"\n'
    )
    with checked_out(repository, "HEAD") as (before, now):
        assert not (before.folder / "elsewhere").exists()
        links = Path(now.import_path)
        assert (links / "attnbench" / "inner" / "__init__.py").read_text() == "here = 1\n"
        assert (links / "attnbench" / "__main__.py").read_text() == FAKE
        assert before.import_path.split(":") == [str(before.folder)]


def test_the_runs_of_a_folder_that_is_there_are_not_written_over(repository: Path) -> None:
    job = Job(preset=load_preset("smoke", "cpu"), device="cpu")
    tree = Tree(name="t", folder=repository, import_path=str(repository))
    with pytest.raises(UserError, match="File exists"):
        run_pairs(tree, tree, job, repository, pairs=3, tell=print)
    gone = repository.parent / "gone"
    shutil.copytree(repository / "attnbench", gone / "attnbench")
    (gone / "attnbench" / "__main__.py").write_text("raise SystemExit(9)")
    silent = Tree(name="gone", folder=gone, import_path=str(gone))
    with pytest.raises(NotComparableError, match="exit code 9: it said nothing"):
        run_pairs(silent, tree, job, repository / "runs", pairs=3, tell=print)


def test_what_is_exact_is_done_by_the_first_pair_alone(repository: Path) -> None:
    """Memory, and what an interpreter checked and nothing timed."""
    tree = Tree(name="t", folder=repository, import_path=str(repository))
    timed = make_rows(2)
    checked = replace(timed[1], backend="triton", status="interpreted", time_ms=None)
    rows = [*timed, checked]
    shutil.rmtree(repository / "template")
    write_run(repository / "template", rows)
    grid = Grid(
        variants=["naive", "flash"], backends=["eager", "sdpa", "triton"], modes=["fwd"],
        seq_lens="1k", dtypes=["bf16"], causal="auto", batches=1, heads=1, head_dims=64,
    )  # fmt: skip
    preset = msgspec.structs.replace(load_preset("smoke", "cpu"), grids=[grid])
    job = Job(preset=preset, device="cpu")
    runs = run_pairs(tree, tree, job, repository / "runs", pairs=3, tell=print).runs
    briefs = [json.loads((repository / "runs" / f"0{n}.json").read_text()) for n in range(3)]
    assert [brief["grids"][0]["backends"] for brief in briefs] == [
        ["eager", "sdpa", "triton"], ["eager"], ["eager"],
    ]  # fmt: skip
    memory = [read_rows(before / "results.csv")[0].peak_memory_bytes for before, _ in runs]
    assert memory == [timed[0].peak_memory_bytes, None, None]


def test_pairs_run_at_once_and_in_turn_after_one_that_is_exact(repository: Path) -> None:
    (repository / "attnbench" / "measure").mkdir()
    (repository / "attnbench" / "measure" / "turns.py").write_text("")
    program = repository / "attnbench" / "__main__.py"
    program.write_text(FAKE + TAKES_A_TURN)
    tree = Tree(name="t", folder=repository, import_path=str(repository))
    job = Job(preset=load_preset("smoke", "cpu"), device="cpu")
    made = run_pairs(tree, tree, job, repository / "runs", pairs=3, tell=print)
    assert made.timed_from == 1
    assert len(made.runs) == 4
    for number, pair in enumerate(made.runs):
        turns = [(run / "turns").read_text() for run in pair]
        if number == 0:
            assert turns == ["", ""]
        else:
            assert turns[0].split(":") == turns[1].split(":")[::-1] != [""]
            times = [json.loads((run / "when").read_text()) for run in pair]
            assert max(begun for begun, _ in times) < min(ended for _, ended in times)
    alone = msgspec.structs.replace(job, memory=False)
    again = run_pairs(tree, tree, alone, repository / "again", pairs=3, tell=print)
    assert (len(again.runs), again.timed_from) == (3, 0)


def test_a_side_that_fails_does_not_hold_up_the_other(repository: Path) -> None:
    (repository / "attnbench" / "measure").mkdir()
    (repository / "attnbench" / "measure" / "turns.py").write_text("")
    gone = repository.parent / "gone"
    shutil.copytree(repository / "attnbench", gone / "attnbench")
    (gone / "attnbench" / "__main__.py").write_text("raise SystemExit(9)")
    here = Tree(name="t", folder=repository, import_path=str(repository))
    there = Tree(name="gone", folder=gone, import_path=str(gone))
    job = Job(preset=load_preset("smoke", "cpu"), device="cpu", memory=False)
    with pytest.raises(NotComparableError, match="exit code 9"):
        run_pairs(there, here, job, repository / "runs", pairs=3, tell=print)


def test_rounds_that_lie_beside_each_other_are_paired() -> None:
    """A machine that doubles its speed from round to round leaves the ratio as it is."""
    rows = make_rows(6)
    drift = {0: 1.0, 1: 2.0, 2: 0.5}

    def side(factor: float) -> Run:
        rounds = {r.key: {n: r.time_ms * factor * d for n, d in drift.items()} for r in rows}
        return build_run(label="run", rows=rows, rounds_ms=rounds)

    found = check_pairs([(side(1.0), side(1.2))] * 3, TIME)
    assert [v.ratio for v in times(found).values()] == pytest.approx([1.2] * 6)


def test_selfcheck_records_the_noise(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("PYTHONPATH", str(repository))
    taken = write_run(tmp_path / "taken", make_rows(6))
    assert run(["selfcheck", "--pairs", "3", "--record", str(taken), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["false_alarms"] == 0
    recorded = json.loads((taken / "run.json").read_text())["selfcheck"]
    assert recorded == {"log_sd": found["log_sd"], "dof": 5}
    assert run(["selfcheck", "--record", str(tmp_path), "--json"]) == 2
