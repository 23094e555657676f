"""`docs/formulas.md`: its examples run, its sections are whole, and no formula is missing."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

DOC = Path(__file__).parents[1] / "docs" / "formulas.md"
CALC = Path(__file__).parents[1] / "attnbench" / "calc"
SECTIONS = re.split(r"^## ", DOC.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]


def test_the_examples_run() -> None:
    ran = doctest.testfile(str(DOC), module_relative=False, encoding="utf-8")
    assert ran.failed == 0
    assert ran.attempted >= 2 * len(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.splitlines()[0])
def test_a_section_has_code_unit_source_and_example(section: str) -> None:
    for part in ("\n`attnbench.", "\nUnit: ", "\nSource: ", "\n>>> "):
        assert part in section


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`(attnbench\.\w+(?:\.\w+)+)`", DOC.read_text("utf-8"))))
)
def test_what_it_names_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


# Estimates of a backend's working memory, and glue between formulas that are there.
NOT_FORMULAS = ("_workspace", "tokens_held", "nf4_layout")


def _sourced() -> list[str]:
    """Public functions under `calc` whose docstring names a source."""
    found = []
    for path in sorted(CALC.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and "Source:" in (ast.get_docstring(node) or ""):
                found.append(node.name)
    return [name for name in found if not name.endswith(NOT_FORMULAS)]


@pytest.mark.parametrize("name", _sourced())
def test_every_formula_with_a_source_stands_there(name: str) -> None:
    assert f".{name}`" in DOC.read_text(encoding="utf-8")
