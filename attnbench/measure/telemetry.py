"""What a device is doing while it is timed: clocks, power, temperature, throttling, load."""

import contextlib
import os
from pathlib import Path
from typing import Any

import msgspec

# NVML's reasons for clocks under their maximum that make a timing suspect. Idle, the
# applications' own setting and a display's are none.
# Source: NVML API reference, nvmlClocksEventReasons.
_REASONS = {
    0x0004: "software power cap",
    0x0008: "hardware slowdown",
    0x0020: "software thermal slowdown",
    0x0040: "hardware thermal slowdown",
    0x0080: "hardware power brake",
}

# Of its threads' time: what a quiet machine's own daemons take is a hundredth.
_WAITED = 0.1
_THROTTLED, _DISTURBED = "throttled:", "disturbed:"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a device; what it does not tell is None.

    `ran_s` and `waited_s`: of this process's threads since they started, with a core, and
    without one for other threads.
    """

    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    power_w: float | None = None
    temperature_c: int | None = None
    throttled: tuple[str, ...] = ()
    load_1min: float | None = None
    ran_s: float | None = None
    waited_s: float | None = None


def look(device_type: str) -> Reading:
    """The device as it is now: a GPU through NVML where there is one, a CPU by its load."""
    if device_type != "cuda":
        ran_s, waited_s = _scheduled()
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return Reading(load_1min=load, ran_s=ran_s, waited_s=waited_s)
    nvml, handle = _handle()
    if nvml is None:
        return Reading()
    masks = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return Reading(
        sm_clock_mhz=nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        memory_clock_mhz=nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
        power_w=nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        temperature_c=nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        throttled=tuple(name for bit, name in _REASONS.items() if masks & bit),
    )


def _handle() -> tuple[Any, Any]:
    """NVML and its handle of torch's device 0; (None, None) where there is no NVML."""
    import torch

    try:
        import pynvml

        pynvml.nvmlInit()  # type: ignore[no-untyped-call]
        uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid.encode())
    except Exception:  # ROCm, a container without the driver's library: no reading
        return None, None


def disturbance(before: Reading, after: Reading) -> str:
    """What makes times taken between two readings suspect; empty: nothing that is known of."""
    if after.throttled:
        return f"{_THROTTLED} {', '.join(after.throttled)}"
    ran = (after.ran_s or 0.0) - (before.ran_s or 0.0)
    waited = (after.waited_s or 0.0) - (before.waited_s or 0.0)
    # Less than before: threads that ended are counted no more.
    if min(ran, waited) < 0 or waited <= _WAITED * (ran + waited):
        return ""
    share = waited / (ran + waited)
    return f"{_DISTURBED} its threads waited {share:.0%} of their time for a core"


def is_suspect(note: str) -> bool:
    """Whether a row's `note` tells of a `disturbance`."""
    return _THROTTLED in note or _DISTURBED in note


def _scheduled() -> tuple[float | None, float | None]:
    """Seconds that this process's threads ran, and waited for a core; (None, None): not told.

    Source: Linux, Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat.
    """
    ran = waited = 0
    try:
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                on, off, _ = (thread / "schedstat").read_text().split()
                ran, waited = ran + int(on), waited + int(off)
    except (OSError, ValueError):  # another system, or a kernel built without
        return None, None
    return (ran / 1e9, waited / 1e9) if ran else (None, None)
