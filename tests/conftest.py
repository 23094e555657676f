"""Fixtures that every test file may use."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from attnbench.cli import run


class Ran(NamedTuple):
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def attnbench(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs `attnbench ARGS...` in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return call
