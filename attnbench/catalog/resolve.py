"""What a MODEL argument means: a profile, a file, a folder, or a hub id."""

import os
import re
from pathlib import Path

from attnbench.catalog import profiles
from attnbench.catalog.adapters import from_config
from attnbench.catalog.config_json import read_json
from attnbench.errors import UserError, unknown_name
from attnbench.spec.model import ModelSpec

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (".json", ".gguf", ".safetensors")


def resolve(reference: str) -> ModelSpec:
    """The model that `reference` names: a profile first, then a path, then a hub id.

    Raises:
        UserError: there is none, or it cannot be read.
        MachineError: it is a GGUF file and the extra that reads it is missing.
    """
    if not reference or "\0" in reference:
        raise UserError("MODEL is empty", hint="`attnbench models` lists profiles.")
    found = profiles.find(reference)
    if found is not None:
        return profiles.load(reference, found)
    path = Path(reference).expanduser()
    if _exists(path):
        return from_path(path)
    looks_like_path = reference.endswith(_FILES) or reference.startswith((".", "/", "~"))
    if looks_like_path or (os.sep in reference.strip(os.sep) and not _HUB_ID.fullmatch(reference)):
        raise UserError(f"{reference}: no such file or folder")
    if _HUB_ID.fullmatch(reference):
        from attnbench.catalog import hub

        return from_file(hub.config_file(reference), name=reference, label=reference)
    raise unknown_name("model", reference, profiles.names(), see="attnbench models")


def from_path(path: Path) -> ModelSpec:
    """The model in a `config.json`, a folder that holds one, a GGUF or a safetensors file.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if path.is_dir():
        return _from_folder(path)
    if path.suffix == ".gguf":
        from attnbench.catalog import gguf_file

        return gguf_file.read(path)
    if path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json"):
        from attnbench.catalog import checkpoint

        return checkpoint.read(path)
    return from_file(path, name=_name(path))


def from_file(path: Path, *, name: str, label: str | None = None) -> ModelSpec:
    """The model in the `config.json` at `path`."""
    data = read_json(path, label=label)
    return from_config(data, label=label or str(path), name=name, source=str(path))


def _from_folder(folder: Path) -> ModelSpec:
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder}: holds no config.json")
    import msgspec

    from attnbench.catalog import checkpoint

    spec = from_file(path, name=folder.resolve().name)
    return msgspec.structs.replace(spec, stored_bytes=checkpoint.stored_bytes_in(folder))


def _name(path: Path) -> str:
    return path.resolve().parent.name if path.name == "config.json" else path.stem


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
