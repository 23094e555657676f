"""Speculative decoding's arithmetic against the paper's table, and against sampling itself."""

import itertools
import json

import numpy as np
import pytest

from attnbench.calc.draft_tree import best_tree, full_tree, independent_ranks
from attnbench.calc.speculative import Draft, best_gamma, speedup, tokens_per_step
from attnbench.cli import run


@pytest.mark.parametrize(
    ("acceptance", "gamma", "operations", "faster"),
    [
        (0.6, 2, 1.53, 1.96),
        (0.7, 3, 1.58, 2.53),
        (0.8, 2, 1.23, 2.44),
        (0.8, 5, 1.63, 3.69),
        (0.9, 2, 1.11, 2.71),
        (0.9, 10, 1.60, 6.86),
    ],
)
def test_the_table_of_leviathan(
    acceptance: float, gamma: int, operations: float, faster: float
) -> None:
    """Table 1 of arXiv:2211.17192: the draft costs nothing."""
    found = speedup(Draft(acceptance=acceptance, cost_ratio=0.0), gamma)
    assert found.speedup == pytest.approx(faster, abs=0.005)
    assert found.operations == pytest.approx(operations, abs=0.005)


def test_speculative_sampling_itself_gives_as_many_tokens() -> None:
    """Draft from q, accept with min(1, p / q): the chance is the sum of min(p, q)."""
    rng = np.random.default_rng(7)
    target, draft = rng.dirichlet(np.ones(12)), rng.dirichlet(np.ones(12))
    acceptance = float(np.minimum(target, draft).sum())
    gamma, steps = 4, 40_000
    drafted = rng.choice(12, size=(steps, gamma), p=draft)
    taken = rng.random((steps, gamma)) < target[drafted] / draft[drafted]
    tokens = 1 + np.cumprod(taken, axis=1).sum(axis=1)
    error = float(tokens.std()) / steps**0.5
    assert tokens_per_step(acceptance, gamma) == pytest.approx(tokens.mean(), abs=5 * error)


def test_tokens_a_step_at_the_ends() -> None:
    assert tokens_per_step(1.0, 7) == 8
    assert tokens_per_step(0.0, 7) == 1
    closed = (1 - 0.83**10) / (1 - 0.83)
    assert tokens_per_step(0.83, 9) == pytest.approx(closed, rel=1e-12)


