"""Model profiles: one YAML file each, shipped or the user's own."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from attnbench.errors import UserError
from attnbench.spec.model import ModelSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ModelProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A profile: where its figures come from, and the fields of its `config.json`."""

    source: str
    config: dict[str, Any]
    summary: str = ""


def shipped_folder() -> Path:
    """The folder of the profiles that come with attnbench."""
    import importlib.util

    spec = importlib.util.find_spec("attnbench.profiles")
    if spec is None or spec.origin is None:
        raise UserError("the profiles are not installed", hint="Install attnbench again.")
    return Path(spec.origin).parent / "models"


def user_folder() -> Path:
    """The folder of the user's own profiles; it need not exist."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "attnbench" / "models"


def find(name: str) -> Path | None:
    """The file of the profile `name`: a shipped one first, then the user's."""
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        return None
    for folder in (shipped_folder(), user_folder()):
        path = folder / f"{name}.yaml"
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):  # a name too long for a file system
            return None
    return None


def names() -> tuple[str, ...]:
    """Every profile's name, sorted."""
    found = {path.stem for folder in (shipped_folder(), user_folder()) for path in _files(folder)}
    return tuple(sorted(found))


def read(path: Path) -> ModelProfile:
    """The profile in the file at `path`.

    Raises:
        UserError: it is no profile.
    """
    from attnbench.catalog.yaml_file import read_yaml

    label = f"profiles/models/{path.name}" if path.parent == shipped_folder() else str(path)
    profile = read_yaml(path, ModelProfile, label=label)
    if not profile.source.strip():
        raise UserError(f"{label}: source: is empty; a profile names where its figures come from")
    return profile


def load(name: str, path: Path) -> ModelSpec:
    """The model that the profile at `path` describes."""
    from attnbench.catalog.adapters import from_config

    profile = read(path)
    return from_config(profile.config, label=path.name, name=name, source=profile.source)


def user_file(name: str) -> Path:
    """Where the user's profile `name` is kept.

    Raises:
        UserError: the name is no plain word, or a shipped profile has it.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name for a profile", hint="Use letters, digits, . - _")
    path = user_folder() / f"{name}.yaml"
    if find(name) not in (None, path):
        raise UserError(f"{name!r} is the name of a shipped profile", hint="Choose another: --name")
    return path


def text_of(config: Mapping[str, Any], *, source: str) -> str:
    """The YAML of a profile that holds `config`."""
    import yaml

    return yaml.safe_dump({"source": source, "config": dict(config)}, sort_keys=False)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.yaml"))
    except OSError:
        return []
