"""The strict YAML loader: what it reads, what it refuses, and what its message says."""

import string
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml12
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench import profiles
from attnbench.catalog.yaml_events import tree_of
from attnbench.catalog.yaml_file import MAX_BYTES, parse_yaml, read_yaml
from attnbench.errors import UserError


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bandwidth_bytes_per_s: float
    peaks: dict[str, float] = msgspec.field(default_factory=dict)


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    source: str
    rates: Rates | None = None
    tags: tuple[str, ...] = ()
    size: int = 0


GOOD = "name: a\nsource: a page\n"


def parse(text: str) -> Profile:
    return parse_yaml(text, Profile, label="p.yaml")


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("3.35e12", 3.35e12), ("80e+9", 80e9), ("80e9", 80e9), ("1.5E-3", 1.5e-3), (".5e1", 5.0),
        ("7", 7.0), ("-2.5", -2.5), ("1_000.0", 1000.0),
    ],
)  # fmt: skip
def test_a_number_is_a_number(written: str, value: float) -> None:
    spec = parse(f"{GOOD}rates: {{bandwidth_bytes_per_s: {written}}}")
    assert spec.rates is not None
    assert spec.rates.bandwidth_bytes_per_s == value


@pytest.mark.parametrize("word", ["744e01d", "3e5-foo", "no", "on", "010", "1:30", "2024-06-01"])
def test_yaml_1_1_traps_stay_text(word: str) -> None:
    assert parse(f"name: {word}\nsource: a page\n").name == word


def test_big_integers_keep_every_digit() -> None:
    assert parse(f"{GOOD}size: 10_737_418_241\n").size == 10_737_418_241


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nsource: b\nname: c\n", "p.yaml:3: duplicate key 'name'"),
        (
            f"{GOOD}rates:\n  bandwith_bytes_per_s: 1.0\n",
            "p.yaml:4: unknown key 'bandwith_bytes_per_s'. Did you mean 'bandwidth_bytes_per_s'?",
        ),
        (f"{GOOD}zzz: 1\n", "p.yaml:3: unknown key 'zzz'."),
        ("name: a\n", "p.yaml:1: the whole file: Object missing required field `source`"),
        (f"{GOOD}size: many\n", "p.yaml:3: size: Expected `int`, got `str`"),
        (f"{GOOD}size: 1.5\n", "p.yaml:3: size: Expected `int`, got `float`"),
        (f"{GOOD}tags:\n- x\n- 7\n", "p.yaml:5: tags[1]: Expected `str`, got `int`"),
        (
            f"{GOOD}rates:\n  bandwidth_bytes_per_s: 1.0\n  peaks:\n    bf16: fast\n",
            "p.yaml:5: rates.peaks[...]: Expected `float`, got `str`",
        ),
        (f"{GOOD}7: x\n", "p.yaml:3: a key must be a plain word (quote it if it is a number)"),
        (f"{GOOD}? [a, b]\n: x\n", "p.yaml:3: a key must be a plain word"),
        (f"{GOOD}size: .inf\n", "p.yaml:3: .inf is no finite number"),
        (f"{GOOD}size: .nan\n", "p.yaml:3: .nan is no finite number"),
        (f"{GOOD}size: 1e999\n", "p.yaml:3: 1e999 is no finite number"),
        (f"{GOOD}size: {'9' * 5000}\n", "p.yaml:3: '9999"),
        (f"{GOOD}size: [1\n", "p.yaml:4: not valid YAML"),
        (f"{GOOD}size: !!python/object:os.system x\n", "p.yaml:3: the tag "),
        (f"{GOOD}---\nname: b\n", "p.yaml:3: a second document"),
        ("name: \0\n", "p.yaml: not valid YAML"),
        ("", "p.yaml:1: the whole file: Expected `object`, got `null`"),
        ("- a\n", "p.yaml:1: the whole file: Expected `object`, got `array`"),
    ],
)
def test_a_refusal_says_what_and_where(text: str, expected: str) -> None:
    assert refusal(text).startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        "name: &a x\nsource: *a\n",
        "name: a\nsource: b\ntags: &t [x]\nrates: *t\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
        "name: a\nsource: b\ntags: &t [*t]\n",
        "base: &b {name: a}\n<<: *b\n",
    ],
)
def test_aliases_are_refused(text: str) -> None:
    assert "anchors and aliases are not read here" in refusal(text)


@pytest.mark.parametrize("depth", [65, 900, 20_000])
@pytest.mark.parametrize("bracket", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused(depth: int, bracket: str) -> None:
    assert refusal(bracket * depth).startswith("p.yaml")
    closing = "]" if bracket == "[" else "}"
    assert refusal(f"{GOOD}tags: {bracket * depth}x{closing * depth}").startswith("p.yaml")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=string.printable + "é&*!\0", max_size=60))
def test_any_text_is_read_or_refused_in_one_line(tail: str) -> None:
    refused = ""
    try:
        parse(GOOD + tail)
    except UserError as error:
        refused = str(error)
    assert "\n" not in refused


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            read_yaml(path, Profile)
        return str(caught.value)

    big = tmp_path / "big.yaml"
    with big.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"name: \xe9\n")
    assert refused(tmp_path / "none.yaml") == f"{tmp_path}/none.yaml: no such file"
    assert refused(tmp_path) == f"{tmp_path}: not a file"
    assert "over 1 MiB" in refused(big)
    assert "not UTF-8" in refused(latin)
    assert refused(Path("/dev/zero")) == "/dev/zero: not a file"


def same(one: object, other: object) -> bool:
    """Equal, and of equal types all the way down: 1 is not 1.0, nor true."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_the_two_readers_agree_on_every_shipped_file() -> None:
    files = sorted(Path(next(iter(profiles.__path__))).rglob("*.yaml"))
    assert len(files) > 200
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert same(yaml12.parse_yaml(text), tree_of(text, label=path.name)[0]), path
    assert not same([1], [1.0])
    assert not same({"a": True}, {"a": 1})


def test_a_calculator_starts_without_pyyaml() -> None:
    code = (
        "import sys; from attnbench.cli import run; run(['kv-cache', 'llama-3-8b']);"
        "run(['roofline']); sys.exit('yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
