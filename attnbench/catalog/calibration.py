"""Which calibrated constants serve a GPU and an engine: its own, or the nearest there are.

A profile's `calibration` holds sets by engine and one `default`. What a GPU has not is
looked for in `profiles/calibration/families.yaml`: the same engine on the GPU's family,
the same kernel there, the same kernel anywhere, then the GPU's default, its family's and
everyone's. Every answer says where it comes from.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import msgspec

from attnbench import profiles
from attnbench.calc.attention_time import Constants
from attnbench.calc.attention_work import Chip, chip_of
from attnbench.calc.carry import carried_decode, carried_prefill
from attnbench.catalog.yaml_file import read_yaml
from attnbench.engines.attention import USUAL_STEP, AttentionEngine
from attnbench.spec.calibration import (
    REFERENCE,
    Calibration,
    DecodeConstants,
    PrefillConstants,
    ServingCalibration,
)
from attnbench.spec.hardware import HardwareSpec

_FOLDER = Path(next(iter(profiles.__path__))) / "calibration"
ANY = "any"
DEFAULT = "default"
# Compute capabilities that share a kernel's design, and so its constants.
_FAMILIES = {
    "sm_80": "ampere", "sm_90": "hopper", "sm_100": "blackwell", "sm_103": "blackwell",
    "sm_86": "gddr", "sm_89": "gddr", "sm_120": "gddr", "sm_121": "gddr",
}  # fmt: skip


class Families(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sets by family of GPUs (`any`: all), then by engine, kernel or `default`."""

    families: dict[str, dict[str, Calibration]]


class Engines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Serving constants by engine (`any`: all)."""

    engines: dict[str, ServingCalibration]


def family_of(gpu: HardwareSpec) -> str:
    """The family whose constants stand in for `gpu`'s own."""
    return _FAMILIES.get(gpu.target or "", gpu.architecture or gpu.name)


@cache
def families() -> dict[str, dict[str, Calibration]]:
    """The sets of families, as shipped."""
    path = _FOLDER / "families.yaml"
    return read_yaml(path, Families, label="profiles/calibration/families.yaml").families


@cache
def _engines() -> dict[str, ServingCalibration]:
    path = _FOLDER / "engines.yaml"
    return read_yaml(path, Engines, label="profiles/calibration/engines.yaml").engines


def serving_constants(engine: str) -> ServingCalibration:
    """The constants of an engine that serves whole models; everyone's where it has none."""
    known = _engines()
    return known.get(engine, known[ANY])


def candidates(
    gpu: HardwareSpec,
    engine: AttentionEngine | None,
    shared: Callable[[], dict[str, dict[str, Calibration]]],
) -> Iterator[tuple[str, Calibration]]:
    """Sets that may serve `engine` on `gpu`, the best first, each with its name.

    `shared` answers the families' sets; it is called where the GPU's own do not do.
    """
    own, family, chip = gpu.calibration, family_of(gpu), chip_of(gpu)

    def carried(name: str, found: Calibration) -> tuple[str, Calibration]:
        return name, carried_set(found, chip)

    if engine is not None:
        if engine.key in own:
            yield f"{gpu.name}.{engine.key}", own[engine.key]
        near, far = shared().get(family, {}), shared().get(ANY, {})
        for key in (engine.key, engine.kernel):
            if key in near:
                yield carried(f"{family}.{key}", near[key])
        if engine.kernel in far and gpu.vendor == "nvidia":
            yield carried(f"{ANY}.{engine.kernel}", far[engine.kernel])
        for key in engine.relatives:
            if key in near:
                yield carried(f"{family}.{key}", near[key])
    if DEFAULT in own:
        yield f"{gpu.name}.{DEFAULT}", own[DEFAULT]
    for where in (family, ANY):
        sets = shared().get(where, {})
        if DEFAULT in sets:
            yield carried(f"{where}.{DEFAULT}", sets[DEFAULT])


def carried_set(found: Calibration, chip: Chip) -> Calibration:
    """A family's set, which is written for `REFERENCE`, on `chip`."""
    return msgspec.structs.replace(
        found,
        prefill=found.prefill and carried_prefill(found.prefill, chip, REFERENCE),
        decode=found.decode and carried_decode(found.decode, chip, REFERENCE),
        decode_fp8=found.decode_fp8 and carried_decode(found.decode_fp8, chip, REFERENCE),
    )


def constants_for(gpu: HardwareSpec, engine: AttentionEngine | None = None) -> Constants:
    """The constants that serve `engine` (None: any good kernel) on `gpu` best."""
    return constants_from(candidates(gpu, engine, families), engine)


def constants_from(
    sets: Iterable[tuple[str, Calibration]], engine: AttentionEngine | None
) -> Constants:
    """The first constants of each kind among `sets`, which are named and in order."""
    prefill: tuple[str, Calibration, PrefillConstants] | None = None
    decode: tuple[str, Calibration, DecodeConstants] | None = None
    for name, found in sets:
        if prefill is None and found.prefill is not None:
            prefill = name, found, found.prefill
        if decode is None and found.decode is not None:
            decode = name, found, found.decode
        if prefill and decode:
            break
    assert prefill is not None
    assert decode is not None
    return Constants(
        prefill=prefill[2],
        decode=decode[2],
        prefill_band=prefill[1].prefill_band,
        decode_band=decode[1].decode_band,
        prefill_origin=prefill[0],
        decode_origin=decode[0],
        decode_fp8=decode[1].decode_fp8,
        step=engine.step if engine else USUAL_STEP,
    )
