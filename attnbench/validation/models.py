"""Rows of real models: parameters counted, and bytes of cache by two conventions."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from attnbench.calc.kv_cache import Rules, Semantics, kv_cache_bytes
from attnbench.calc.params import count
from attnbench.catalog.adapters import from_config
from attnbench.catalog.config_json import read_json
from attnbench.errors import UserError
from attnbench.spec.model import ModelSpec
from attnbench.validation.row import Limit, Row, compare

_EXACT = Limit()


class _Case(msgspec.Struct, frozen=True):
    """A cache measured: `reference` bytes by the ideal rules, `transformers` bytes held."""

    batch: int
    seq_len: int
    reference: int | None = None
    transformers: int | None = None
    acceptable: tuple[int, ...] = ()


class _Model(msgspec.Struct, frozen=True):
    """One model of the shipped corpus."""

    config: dict[str, Any]
    total: int | None = None
    active: int | None = None
    cases: tuple[_Case, ...] = ()


class _FolderCase(msgspec.Struct, frozen=True):
    batch: int
    seq: int
    reference_bytes: int | None = None
    hf_bytes: int | None = None
    acceptable_bytes: dict[str, str] = {}


class _FolderModel(msgspec.Struct, frozen=True):
    total_params: int | None = None
    active_params: int | None = None
    cache: dict[str, _FolderCase] = {}


class _Folder(msgspec.Struct, frozen=True):
    models: dict[str, _FolderModel]


def rows(path: Path) -> list[Row]:
    """Every model of a folder (`configs/*.json`, `expected.json`) or of a shipped file.

    Raises:
        UserError: it is in neither form, or a configuration cannot be read.
    """
    return [
        _row(name, model, path.name)
        for name, model in (_in_folder(path) if path.is_dir() else _in_file(path))
    ]


def _in_file(path: Path) -> Iterator[tuple[str, _Model]]:
    yield from _convert(read_json(path), dict[str, _Model], path).items()


def _in_folder(folder: Path) -> Iterator[tuple[str, _Model]]:
    expected = _convert(read_json(folder / "expected.json"), _Folder, folder / "expected.json")
    for name, model in expected.models.items():
        if "/" in name or name.startswith("."):
            raise UserError(f"{folder}/expected.json: {name!r} is no name of a configuration")
        config = read_json(folder / "configs" / f"{name}.json")
        cases = tuple(
            _Case(
                batch=case.batch,
                seq_len=case.seq,
                reference=case.reference_bytes,
                transformers=case.hf_bytes,
                acceptable=tuple(int(n) for n in case.acceptable_bytes if n.isdigit()),
            )
            for case in model.cache.values()
        )
        yield (
            name,
            _Model(
                config=config, total=model.total_params, active=model.active_params, cases=cases
            ),
        )


def _convert(data: object, schema: Any, path: Path) -> Any:
    try:
        return msgspec.convert(data, schema)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: not a corpus of models: {error}") from None


def _row(name: str, model: _Model, corpus: str) -> Row:
    spec = from_config(model.config, label=f"{name}.json", name=name)
    counted = count(spec)
    predicted: dict[str, float | None] = {"params": counted.total, "active": counted.active}
    reported: dict[str, float | None] = {"params": model.total, "active": model.active}
    for case in model.cases:
        for semantics, told in (
            (Semantics.IDEAL, case.reference),
            (Semantics.TRANSFORMERS, case.transformers),
        ):
            key = f"cache_bytes.{semantics}.b{case.batch}_s{case.seq_len}"
            held = _held(spec, case, Rules(semantics=semantics))
            predicted[key] = held
            ideal = semantics is Semantics.IDEAL
            reported[key] = held if ideal and held in case.acceptable else told
    limits: Mapping[str, Limit] = dict.fromkeys(predicted, _EXACT)
    errors, within = compare(predicted, reported, limits, {}, {})
    return Row(
        id=name,
        corpus=corpus,
        family=spec.model_type,
        predicted=predicted,
        reported=reported,
        relative_error=errors,
        within=within,
    )


def _held(spec: ModelSpec, case: _Case, rules: Rules) -> int:
    return kv_cache_bytes(spec, seq_len=case.seq_len, batch=case.batch, rules=rules).total
