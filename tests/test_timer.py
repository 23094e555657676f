"""Timers: what they call, how often, and what they divide by. No assertion on real time."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attnbench.measure import telemetry, timer
from attnbench.measure.timer import (
    GRAPH_CALLS,
    CudaGraph,
    DeviceEvents,
    HostClock,
    Rotated,
    copies_needed,
    make_timer,
    regime,
)


class FakeCuda:
    """As much of torch.cuda as timers use: a clock that only captured or called work moves."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.capturing: list[Any] | None = None

    def work(self) -> None:
        if self.capturing is not None:
            self.capturing.append(self.work)
        else:
            self.now_ms += 3.0

    def Event(self, enable_timing: bool) -> Any:
        event = SimpleNamespace(at=0.0, synchronize=lambda: None)
        event.record = lambda: setattr(event, "at", self.now_ms)
        event.elapsed_time = lambda other: other.at - event.at
        return event

    def Stream(self) -> Any:
        return SimpleNamespace(wait_stream=lambda other: None)

    current_stream = Stream

    @contextmanager
    def stream(self, stream: Any) -> Any:
        yield

    def CUDAGraph(self) -> Any:
        graph = SimpleNamespace(calls=[])
        graph.replay = lambda: [call() for call in graph.calls]
        return graph

    @contextmanager
    def graph(self, graph: Any) -> Any:
        self.capturing = graph.calls
        yield
        self.capturing = None


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(torch, "cuda", fake)
    return fake


def test_events_time_the_call_and_not_the_flush(cuda: FakeCuda) -> None:
    flushed: list[float] = []

    def flush() -> None:
        flushed.append(cuda.now_ms)
        cuda.now_ms += 100.0

    events = DeviceEvents(flush)
    assert [events.sample_ms(cuda.work) for _ in range(3)] == [3.0] * 3
    assert len(flushed) == 3
    assert events.inside_ms == 9.0


def test_a_graph_is_captured_once_and_divided_by_its_calls(cuda: FakeCuda) -> None:
    graphs, call = CudaGraph(), cuda.work
    assert graphs.sample_ms(call) == 3.0
    assert graphs.sample_ms(call) == 3.0
    assert graphs.inside_ms == 2 * GRAPH_CALLS * 3.0
    # one call outside the capture, then two replays
    assert cuda.now_ms == 3.0 + graphs.inside_ms


def test_a_graph_takes_every_copy_as_often_as_the_others(cuda: FakeCuda) -> None:
    turns = [0] * 5

    def copy(number: int) -> Any:
        def call() -> None:
            turns[number] += 1
            cuda.work()

        return call

    graphs = CudaGraph()
    assert graphs.sample_ms(Rotated([copy(n) for n in range(5)])) == 3.0
    assert len(set(turns)) == 1
    assert graphs.inside_ms == 20 * 3.0  # the fewest whole turns of 16 calls


def test_a_rotated_call_takes_its_copies_in_turn() -> None:
    seen: list[int] = []
    call = Rotated([lambda n=n: seen.append(n) for n in range(3)])  # type: ignore[misc]
    for _ in range(7):
        call()
    assert seen == [0, 1, 2, 0, 1, 2, 0]


def test_the_host_clock_counts_what_is_inside_alone() -> None:
    clock = HostClock(flush=lambda: sum(range(200_000)))
    took = [clock.sample_ms(lambda: None) for _ in range(5)]
    assert clock.inside_ms == pytest.approx(sum(took))
    waited: list[int] = []
    HostClock(None, lambda: waited.append(1)).sample_ms(lambda: None)
    assert len(waited) == 2  # before the clock starts, and before it stops


