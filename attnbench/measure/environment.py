"""What this machine is: the device, its memory and caches, versions, load."""

import contextlib
import os
import platform
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

_EXTRA_OF = {
    "torch": "bench", "triton": "bench", "numpy": "bench", "scipy": "bench",
    "pandas": "bench", "psutil": "bench",
}  # fmt: skip
_REPORTED = ("torch", "triton", "numpy", "scipy", "flash-attn", "flash-attn-3", "flashinfer-python")


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """The device that a sweep runs on.

    `type` is torch's ("cpu" or "cuda", ROCm too). `memory_bytes` is what it has,
    `free_bytes` what is free now, `cache_bytes` its last-level cache (None where the
    system does not say).
    """

    type: str
    name: str
    memory_bytes: int
    free_bytes: int
    cache_bytes: int | None
    details: dict[str, Any]


def describe_device(wanted: str) -> Device:
    """The device that `wanted` ("auto", "cuda", "cpu") stands for. Imports torch.

    Raises:
        RuntimeError: `wanted` is "cuda" and torch sees no such device.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA or ROCm device")
    if wanted == "cpu" or not torch.cuda.is_available():
        return _cpu(torch.get_num_threads())
    found = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    return Device(
        type="cuda",
        name=found.name,
        memory_bytes=total,
        free_bytes=free,
        cache_bytes=getattr(found, "L2_cache_size", None) or None,
        details={
            "capability": f"{found.major}.{found.minor}",
            "gcn_arch": getattr(found, "gcnArchName", None) if torch.version.hip else None,
            "multiprocessors": found.multi_processor_count,
            "cuda": torch.version.cuda,
            "hip": torch.version.hip,
            "driver": _driver(),
        },
    )


def _cpu(threads: int) -> Device:
    import psutil

    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    memory = psutil.virtual_memory()
    limit = _cgroup_limit()
    total = min(memory.total, limit) if limit else memory.total
    return Device(
        type="cpu",
        name=cpu_name(),
        memory_bytes=total,
        free_bytes=min(memory.available, total),
        cache_bytes=_last_level_cache(),
        details={
            "threads": threads,
            "cores": psutil.cpu_count(logical=False),
            "affinity": affinity,
            "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        },
    )


def cpu_name() -> str:
    """The processor's model name with its core count: 'Intel(R) Xeon(R) Processor, 2 cores'."""
    model = platform.processor() or platform.machine()
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} cores"


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that a figure depends on."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _REPORTED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def missing_packages() -> dict[str, str]:
    """Packages that measuring needs and this Python has not, with the extra each is in."""
    return {name: extra for name, extra in _EXTRA_OF.items() if find_spec(name) is None}


def system() -> dict[str, str]:
    """Operating system and architecture; no host or user name."""
    return {"platform": sys.platform, "release": platform.release(), "machine": platform.machine()}


def _last_level_cache() -> int | None:
    """Bytes of the largest cache of CPU 0, as Linux lists it."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = (_read(str(path)) or "").upper()
        scale = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
        with contextlib.suppress(ValueError):
            sizes.append(int(text.rstrip("KM")) * scale)
    return max(sizes, default=None)


def _cgroup_limit() -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError):
            return int(_read(path) or "")
    return None


def _driver() -> str | None:
    try:
        import pynvml

        pynvml.nvmlInit()  # type: ignore[no-untyped-call]
        version = pynvml.nvmlSystemGetDriverVersion()
    except Exception:  # no NVML on this machine: ROCm, a container without it
        return None
    return version if isinstance(version, str) else str(version, "ascii")


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None
