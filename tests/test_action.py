"""action.yml: its step runs `check` as the command takes it, with every input handed on."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from attnbench.commands import check

ROOT = Path(__file__).parent.parent
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
STEP: dict[str, Any] = next(s for s in ACTION["runs"]["steps"] if s.get("id") == "check")


def test_every_input_is_used_and_every_one_used_is_there() -> None:
    used = set(re.findall(r"inputs\.([a-z-]+)", str(ACTION["runs"])))
    assert used == set(ACTION["inputs"])


def test_the_options_are_those_of_the_command() -> None:
    taken = {name for p in get_command(check.app).params for name in p.opts}
    assert set(re.findall(r"--[a-z-]+", STEP["run"])) <= taken


@pytest.mark.parametrize(("code", "passed"), [(0, "true"), (1, "false"), (4, "false")])
def test_the_step_hands_on_what_it_is_given_and_how_it_ended(
    code: int, passed: str, tmp_path: Path
) -> None:
    fake = tmp_path / "attnbench"
    fake.mkdir()
    (fake / "__main__.py").write_text(
        "import pathlib, sys\n"
        "pathlib.Path('words').write_text('\\n'.join(sys.argv[1:]))\n"
        f"sys.exit({code})\n"
    )
    inputs = {name: given.get("default", "") for name, given in ACTION["inputs"].items()}
    inputs |= {"ref": "abc", "variant": "a.py:X\nb c.py:Y\n", "args": "--missing warn"}

    def filled(text: str) -> str:
        return re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda m: str(inputs[m[1]]), text)

    environment = {name: filled(value) for name, value in STEP["env"].items()}
    outputs = tmp_path / "outputs"
    environment |= {
        "GITHUB_OUTPUT": str(outputs),
        "PYTHONPATH": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", filled(STEP["run"])],
        cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert outputs.read_text() == f"passed={passed}\n"
    words = (tmp_path / "words").read_text().split("\n")
    assert words[:5] == ["check", "--ab", "abc", "--preset", "smoke"]
    assert words[5:9] == ["--variant", "a.py:X", "--variant", "b c.py:Y"]
    assert words[-2:] == ["--missing", "warn"]
