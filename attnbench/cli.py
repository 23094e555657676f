"""The entry point: finds the command, runs it, and turns errors into exit codes.

A command is a module of `attnbench.commands` that holds `app`, a Typer; its name is
the file's, with dashes. Only the module of the command asked for is imported.
"""

import importlib
import os
import pkgutil
import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from attnbench import __version__, commands
from attnbench.errors import AttnbenchError, unknown_name

INTERRUPTED = 130


class _Commands(TyperGroup):
    """The commands there are, imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        found = pkgutil.iter_modules(commands.__path__)
        return sorted(m.name.replace("_", "-") for m in found if not m.name.startswith("_"))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        names = self.list_commands(ctx)
        if cmd_name not in names:
            if cmd_name.startswith("-"):
                return None
            raise unknown_name("command", cmd_name, names, see="attnbench --help")
        module = importlib.import_module(f"{commands.__name__}.{cmd_name.replace('-', '_')}")
        command = get_command(module.app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        print(f"attnbench {__version__}")
        raise typer.Exit


@app.callback(no_args_is_help=True)
def root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show a traceback when a command fails."),
) -> None:
    """Plan an LLM's memory, measure attention on this machine, gate regressions in CI."""


def run(arguments: list[str]) -> int:
    """Run the command line `arguments`; answers the exit code."""
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"]
    command = get_command(app)
    try:
        code = command.main(args=words or ["--help"], prog_name="attnbench", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except AttnbenchError as error:
        if debug:
            raise
        return _say(str(error), error.hint, error.exit_code)
    except typer.TyperException as error:
        if debug:
            raise
        context = getattr(error, "ctx", None)
        where = f"`{context.command_path} --help` shows what it takes." if context else None
        return _say(error.format_message(), where, error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`). Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return _say(f"unexpected {text}", "Run again with --debug for the traceback.", 1)


def _say(message: str, hint: str | None, code: int) -> int:
    print(f"attnbench: {' '.join(message.split())}", file=sys.stderr)
    if hint:
        print(f"  {' '.join(hint.split())}", file=sys.stderr)
    return code


def main() -> None:
    """The `attnbench` program."""
    sys.exit(run(sys.argv[1:]))
