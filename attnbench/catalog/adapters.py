"""Finds the adapter of a model type, and turns a configuration into a `ModelSpec`."""

import functools
import importlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from attnbench.catalog.fields import Fields
from attnbench.spec.model import ModelSpec

_FAMILIES = Path(__file__).parent / "families"
_TYPES = re.compile(rb"^MODEL_TYPES = \(([^)]*)\)", re.MULTILINE)
_WORD = re.compile(rb'"([^"]+)"')


def from_config(data: Mapping[str, Any], *, label: str, name: str, source: str = "") -> ModelSpec:
    """The model that the fields of a `config.json` describe.

    `label` names the file in errors, `name` the model, `source` where it came from.

    Raises:
        UserError: a field is missing, of the wrong type, or contradicts another.
    """
    import msgspec

    spec = build(Fields(data, label=label, name=name))
    return msgspec.structs.replace(spec, name=name, source=source or label)


def build(c: Fields) -> ModelSpec:
    """The spec of `c` by its family's adapter, else by the general rule."""
    module = family(c.text("model_type"))
    if module is not None:
        made: ModelSpec = module.build(c)
        return made
    from attnbench.catalog import general

    return general.build(c)


def family(model_type: str) -> ModuleType | None:
    """The adapter module that names `model_type`, or None."""
    stem = module_of(_FAMILIES, model_type)
    return importlib.import_module(f"attnbench.catalog.families.{stem}") if stem else None


def module_of(folder: Path, model_type: str) -> str | None:
    """The name of the module in `folder` whose `MODEL_TYPES` hold `model_type`, or None."""
    own = folder / f"{model_type}.py"
    if model_type.isidentifier() and own.is_file():  # most often the file has the type's name
        found = _TYPES.search(own.read_bytes())
        if found is not None and model_type.encode() in _WORD.findall(found[1]):
            return model_type
    listed = (stem for stem, types in _listed(folder) if model_type in types)
    return next(listed, None)


def model_types() -> tuple[str, ...]:
    """Every model type that has an adapter, sorted."""
    return tuple(sorted(name for _, types in _listed(_FAMILIES) for name in types))


@functools.cache
def _listed(folder: Path) -> tuple[tuple[str, frozenset[str]], ...]:
    return tuple(_read(folder))


def _read(folder: Path) -> Iterator[tuple[str, frozenset[str]]]:
    # The line is read, not imported: start-up would pay for every family.
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".py") or name.startswith("_"):
            continue
        found = _TYPES.search((folder / name).read_bytes())
        if found is not None:
            types = frozenset(word.decode() for word in _WORD.findall(found[1]))
            yield name.removesuffix(".py"), types
