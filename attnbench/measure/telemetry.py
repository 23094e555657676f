"""What a device is doing while it is timed: clocks, power, temperature, throttling, load."""

import os
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


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a device; what it does not tell is None."""

    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    power_w: float | None = None
    temperature_c: int | None = None
    throttled: tuple[str, ...] = ()
    load_1min: float | None = None


def look(device_type: str) -> Reading:
    """The device as it is now: a GPU through NVML where there is one, a CPU by its load."""
    if device_type != "cuda":
        return Reading(load_1min=os.getloadavg()[0] if hasattr(os, "getloadavg") else None)
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
