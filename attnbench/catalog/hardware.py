"""Accelerators by name: one YAML file each, under `profiles/hardware`."""

from pathlib import Path

from attnbench import profiles
from attnbench.catalog.yaml_file import read_yaml
from attnbench.errors import UserError, unknown_name
from attnbench.spec.hardware import HardwareSpec

_FOLDER = Path(next(iter(profiles.__path__))) / "hardware"
_MEMORY_TOLERANCE = 0.12  # between what is sold and what a driver shows; a MIG slice is further off


def gpu_names() -> tuple[str, ...]:
    """Names of the accelerators there are, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_gpu(name: str) -> HardwareSpec:
    """The accelerator called `name`, or the one in the YAML file that `name` is a path to.

    Raises:
        UserError: there is none of that name, or its file is not a hardware profile.

    >>> load_gpu("h100-sxm").published.bandwidth_bytes_per_s
    3350000000000.0
    """
    if name.endswith((".yaml", ".yml")):
        return read_yaml(Path(name), HardwareSpec)
    path = _FOLDER / f"{name}.yaml"
    if "/" in name or not path.is_file():
        raise unknown_name("GPU", name, gpu_names(), see="attnbench gpus")
    label = f"profiles/hardware/{name}.yaml"
    spec = read_yaml(path, HardwareSpec, label=label)
    if spec.name != name:
        raise UserError(f"{label}: name: {spec.name!r} is not the file's name")
    return spec


def find_by_device_name(name: str, memory_bytes: int) -> HardwareSpec | None:
    """The accelerator that a driver or torch calls `name`, with about `memory_bytes`.

    None where no profile knows the name, or where the memory is not that of the whole
    part (a MIG slice, a card with half the memory).

    >>> find_by_device_name("NVIDIA H100 80GB HBM3", 85_017_755_648).name
    'h100-sxm'
    """
    wanted = _plain(name)
    best: tuple[float, HardwareSpec] | None = None
    for known in gpu_names():
        spec = load_gpu(known)
        if wanted not in map(_plain, spec.device_names):
            continue
        off = abs(spec.memory_bytes / memory_bytes - 1) if memory_bytes > 0 else 1.0
        if off <= _MEMORY_TOLERANCE and (best is None or off < best[0]):
            best = off, spec
    return best[1] if best else None


def _plain(name: str) -> str:
    """`name` without case, spaces, or the maker's name, which drivers left out once."""
    return " ".join(name.lower().split()).removeprefix("nvidia ")