@pytest.mark.parametrize(
    ("kind", "cache", "says"),
    [
        ("device_events", "warm", "needs a CUDA"),
        ("cuda_graph", "warm", "needs a CUDA"),
        ("auto", "cold", "size of the last-level cache"),
    ],
)
def test_a_timer_that_cannot_be_is_refused(kind: str, cache: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_timer("cpu", kind=kind, cache=cache, cache_bytes=None)


def test_the_timer_that_is_asked_for_is_made(cuda: FakeCuda) -> None:
    assert make_timer("cpu", kind="auto", cache="warm", cache_bytes=None).name == "host_clock"
    for kind in ("device_events", "cuda_graph", "host_clock"):
        cuda.synchronize = lambda: None  # type: ignore[attr-defined]
        assert make_timer("cuda", kind=kind, cache="warm", cache_bytes=1).name == kind


def test_copies_pass_twice_the_cache() -> None:
    for held in (1 << 20, 7 << 20, 200 << 20):
        copies = copies_needed(held, 50 << 20)
        assert copies * held > timer.FLUSH_FACTOR * (50 << 20) or copies == timer.MOST_COPIES
        assert copies == 1 or (copies - 1) * held <= timer.FLUSH_FACTOR * (50 << 20)


def test_what_cannot_stay_in_the_cache_is_not_called_warm() -> None:
    assert regime("cold", 1, 100) == "cold"
    assert regime("warm", 200, 100) == "warm"
    assert regime("warm", 201, 100) == "streaming"
    assert regime("warm", 10**12, None) == "warm"


def test_a_gpus_clocks_and_throttling_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or "handle",
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x1 | 0x4 | 0x40,
        nvmlDeviceGetClockInfo=lambda handle, which: {0: 1755, 2: 2619}[which],
        nvmlDeviceGetPowerUsage=lambda handle: 698_500,
        nvmlDeviceGetTemperature=lambda handle, which: 83,
        NVML_CLOCK_SM=0,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    about = SimpleNamespace(uuid="1234")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: about)
    seen = telemetry.look("cuda")
    assert asked == [b"GPU-1234"]
    assert (seen.sm_clock_mhz, seen.memory_clock_mhz) == (1755, 2619)
    assert (seen.power_w, seen.temperature_c) == (698.5, 83)
    assert seen.throttled == ("software power cap", "hardware thermal slowdown")


def test_without_nvml_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert telemetry.look("cuda") == telemetry.Reading()
    assert telemetry.look("cpu").load_1min is not None


def reading(ran_s: float | None, waited_s: float | None, *throttled: str) -> telemetry.Reading:
    return telemetry.Reading(ran_s=ran_s, waited_s=waited_s, throttled=throttled)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (reading(5.0, 1.0), reading(9.0, 4.0), "disturbed: its threads waited 43% of their time"),
        (reading(5.0, 1.0), reading(9.0, 1.4), ""),
        (reading(5.0, 1.0), reading(4.0, 9.0), ""),  # a thread ended: nothing can be said
        (reading(None, None), reading(None, None), ""),
        (reading(None, None), reading(None, None, "software power cap"), "throttled: software"),
    ],
)
def test_what_makes_times_suspect_is_said(
    before: telemetry.Reading, after: telemetry.Reading, says: str
) -> None:
    note = telemetry.disturbance(before, after)
    assert says in note
    assert telemetry.is_suspect(f"lists in 3 ms {note}") == bool(note) == bool(says)


ON_ONE_CORE = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
SPIN = "while True: pass\n"
WATCH = """
import time
from attnbench.measure.telemetry import disturbance, look
before = look("cpu")
while time.process_time() < 1.0: pass
print(disturbance(before, look("cpu")))
"""


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no scheduler's counts here")
def test_a_core_that_is_shared_disturbs() -> None:
    """Beside three others on one core a process waits three quarters of its time."""
    others = [subprocess.Popen([sys.executable, "-c", ON_ONE_CORE + SPIN]) for _ in range(3)]
    try:
        said = subprocess.run(
            [sys.executable, "-c", ON_ONE_CORE + WATCH], capture_output=True, text=True, check=True
        ).stdout
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert said.startswith("disturbed: its threads waited")
