"""Times one call: device events on a GPU, the host's clock on a CPU."""

import time
from collections.abc import Callable
from typing import Any, Protocol

Call = Callable[[], Any]

FLUSH_FACTOR = 2  # bytes written to flush, over the last-level cache's size


class Timer(Protocol):
    """A way to time a call; `name` goes into column `timer`."""

    name: str

    def sample_ms(self, call: Call) -> float:
        """Milliseconds that one call took, flush and launch queue apart."""
        ...


class HostClock:
    """The monotonic host clock around a call that returns when its work is done."""

    name = "host_clock"

    def __init__(self, flush: Call | None) -> None:
        self._flush = flush

    def sample_ms(self, call: Call) -> float:
        """Milliseconds of one call."""
        if self._flush is not None:
            self._flush()
        start = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - start) / 1e6


class DeviceEvents:
    """CUDA or HIP events around a call, read once the device is idle again."""

    name = "device_events"

    def __init__(self, flush: Call | None) -> None:
        self._flush = flush

    def sample_ms(self, call: Call) -> float:
        """Milliseconds on the device between the two events."""
        import torch

        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        if self._flush is not None:
            self._flush()
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))


def make_timer(device_type: str, *, cache: str, cache_bytes: int | None) -> Timer:
    """The timer for a device, with a cache flush before each sample where `cache` is cold.

    Raises:
        ValueError: a cold cache is asked for and the cache's size is not known.
    """
    flush = None
    if cache == "cold":
        if not cache_bytes:
            raise ValueError("cache: cold needs the size of the last-level cache, not known here")
        import torch

        buffer = torch.empty(FLUSH_FACTOR * cache_bytes, dtype=torch.int8, device=device_type)
        flush = buffer.zero_
    return DeviceEvents(flush) if device_type == "cuda" else HostClock(flush)