@pytest.mark.parametrize("acceptance", [0.0, 0.05, 0.3, 0.6, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("cost", [0.0, 0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("verify", [0.0, 0.01, 0.2])
def test_the_best_length_is_best_of_all(acceptance: float, cost: float, verify: float) -> None:
    draft = Draft(acceptance=acceptance, cost_ratio=cost, verify_cost=verify)
    all_of_them = [speedup(draft, gamma).speedup for gamma in range(65)]
    assert all_of_them[best_gamma(draft, 64)] == pytest.approx(max(all_of_them), rel=1e-12)
    pays = max(all_of_them) > 1 + 1e-12
    assert pays == (acceptance > cost + verify + 1e-12)


def _sum_over_paths(branches: tuple[int, ...], ranks: tuple[float, ...]) -> float:
    """Chance of each node by its path of ranks, summed, and the target's own token."""
    total = 1.0
    for depth in range(1, len(branches) + 1):
        for path in itertools.product(*(range(b) for b in branches[:depth])):
            total += float(np.prod([ranks[r] for r in path]))
    return total


def test_a_tree_gives_the_sum_over_its_paths() -> None:
    ranks = (0.55, 0.2, 0.1)
    found = full_tree((3, 2, 2), ranks, Draft(acceptance=0.55, cost_ratio=0.1, verify_cost=0.01))
    assert found.tokens_per_step == pytest.approx(_sum_over_paths((3, 2, 2), ranks))
    assert (found.nodes, found.widths) == (21, (3, 6, 12))
    assert found.step_cost == pytest.approx(1 + 3 * 0.1 + 21 * 0.01)


def test_the_best_tree_is_best_of_all_trees_of_its_size() -> None:
    """Every prefix-closed set of paths up to depth 4, of up to 5 nodes, tried."""
    ranks = (0.5, 0.3, 0.15)

    def grow(tree: frozenset[tuple[int, ...]]) -> set[frozenset[tuple[int, ...]]]:
        ends = {(*path, r) for path in (tree | {()}) for r in range(3)} - tree
        return {tree | {end} for end in ends}

    trees = {frozenset[tuple[int, ...]]()}
    for size in range(1, 6):
        trees = {bigger for tree in trees for bigger in grow(tree)}
        most = max(1 + sum(float(np.prod([ranks[r] for r in p])) for p in t) for t in trees)
        found = best_tree(size, ranks, Draft(acceptance=0.5, cost_ratio=0.0))
        assert found.tokens_per_step == pytest.approx(most)
        assert found.nodes == size


def test_a_chain_is_a_tree_of_one_child() -> None:
    draft = Draft(acceptance=0.7, cost_ratio=0.05, verify_cost=0.02)
    chain = full_tree((1,) * 5, independent_ranks(0.7, 1), draft)
    plain = speedup(draft, 5)
    assert chain.tokens_per_step == pytest.approx(plain.tokens_per_step)
    assert chain.speedup == pytest.approx(plain.speedup)


def test_the_command_answers_the_contracts_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["speculate", "--acceptance", "0.7", "--gamma", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert next(iter(found)) == "schema"
    assert found["tokens_per_step"] == pytest.approx(2.533)
    assert found["best_gamma"] > 3
    assert found["speedup"] == pytest.approx(2.533 / 1.15)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--acceptance", "1.2"], "--acceptance"),
        (["--acceptance", "nan"], "--acceptance"),
        (["--cost-ratio", "-1"], "--cost-ratio"),
        (["--verify-cost", "inf"], "--verify-cost"),
        (["--tree", "2,x"], "--tree"),
        (["--tree", "64,64,64"], "4,096"),
        (["--tree", "2", "--tree-nodes", "3"], "not both"),
        (["--tree-nodes", "3", "--rank-acceptance", "0.9,0.9"], "--rank-acceptance"),
        (["--rank-acceptance", "0.9"], "--tree"),
        (["--tree", "3", "--rank-acceptance", "0.5,0.2"], "3 chances"),
    ],
)
def test_bad_input_is_named(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["speculate", *arguments]) == 2
    heard = capsys.readouterr()
    assert heard.out == ""
    assert says in heard.err


def derived(capsys: pytest.CaptureFixture[str], *options: str) -> dict:  # type: ignore[type-arg]
    """The JSON of `speculate` with costs from models."""
    named = ["--target", "llama-3.1-70b", "--draft", "llama-3.2-1b", "--tp", "4"]
    assert run(["speculate", *named, *options, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_costs_from_models_follow_what_binds(capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes bind a small batch: four tokens more cost next to nothing; products a large one."""
    alone, full = derived(capsys, "--batch", "1"), derived(capsys, "--batch", "512")
    assert alone["verify_cost"] < 0.01
    assert full["verify_cost"] > 0.15  # five times the products, over a step that is both
    assert full["verify_cost"] <= 1.0
    assert full["best_gamma"] < alone["best_gamma"]
    times = alone["times"]
    assert alone["cost_ratio"] == pytest.approx(times["draft_s"] / times["target_s"])
    # 70.6e9 and 1.24e9 parameters, less embeddings: bytes alone make 0.018, launches the rest.
    assert 0.018 < alone["cost_ratio"] < 0.15


def test_costs_given_stand_before_those_of_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert derived(capsys, "--cost-ratio", "0.3")["cost_ratio"] == 0.3


@pytest.mark.parametrize(
    "options",
    [
        ["--target", "gpt2"],
        ["--draft", "gpt2"],
        ["--target", "gpt2", "--draft", "gpt2", "--gpu", "h100"],
        ["--target", "gpt2", "--draft", "gpt2", "--tp", "5"],
        ["--target", "gpt2", "--draft", "gpt2", "--batch", "0"],
    ],
    ids=" ".join,
)
def test_models_that_cannot_be(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["speculate", *options]) == 2
    assert capsys.readouterr().out == ""
