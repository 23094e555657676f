"""What a sweep says while it runs: lines for a log, a bar with the time left on a terminal."""

import io
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from _gate_runs import make_rows

from attnbench.cli import run
from attnbench.errors import UserError
from attnbench.measure.expect import group_s
from attnbench.measure.plan import Group, make_groups
from attnbench.measure.preset import Preset, load_preset, override, preset_names
from attnbench.measure.progress import Bar, shown_on
from attnbench.spec.attention import Mode
from attnbench.variants._settings import parse_settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def groups() -> tuple[Group, ...]:
    one = {"variants": ["naive"], "modes": ["fwd"], "batches": "1", "heads": "2"}
    return make_groups(override(load_preset("smoke", "cpu"), dict(one)))


def test_a_log_gets_plain_lines() -> None:
    out, (first, _) = io.StringIO(), groups()
    with shown_on(out, {}) as progress:
        progress.start_group(1, 2, first, 3)
        progress.end_group(first, make_rows(3), 1.25)
    assert out.getvalue() == f"[1/2] {first.label}, 3 points: 3 ok; 1.2 s\n"


def test_a_bar_tells_what_is_left() -> None:
    first, second = groups()
    drawn = MagicMock()
    clock = iter([0.0, 30.0])
    expected = {"finished before": 500.0, first.label: 10.0, second.label: 40.0}
    bar = Bar(drawn, "task", expected, now=lambda: next(clock))
    bar.start_group(2, 3, first, 1)
    bar.end_group(first, make_rows(1), 30.0)
    # The first group took three times what was expected: so will the second.
    drawn.update.assert_called_with("task", completed=10.0, left="about 2 min 0 s left")


def test_a_terminal_gets_a_bar_and_keeps_how_groups_ended() -> None:
    out, (first, second) = Terminal(), groups()
    with shown_on(out, {first.label: 10.0, second.label: 40.0}) as progress:
        progress.start_group(1, 2, first, 1)
        progress.end_group(first, make_rows(1), 30.0)
    assert f"{first.label}: 1 ok; 30.0 s\n" in out.getvalue()


def test_more_work_is_expected_to_take_longer() -> None:
    timing = load_preset("smoke", "cpu").timing
    short, long = (
        group_s(group, timing, device_type="cpu", flops_per_s=1e11) for group in groups()
    )
    slow = group_s(groups()[1], timing, device_type="cpu", flops_per_s=1e9)
    assert 0 < short < long < slow


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_preset_makes_its_points(name: str, device: str) -> None:
    assert len(make_groups(load_preset(name, device))) >= 4


def test_the_papers_grid_has_16k_tokens_and_width_2048_everywhere() -> None:
    found = make_groups(load_preset("paper", "cuda"))
    assert {g.shape.batch * g.shape.seq_q for g in found} == {16384}
    assert {g.shape.heads * g.shape.head_dim for g in found} == {2048}
    assert {g.shape.seq_q for g in found} == {512, 1024, 2048, 4096, 8192, 16384}
    assert {(g.mode.value, g.shape.causal) for g in found} == {
        (mode, causal) for mode in ("fwd", "bwd", "fwd_bwd") for causal in (True, False)
    }


def test_serving_has_the_heads_of_its_models() -> None:
    found = make_groups(load_preset("serving", "cuda"))
    heads = {(g.shape.heads, g.shape.kv_heads, g.shape.head_dim) for g in found}
    assert {(32, 8, 128), (64, 8, 128), (64, 8, 64), (16, 8, 256)} <= heads


def test_selfcheck_has_over_two_hundred_points() -> None:
    assert sum(len(g.points) for g in make_groups(load_preset("selfcheck", "cpu"))) >= 200


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("total_tokens: 4k", "batches"),
        ("models: [gpt2]", "models instead"),
        ("heads: null", "head_dims"),
    ],
)
def test_fields_that_do_not_go_together(
    change: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    fields = {
        "variants": "[naive]", "modes": "[fwd]", "seq_lens": "64", "batches": "1",
        "heads": "1", "head_dims": "64", "dtypes": "[fp32]", "causal": '"yes"',
    }  # fmt: skip
    key, _, value = change.partition(": ")
    fields[key] = value
    lines = "\n    ".join(f"{k}: {v}" for k, v in fields.items() if v != "null")
    timing = (
        "{rounds: 2, max_rounds: 2, round_ms: 1, warmup_ms: 1, point_s: 1, target_ci: 0.1,"
        " cache: warm}"
    )
    path.write_text(f"summary: x\ngrids:\n  - {lines}\ntiming: {timing}\ntime_limit_s: 9\n")
    assert run(["sweep", "--config", str(path), "--dry-run", "--device", "cpu"]) == 2
    assert says in capsys.readouterr().err


def test_heads_by_hand_take_the_place_of_models() -> None:
    serving = load_preset("serving", "cuda")
    changed: Preset = override(serving, {"heads": "4", "head_dims": "64", "batches": "2"})
    assert {g.shape.heads for g in make_groups(changed)} == {4}


def test_params_go_to_the_grids_whose_variants_take_them() -> None:
    """The default preset has a grid of decode, of which a sliding window is no part."""
    default = load_preset("default", "cpu")
    params = parse_settings(["sliding_window.window=64,128", "all.alibi=true", "all.window=32"])
    points = [p for g in make_groups(override(default, {"params": params})) for p in g.points]
    windows = {(p.variant, p.params.get("window")) for p in points if p.mode is Mode.FWD}
    assert {("sliding_window", 64), ("sliding_window", 128), ("longformer", 32)} <= windows
    decoded = [p for p in points if p.mode is Mode.DECODE]
    assert decoded
    assert all(p.params["alibi"] for p in decoded)


@pytest.mark.parametrize(
    ("given", "says"), [("flsh.alibi=true", "Did you mean flash"), ("all.windw=1", "'windw'")]
)
def test_params_that_no_grid_takes_are_refused(given: str, says: str) -> None:
    changed = override(load_preset("default", "cpu"), {"params": parse_settings([given])})
    with pytest.raises(UserError) as refused:
        make_groups(changed)
    assert says in f"{refused.value} {refused.value.hint}"
