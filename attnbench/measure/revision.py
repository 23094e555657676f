"""Another revision of a repository, in a worktree of its own, and how Python imports a tree."""

import contextlib
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from attnbench.errors import MachineError, UserError


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A checkout that code is timed from: what it is called, where, what Python imports."""

    name: str
    folder: Path
    import_path: str


def repository_root(folder: Path) -> Path:
    """The top of the git repository that `folder` is in.

    Raises:
        UserError: it is in none.
        MachineError: there is no git.
    """
    return Path(_git(folder, "rev-parse", "--show-toplevel"))


@contextlib.contextmanager
def checked_out(repository: Path, ref: str) -> Iterator[tuple[Tree, Tree]]:
    """The tree of `ref` and the working tree of `repository`, as long as the context lasts.

    Raises:
        UserError: `ref` names no commit, or its worktree cannot be made.
        MachineError: there is no git.
    """
    commit = _git(repository, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", what=ref)
    with tempfile.TemporaryDirectory(prefix="attnbench-ab-") as made:
        room = Path(made)
        other = room / "tree"
        _git(repository, "worktree", "add", "--detach", str(other), commit)
        try:
            yield (
                _tree(f"{ref} ({commit[:10]})", other, room / "links-before"),
                working_tree(repository, room / "links-now"),
            )
        finally:
            _git(repository, "worktree", "remove", "--force", str(other))


def working_tree(repository: Path, links: Path) -> Tree:
    """The files of `repository` as they are now, committed or not."""
    return _tree("working tree", repository, links)


def _tree(name: str, folder: Path, links: Path) -> Tree:
    return Tree(name=name, folder=folder, import_path=_import_path(folder, links))


def _import_path(tree: Path, links: Path) -> str:
    """What PYTHONPATH must be for `tree`'s packages to be found before installed ones.

    The tree, and its `src`; where its pyproject.toml maps packages to other folders, as
    attnbench's does, links under `links` that are laid out as they would be installed.
    """
    mapped = _package_dirs(tree / "pyproject.toml")
    if not mapped:
        return ":".join(str(path) for path in (tree / "src", tree) if path.is_dir())
    for name in dict.fromkeys(package.split(".")[0] for package in mapped):
        (links / name).mkdir(parents=True)
        for entry in sorted((tree / name).iterdir()):
            (links / name / entry.name).symlink_to(entry)
    for package, folder in mapped.items():
        (links / Path(*package.split("."))).symlink_to(tree / folder)
    return str(links)


def _package_dirs(path: Path) -> dict[str, str]:
    """Packages inside other packages that setuptools is told to find elsewhere."""
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    table = about.get("tool", {}).get("setuptools", {}).get("package-dir", {})
    return {name: folder for name, folder in table.items() if "." in name}


def _git(folder: Path, *arguments: str, what: str | None = None) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise MachineError("git is not installed", hint="--ab checks out a revision.") from None
    if done.returncode:
        reason = " ".join(done.stderr.split()) or "no such commit"
        raise UserError(f"git: {what or folder}: {reason}")
    return done.stdout.strip()
