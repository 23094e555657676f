"""Writes sets of constants as YAML: into hardware profiles, and into the families' file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from attnbench.files import write_atomically
from attnbench.spec.calibration import REFERENCE, Calibration, ServingCalibration
from attnbench.spec.hardware import HardwareSpec

_BLOCK = re.compile(r"^calibration:\n(?:[ ].*\n?|\n)*", re.MULTILINE)
_FIGURES = 4


def calibration_yaml(
    sets: Mapping[str, Calibration | ServingCalibration],
    *,
    indent: str = "  ",
    first: str = "default",
) -> str:
    """The sets as the lines under a `calibration:` key, that called `first` first."""
    lines = []
    for engine, found in sorted(sets.items(), key=lambda item: (item[0] != first, item[0])):
        lines.append(f"{indent}{engine}:")
        for key, value in msgspec.to_builtins(found).items():
            if isinstance(value, dict):
                inner = ", ".join(f"{name}: {_number(each)}" for name, each in value.items())
                lines.append(f"{indent}  {key}: {{{inner}}}")
            elif value is not None:
                lines.append(f"{indent}  {key}: {_number(value)}")
    return "\n".join(lines) + "\n"


def update_profile(path: Path, sets: dict[str, Calibration]) -> None:
    """Puts `sets` in place of the profile's own; without any, takes those away."""
    text = _BLOCK.sub("", path.read_text(encoding="utf-8")).rstrip("\n") + "\n"
    if sets:
        text += "calibration:\n" + calibration_yaml(sets)
    write_atomically(path, text)


def profile_yaml(gpu: HardwareSpec) -> str:
    """A whole hardware profile, with its calibration: what `--gpu FILE.yaml` reads."""
    tree = msgspec.to_builtins(msgspec.structs.replace(gpu, calibration={}))
    del tree["calibration"]
    plain = yaml.safe_dump(_known(tree), sort_keys=False, allow_unicode=True, width=1000)
    return f"{plain}calibration:\n{calibration_yaml(gpu.calibration)}"


def _known(tree: dict[str, Any]) -> dict[str, Any]:
    """`tree` without what is not known, numbers so that a strict reader takes them."""
    made: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            made[key] = _known(value)
        elif value is not None:
            made[key] = list(value) if isinstance(value, tuple) else value
    return made


def engines_yaml(made: dict[str, ServingCalibration]) -> str:
    """The file of serving constants: everyone's first."""
    return "engines:\n" + calibration_yaml(made, first="any")


def families_yaml(sets: dict[str, dict[str, Calibration]]) -> str:
    """The families' file: everyone's sets first."""
    order = sorted(sets, key=lambda name: (name != "any", name))
    parts = [f"  {name}:\n{calibration_yaml(sets[name], indent='    ')}" for name in order]
    at = f"{REFERENCE.clock_hz / 1e9:g} GHz and {REFERENCE.bytes_per_s_per_sm / 1e9:g} GB/s an SM"
    head = f"# Written for a chip of {at}; calc/carry.py carries them to another.\n"
    return f"{head}families:\n" + "".join(parts)


def _number(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.{_FIGURES}g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_number(each) for each in value) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)
