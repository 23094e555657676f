"""Safetensors files and their index: headers only, exact bytes as stored, no code.

A header is 8 bytes of length, then JSON: tensor name, dtype, shape, offsets.
Source: github.com/huggingface/safetensors, "Format".
"""

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from attnbench.catalog.config_json import read_json
from attnbench.errors import UserError
from attnbench.spec.model import ModelSpec

_MAX_HEADER = 100_000_000  # the format's own limit
_INDEX = "model.safetensors.index.json"
_MAX_INDEX = 64 << 20


def read(path: Path) -> ModelSpec:
    """The model whose weights `path` holds, by the config.json beside it.

    Raises:
        UserError: it is no safetensors file or index, or there is no config.json.
    """
    from attnbench.catalog.resolve import from_file

    stored = index_bytes(path) if path.suffix == ".json" else stored_bytes(path)
    config = path.parent / "config.json"
    if not config.is_file():
        raise UserError(
            f"{path}: its {stored:,} bytes of weights do not say the model's layout",
            hint=f"Put the model's config.json beside it, in {path.parent}.",
        )
    spec = from_file(config, name=path.resolve().parent.name)
    return msgspec.structs.replace(spec, stored_bytes=stored, source=str(path))


def stored_bytes_in(folder: Path) -> int | None:
    """Bytes of the weights that `folder` holds as safetensors; None where it holds none.

    Raises:
        UserError: a file there is damaged, or the index names files elsewhere.
    """
    index = folder / _INDEX
    if index.is_file():
        return index_bytes(index)
    single = folder / "model.safetensors"
    return stored_bytes(single) if single.is_file() else None


def index_bytes(path: Path) -> int:
    """Bytes of the weights in the files that the index at `path` names.

    Where the files are not there, the index's own `total_size`.

    Raises:
        UserError: it is no index, or names a file outside its folder.
    """
    index = read_json(path, limit=_MAX_INDEX)
    files = index.get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(f, str) for f in files.values()):
        raise UserError(f"{path}: weight_map: is no mapping of tensors to files")
    names = sorted(set(files.values()))
    for name in names:
        if os.path.basename(name) != name or name in (".", "..") or "\\" in name or "\0" in name:
            raise UserError(f"{path}: weight_map: {name[:80]!r} is no file beside the index")
    found = [path.parent / name for name in names]
    if found and all(file.is_file() for file in found):
        return sum(stored_bytes(file) for file in found)
    metadata = index.get("metadata")
    size = metadata.get("total_size") if isinstance(metadata, dict) else None
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size < 1 << 60:
        raise UserError(
            f"{path}: metadata.total_size: is no number of bytes, and files are missing"
        )
    return size


def stored_bytes(path: Path) -> int:
    """Bytes of all tensors in the safetensors file at `path`.

    Raises:
        UserError: the header is damaged, or does not fit the file.
    """
    total = 0
    for name, entry in header(path).items():
        if name == "__metadata__":
            continue
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not (
            isinstance(offsets, list)
            and len(offsets) == 2
            and all(type(o) is int for o in offsets)
            and 0 <= offsets[0] <= offsets[1]
        ):
            raise UserError(f"{path}: {name[:80]!r}: its data_offsets are damaged")
        total += offsets[1] - offsets[0]
    return total


def header(path: Path) -> dict[str, Any]:
    """The header of the safetensors file at `path`.

    Raises:
        UserError: it has none.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(_MAX_HEADER, size - 8):
                raise UserError(f"{path}: no safetensors file: its header does not fit")
            raw = file.read(length)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: no safetensors file: its header is no JSON") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: no safetensors file: its header is no mapping")
    return data
