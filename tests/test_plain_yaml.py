"""The reader of plain YAML against PyYAML's events, over shipped profiles and broken ones."""

import random
from pathlib import Path
from typing import Any

import pytest

from attnbench import profiles
from attnbench.catalog.plain_yaml import NotPlainError, plain_tree
from attnbench.catalog.yaml_events import tree_of
from attnbench.errors import UserError

FOLDER = Path(next(iter(profiles.__path__)))
FILES = sorted((FOLDER / "hardware").glob("*.yaml")) + sorted((FOLDER / "models").glob("*.yaml"))
MARKS = " \n:-#'\"[]{},&*!|>%@`?0x1e.~_ny\t\\"


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal types all the way down (1 is not 1.0, nor true)."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_shipped_files_read_alike() -> None:
    read = 0
    for path in [*FILES, *(FOLDER / "calibration").glob("*.yaml"), FOLDER / "prices.yaml"]:
        text = path.read_text(encoding="utf-8")
        try:
            tree = plain_tree(text)
        except NotPlainError:
            continue  # left to the strict reader
        assert same(tree, tree_of(text, label=path.name)[0]), path
        read += 1
    assert read > 0.95 * len(FILES)  # else a start pays for PyYAML again


@pytest.mark.parametrize("path", sorted((FOLDER / "hardware").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_hardware_profile_is_plain(path: Path) -> None:
    assert plain_tree(path.read_text(encoding="utf-8"))["name"] == path.stem


def test_broken_files_read_alike_or_not_at_all() -> None:
    draw = random.Random(0)
    texts = [path.read_text(encoding="utf-8")[:800] for path in FILES]
    read = 0
    for _ in range(3000):
        text = draw.choice(texts)
        for _ in range(draw.randint(1, 3)):
            at, cut = draw.randrange(len(text)), draw.randint(0, 1)
            text = text[:at] + draw.choice(MARKS) + text[at + cut :]
        try:
            tree = plain_tree(text)
        except NotPlainError:
            continue
        try:
            strict = tree_of(text, label="text")[0]
        except UserError as error:
            pytest.fail(f"the strict reader refuses what the plain one took: {error}\n{text}")
        assert same(tree, strict), text
        read += 1
    assert read > 300


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2\n", "a: &x 1\n", 'a: "b"\n', "a: |\n  b\n", "a: b\n  c\n", "a: [1,\n  2]\n",
     "a: {b: 1, b: 2}\n", "a: .inf\n", "yes\n", "", "a: b: c\n", "true: 1\n", "a:\tb\n"],
)  # fmt: skip
def test_what_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(NotPlainError):
        plain_tree(text)
