"""A user's kernel in sweep and check: its rows, its recipe, and what goes wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.spec.results_csv import read_rows

MUTANTS = Path(__file__).parent / "_mutants.py"

TINY = """
summary: A test's sweep.
grids:
  - {variants: [naive], modes: [fwd], seq_lens: 64, batches: 1, heads: 4, kv_heads: 2,
     head_dims: 32, dtypes: [fp32], causal: yes}
timing: {rounds: 5, max_rounds: 5, round_ms: 1, warmup_ms: 1, point_s: 0.1, target_ci: 0.03,
         cache: warm}
time_limit_s: 30
"""

KERNEL = """
import torch
from helper import repeat
print("what a kernel prints is no result")

class Mine:
    computes = "sliding_window"
    params = {"window": 9}

    def supports(self, shape, mode, params, device_type):
        return None if shape.seq_kv < 100 else "Mine is for short sequences"

    def prepare(self, shape, params, device):
        key = torch.arange(shape.seq_kv)[None, :]
        row = torch.arange(shape.offset, shape.seq_kv)[:, None]
        return (key <= row) & (key > row - params["window"])

    def forward(self, query, key, value, mask):
        key, value = repeat(query, key), repeat(query, value)
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
"""
HELPER = "def repeat(q, x):\n    return x.repeat_interleave(q.shape[1] // x.shape[1], 1)\n"


@pytest.fixture
def sweep(attnbench: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)

    def call(*words: object, run: str = "run") -> Any:
        return attnbench("sweep", "--config", config, "--run-dir", tmp_path / run, "--json", *words)

    return call


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text(HELPER)
    path = tmp_path / "mine.py"
    path.write_text(KERNEL)
    return path


def test_it_is_timed_beside_the_others_under_its_own_name(
    sweep: Callable[..., Any], mine: Path, tmp_path: Path
) -> None:
    ran = sweep("--variant", f"{mine}:Mine", "--backends", "eager", "--seq-lens", "64,128")
    assert ran.code == 0, ran.err
    rows = {(row.variant, row.seq_kv): row for row in read_rows(tmp_path / "run" / "results.csv")}
    row = rows["Mine", 64]
    assert (row.backend, row.status) == ("user", "ok")
    assert json.loads(row.params) == {
        "computes": "sliding_window", "dilation": 1, "sink": 0, "window": 9,
    }  # fmt: skip
    assert row.pairs == 4 * (9 * 64 - 36)  # its mathematics is the claimed variant's
    assert row.kernel_error is not None
    assert row.kernel_error < 1e-6
    assert row.rel_error is not None
    assert row.rel_error > 0.1
    assert row.speedup_vs_naive is not None
    late = rows["Mine", 128]
    assert (late.status, late.note) == ("unsupported", "Mine is for short sequences")
    assert rows["naive", 128].status == "ok"
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["configuration"]
    (user,) = recorded["user_variants"]
    assert sorted(user["files"]) == ["helper.py", "mine.py"]


def test_a_changed_file_is_another_recipe_and_no_resumption(
    sweep: Callable[..., Any], attnbench: Callable[..., Any], mine: Path, tmp_path: Path
) -> None:
    assert sweep("--variant", f"{mine}:Mine").code == 0
    same = attnbench("check", tmp_path / "run", "--baseline", tmp_path / "run", "--json",
                     "--variant", f"{mine}:Mine")  # fmt: skip
    assert same.code == 0, same.err
    assert {v["point"].split("/")[0] for v in same.json["verdicts"]} == {"Mine"}
    mine.with_name("helper.py").write_text(HELPER + "# faster\n")
    resumed = sweep("--variant", f"{mine}:Mine", "--resume")
    assert resumed.code == 2
    assert "user_variants" in resumed.err
    assert sweep("--variant", f"{mine}:Mine", run="again").code == 0
    recipes = [
        {row.variant: row.recipe for row in read_rows(tmp_path / run / "results.csv")}
        for run in ("run", "again")
    ]
    assert recipes[0]["naive"] == recipes[1]["naive"]
    assert recipes[0]["Mine"] != recipes[1]["Mine"]
    stale = attnbench("check", tmp_path / "run", "--baseline", tmp_path / "run",
                      "--variant", f"{mine}:Mine")  # fmt: skip
    assert stale.code == 4
    assert "is not what" in stale.err
    other = attnbench("check", tmp_path / "run", "--baseline", tmp_path / "run",
                      "--variant", f"{MUTANTS}:right")  # fmt: skip
    assert other.code == 4
    assert "was not made with --variant _mutants.py:right" in other.err
    blessed = attnbench("check", tmp_path / "again", "--baseline", tmp_path / "b.json",
                        "--update", "--variant", f"{mine}:Mine")  # fmt: skip
    assert blessed.code == 2
    assert "blessed whole" in blessed.err


def test_what_fails_while_it_runs_is_one_row_with_the_reason(
    sweep: Callable[..., Any], tmp_path: Path
) -> None:
    names = ["raises", "wrong_shape", "wrong_dtype", "answers_two", "mask_off_by_one", "crashes",
             "hangs", "right"]  # fmt: skip
    words = [word for name in names for word in ("--variant", f"{MUTANTS}:{name}")]
    ran = sweep(*words, "--time-limit", "6")
    assert ran.code == 0, ran.err
    ended = {row["variant"]: (row["status"], row["note"]) for row in ran.json["rows"]}
    # A busy machine's note may stand there.
    assert ended["naive"][0] == ended["right"][0] == "ok"
    assert ended["raises"] == ("error", "FloatingPointError: cosmic ray")
    assert ended["wrong_shape"] == (
        "incorrect", "the output's shape is [1, 4, 64, 31], not [1, 4, 64, 32]",
    )  # fmt: skip
    assert ended["wrong_dtype"][0] == "incorrect"
    assert "torch.float64, not torch.float32" in ended["wrong_dtype"][1]
    assert ended["answers_two"] == ("incorrect", "the output is tuple, not a tensor")
    assert ended["mask_off_by_one"][0] == "incorrect"
    assert ended["crashes"] == ("error", "the process was ended by SIGSEGV")
    assert ended["hangs"] == ("timeout", "silent for 6 s")


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("def f(:\n", "f", "bad.py:1: SyntaxError"),
        ("import torch\nimport torhc\n", "f", "bad.py:2: ModuleNotFoundError"),
        ("x = 1\n\nraise OSError('no licence')\n", "f", "bad.py:3: OSError: no licence"),
        ("def forward_(): pass\n", "forward", "unknown name in bad.py: 'forward'"),
        ("class C: pass\n", "C", "bad.py:C has no forward(query, key, value, state)"),
        ("class C:\n  def __init__(self, x): pass\n", "C", "bad.py:C(): TypeError"),
        ("def f(q, k, v): pass\n", "f", "it is called with (query, key, value, state)"),
        (
            "class C:\n  forward = print\n  def prepare(self): pass\n",
            "C",
            "(shape, params, device)",
        ),
        ("class C:\n  forward = 3\n", "C", "forward is int, not a function"),
        ("def f(q, k, v, s): pass\nf.computes = 'flsh'\n", "f", "'flsh'"),
        ("def f(q, k, v, s): pass\nf.params = {'window': 4}\n", "f", "'window'"),
        ("def f(q, k, v, s): pass\nf.modes = ('fw',)\n", "f", "unknown bad.py:f: mode 'fw'"),
        ("def f(q, k, v, s): pass\nf.features = ('alibbi',)\n", "f", "feature 'alibbi'"),
        ("import os\nos._exit(3)\n", "f", "the process exited with code 3"),
        ("def naive(q, k, v, s): pass\n", "naive", "a built-in variant's name"),
    ],
    ids=lambda text: text.split("\n")[0][:30],
)
def test_a_bad_file_is_one_error_and_exit_2(
    attnbench: Callable[..., Any], tmp_path: Path, text: str, name: str, said: str
) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    ran = attnbench("verify", "--variant", f"{path}:{name}")
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert len(ran.err.splitlines()) <= 2
    assert ran.out == ""


@pytest.mark.parametrize("command", ["sweep", "verify"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--variant", "nowhere.py:f"], "nowhere.py: no such file"),
        (["--variant", "mine.py"], "'mine.py' is not FILE.py:NAME"),
        (["--variant", f"{MUTANTS}:"], "is not FILE.py:NAME"),
        (["--variant", f"{MUTANTS}:right", "--variant", f"{MUTANTS}:right"], "two are called"),
    ],
    ids=["no file", "no name", "empty name", "twice"],
)
def test_bad_usage_is_exit_2(
    attnbench: Callable[..., Any], command: str, words: list[str], said: str
) -> None:
    ran = attnbench(command, *words)
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert len(ran.err.splitlines()) <= 2
