"""The high-water mark of one call, in a pass of its own that is never timed."""

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from attnbench.calc.operands import held_bytes, result_bytes
from attnbench.measure.isolation import Say
from attnbench.measure.plan import Point

_M_MMAP_THRESHOLD = -3  # glibc's malloc.h


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes at the high-water mark: all of them, and those beyond inputs and results."""

    peak_memory_bytes: int
    workspace_bytes: int


def _peak(point: Point, beyond_inputs: int) -> Peak:
    operands = held_bytes(point.shape, point.mode)
    results = result_bytes(point.shape, point.mode)
    beyond = max(beyond_inputs, results)
    return Peak(peak_memory_bytes=operands - results + beyond, workspace_bytes=beyond - results)


def device_peak(call: Callable[[], Any], point: Point) -> Peak:
    """The peak of `call` by the device allocator's own count; inputs stand already."""
    import torch

    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return _peak(point, torch.cuda.max_memory_allocated() - before)


def host_peak(point: Point, say: Say) -> Peak:
    """Job: the peak of `point` on the CPU, as resident memory of this fresh process.

    The point is prepared and called twice, and the second time counts: the first maps
    the library's code and starts its threads, which differs by megabytes from run to
    run. Between them the allocator gives back what it holds free, or the second would
    use that again unseen; and it maps each tensor apart, so that how the heap happens to
    be cut up changes nothing.
    """
    from attnbench.measure.inputs import make_inputs
    from attnbench.measure.worker import build_call

    _map_each_tensor_apart()
    inputs = make_inputs(point.shape, point.mode, "cpu")
    build_call(point, inputs, "cpu")()
    say("again")
    _trim()
    before = _reset_mark()
    result = build_call(point, inputs, "cpu")()
    peak = _high_water_mark() - before
    del result
    return _peak(point, peak)


def _map_each_tensor_apart() -> None:
    """Allocations over 64 KiB get pages of their own, given back when freed (glibc)."""
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_M_MMAP_THRESHOLD, 64 << 10)


def _trim() -> None:
    """Give free memory back to the system, where the C library can (glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _reset_mark() -> int:
    """Set the high-water mark to what is resident now, where Linux lets us; answer it."""
    if sys.platform == "linux":
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    return _high_water_mark()


def _high_water_mark() -> int:
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
    else:
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used << 10
