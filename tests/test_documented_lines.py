"""Every `attnbench ...` line that the README and docs show is one that this version takes."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from attnbench.cli import app, run

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# What a line names that no reader has yet, and so it is parsed alone.
PLACEHOLDER = re.compile(r"\.(py|json|csv|log|yaml|html)\b|[A-Z]{3,}|runs/|/|--output|NAME")
# Answered from profiles alone: no torch, no device.
OFFLINE = {
    "kv-cache", "memory", "models", "gpus", "plan", "roofline", "complexity", "speculate",
    "paging", "patterns",
}  # fmt: skip


def lines_of(page: Path) -> list[list[str]]:
    """Words of the command lines in a page's code blocks, comments and pipes cut off."""
    found = []
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            shown = re.match(r"(?:\$ )?attnbench (.*)", line.strip())
            if shown:
                words = shlex.split(shown[1], comments=True)
                end = next((i for i, word in enumerate(words) if word in "|>&&"), len(words))
                found.append(words[:end])
    return found


DOCUMENTED = [(page, words) for page in PAGES for words in lines_of(page)]
SHOWN = [pytest.param(words, id=f"{page.stem}: {' '.join(words)}") for page, words in DOCUMENTED]
ANSWERED = [
    pytest.param(words, id=" ".join(words))
    for page, words in DOCUMENTED
    if page.name == "README.md"
    and (words[0] in OFFLINE or words[0] == "sweep")
    and not PLACEHOLDER.search(" ".join(words))
]


def test_the_pages_show_lines() -> None:
    assert len(SHOWN) > 60
    assert len(ANSWERED) > 12


@pytest.mark.parametrize("words", SHOWN)
def test_a_shown_line_is_parsed(words: list[str]) -> None:
    name, command, rest, context = "attnbench", get_command(app), list(words), None
    while hasattr(command, "resolve_command"):  # a group: what is left names one of its own
        context = command.make_context(name, rest, parent=context)
        left = [*context._protected_args, *context.args]
        if not left and command.invoke_without_command:
            return
        name, command, rest = command.resolve_command(context, left)
    command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("words", ANSWERED)
def test_a_line_of_the_readme_is_answered(words: list[str]) -> None:
    planned = ["--dry-run", "--device", "cpu"] if words[0] == "sweep" else []
    assert run([*words, *planned]) == 0
