"""Times one call: device events or a CUDA graph on a GPU, the host's clock on a CPU."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

Call = Callable[[], Any]

FLUSH_FACTOR = 2  # bytes written to flush, or of rotated inputs, over the last-level cache's size
GRAPH_CALLS = 16  # in one graph, at least: one launch for all of them
MOST_COPIES = 64


class Timer(Protocol):
    """A way to time a call; `name` goes into column `timer`.

    `rotates` is whether a cold cache is had by calls on copies of the inputs, which
    `sample_ms` takes as a `Rotated` call. `inside_ms` is the time spent in calls so far.
    """

    name: str
    rotates: bool
    inside_ms: float

    def sample_ms(self, call: Call) -> float:
        """Milliseconds that one call took, flush and launch queue apart."""
        ...


class Rotated:
    """One call on several copies of its inputs, in turn: none finds its own in the cache."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = tuple(calls)
        self._turn = itertools.cycle(self.calls)

    def __call__(self) -> Any:
        """The next copy's call."""
        return next(self._turn)()


class HostClock:
    """The monotonic host clock around a call; on a GPU, until the device is idle."""

    name = "host_clock"
    rotates = False

    def __init__(self, flush: Call | None, wait: Call | None = None) -> None:
        self._flush = flush
        self._wait = wait
        self.inside_ms = 0.0

    def sample_ms(self, call: Call) -> float:
        """Milliseconds of one call."""
        if self._flush is not None:
            self._flush()
        if self._wait is not None:
            self._wait()
        start = time.perf_counter_ns()
        call()
        if self._wait is not None:
            self._wait()
        took = (time.perf_counter_ns() - start) / 1e6
        self.inside_ms += took
        return took


class DeviceEvents:
    """CUDA or HIP events around a call, read once the device is idle again."""

    name = "device_events"
    rotates = False

    def __init__(self, flush: Call | None) -> None:
        self._flush = flush
        self.inside_ms = 0.0

    def sample_ms(self, call: Call) -> float:
        """Milliseconds on the device between the two events."""
        if self._flush is not None:
            self._flush()
        took = _between_events(call)
        self.inside_ms += took
        return took


class CudaGraph:
    """A CUDA graph of many calls, replayed: what a call takes with nothing of its launch.

    A call is captured when it is first seen. For a cold cache it must be `Rotated` over
    inputs that together pass the cache: a flush would stand within the graph.
    """

    name = "cuda_graph"
    rotates = True

    def __init__(self) -> None:
        self.inside_ms = 0.0
        self._graphs: dict[int, tuple[Call, Any, int]] = {}

    def sample_ms(self, call: Call) -> float:
        """Milliseconds of one call, the mean over one replay.

        Raises:
            RuntimeError: the call cannot be captured.
        """
        if id(call) not in self._graphs:
            self._graphs[id(call)] = (call, *self._capture(call))
        _, graph, count = self._graphs[id(call)]
        took = _between_events(graph.replay)
        self.inside_ms += took
        return took / count

    def _capture(self, call: Call) -> tuple[Any, int]:
        import torch

        calls = call.calls if isinstance(call, Rotated) else (call,)
        turns = -(-GRAPH_CALLS // len(calls))
        side = torch.cuda.Stream()  # libraries set themselves up outside the capture
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for each in calls:
                each()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(turns):
                for each in calls:
                    each()
        return graph, turns * len(calls)


def make_timer(device_type: str, *, kind: str, cache: str, cache_bytes: int | None) -> Timer:
    """The timer `kind` ("auto": events on a GPU, else the host's clock), with a cold cache or not.

    Raises:
        ValueError: a cold cache is asked for and the cache's size is not known, or a
            device's timer where there is no device.
    """
    if cache == "cold" and not cache_bytes:
        raise ValueError("cache: cold needs the size of the last-level cache, not known here")
    if device_type != "cuda" and kind not in ("auto", HostClock.name):
        raise ValueError(f"timer: {kind} needs a CUDA or ROCm device; this is {device_type}")
    if kind == CudaGraph.name:
        return CudaGraph()
    import torch

    flush = None
    if cache == "cold" and cache_bytes:
        buffer = torch.empty(FLUSH_FACTOR * cache_bytes, dtype=torch.int8, device=device_type)
        flush = buffer.zero_
    if device_type != "cuda":
        return HostClock(flush)
    if kind == HostClock.name:
        return HostClock(flush, torch.cuda.synchronize)
    return DeviceEvents(flush)


def copies_needed(held_bytes: int, cache_bytes: int) -> int:
    """Copies of inputs and results that together pass the cache, so that each is cold again.

    >>> copies_needed(10 << 20, 50 << 20)
    11
    """
    return min(MOST_COPIES, FLUSH_FACTOR * cache_bytes // held_bytes + 1)


def regime(cache: str, held_bytes: int, cache_bytes: int | None) -> str:
    """What a sample finds in the last-level cache: column `cache_regime`.

    `cold`: nothing, it was flushed or others' inputs took its place. Asked for warm, it is
    `warm` only where operands and results can stay there; over twice the cache they
    displace each other in every call, and it is `streaming`.
    """
    if cache == "warm" and cache_bytes and held_bytes > FLUSH_FACTOR * cache_bytes:
        return "streaming"
    return cache


def _between_events(work: Call) -> float:
    import torch

    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
