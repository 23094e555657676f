"""What runs in a child process: proves a group's points right, then times them."""

import importlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from attnbench.calc.operands import held_bytes
from attnbench.measure import accuracy, memory
from attnbench.measure.environment import Device, describe_device
from attnbench.measure.inputs import Inputs, clone, make_inputs
from attnbench.measure.isolation import Say
from attnbench.measure.plan import Group, Point
from attnbench.measure.preset import Timing
from attnbench.measure.rounds import Candidate, time_rounds, warm_up
from attnbench.measure.telemetry import Reading, look
from attnbench.measure.timer import Call, Rotated, copies_needed, make_timer
from attnbench.measure.turns import Turns
from attnbench.spec.attention import Mode
from attnbench.spec.result import Status

if TYPE_CHECKING:
    from torch import Tensor


class GroupJob(msgspec.Struct, frozen=True, kw_only=True):
    """A group to time: `skip` are indices of its points that are settled already.

    `memory` is whether a device's peak is measured.
    """

    group: Group
    skip: frozenset[int]
    device: Device
    timing: Timing
    memory: bool = True


class Outcome(msgspec.Struct, kw_only=True):
    """How one point ended. Figures stay None where it did not end `ok`."""

    status: Status = Status.OK
    note: str = ""
    setup_ms: float | None = None
    first_call_ms: float | None = None
    errors: accuracy.Errors | None = None
    peak: memory.Peak | None = None
    rounds_ms: list[list[float]] = []


class GroupOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes by index of point, where the time went, and the device before and after."""

    outcomes: dict[int, Outcome]
    timer: str
    check_s: float
    setup_s: float
    memory_s: float
    calls_s: float
    readings: tuple[Reading, Reading]


def probe(wanted: str, say: Say) -> Device:
    """Job: describe the device that `wanted` stands for."""
    return describe_device(wanted)


def run_group(job: GroupJob, say: Say) -> GroupOutcome:
    """Job: prove each point of a group right, then time those that are, interleaved."""
    turns = Turns.of_environment()
    turns.take(lambda: say(""))
    try:
        runner = _Runner(job, say, turns)
        for index, point in enumerate(job.group.points):
            if index not in job.skip:
                runner.prove(index, point)
        return runner.finish()
    finally:
        turns.give()


# autograd.grad imports it, and sympy, at its first call: a second that is no kernel's own.
_GRAD_IMPORTS = "torch.fx.experimental.symbolic_shapes"


class _Runner:
    """One group in one process: inputs and references are made once and shared."""

    def __init__(self, job: GroupJob, say: Say, turns: Turns) -> None:
        self.job = job
        self.say = say
        self.turns = turns
        self.outcomes: dict[int, Outcome] = {}
        self.calls: dict[int, Call] = {}
        self.seconds = {"check": 0.0, "setup": 0.0, "memory": 0.0}
        self.timer = make_timer(
            job.device.type,
            kind=job.timing.timer,
            cache=job.timing.cache,
            cache_bytes=job.device.cache_bytes,
        )
        if job.group.mode in (Mode.BWD, Mode.FWD_BWD):
            self._spend("setup", lambda: importlib.import_module(_GRAD_IMPORTS))
        self.inputs = make_inputs(job.group.shape, job.group.mode, job.device.type)
        self.checker = accuracy.Checker(self.inputs, job.group.shape, job.group.mode)

    def prove(self, index: int, point: Point) -> None:
        """Prepare a point, call it once, and hold its output against float64."""
        self.say(str(index))
        outcome = self.outcomes[index] = Outcome()
        _, backend = point.implementation()
        device_type = self.job.device.type
        reason = backend.supports(point.shape, point.mode, point.params, device_type)
        if reason is not None:
            outcome.status, outcome.note = Status.UNSUPPORTED, reason
            return
        try:
            if device_type == "cuda" and self.job.memory:
                self._spend("memory", lambda: self._device_peak(point, outcome))
            self._prepare(index, point, outcome)
        except Exception as error:
            self.calls.pop(index, None)
            outcome.status, outcome.note = classify(error)
        if outcome.status is Status.OK and device_type in backend.interpreted_on:
            assert outcome.errors is not None
            del self.calls[index]
            outcome.status = Status.INTERPRETED
            outcome.note = (
                f"checked, not timed: kernel_error {outcome.errors.kernel_error:.1e}"
                f" within {outcome.errors.limit:.1e}"
            )

    def _prepare(self, index: int, point: Point, outcome: Outcome) -> None:
        start = time.perf_counter()
        chosen: list[str] = []
        call = self._call(point, chosen.append)
        outcome.setup_ms = (time.perf_counter() - start) * 1e3
        start = time.perf_counter()
        result = call()
        synchronize(self.job.device.type)
        outcome.first_call_ms = (time.perf_counter() - start) * 1e3
        self.seconds["setup"] += (outcome.setup_ms + outcome.first_call_ms) / 1e3
        self.say(str(index))
        wrong = accuracy.misformed(result, self.inputs.query)
        if wrong is not None:
            outcome.status, outcome.note = Status.INCORRECT, wrong
            return
        outcome.errors = self._spend("check", lambda: self.checker.check(point, result))
        if not outcome.errors.passed:
            outcome.status = Status.INCORRECT
            outcome.note = outcome.errors.explain()
            return
        outcome.note = chosen[0]
        self.calls[index] = call

    def _call(self, point: Point, tell: Say) -> Call:
        """The call to be timed; on copies of the inputs in turn where the timer asks for it."""
        device, cache_bytes = self.job.device.type, self.job.device.cache_bytes
        copies = 1
        if self.timer.rotates and self.job.timing.cache == "cold" and cache_bytes:
            copies = copies_needed(held_bytes(point.shape, point.mode), cache_bytes)
        calls = [build_call(point, self.inputs, device, tell)]
        calls += [build_call(point, clone(self.inputs), device) for _ in range(copies - 1)]
        return Rotated(calls) if copies > 1 else calls[0]

    def _device_peak(self, point: Point, outcome: Outcome) -> None:
        outcome.peak = memory.device_peak(
            lambda: build_call(point, self.inputs, self.job.device.type)(), point
        )

    def _spend(self, phase: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds[phase] += time.perf_counter() - start

    def finish(self) -> GroupOutcome:
        """Time every point that was proven, and answer for the whole group."""
        self.checker.forget()
        candidates = {i: Candidate(label=str(i), call=call) for i, call in self.calls.items()}
        before = look(self.job.device.type)
        self._time(candidates)
        for index, candidate in candidates.items():
            self.outcomes[index].rounds_ms = candidate.rounds_ms
        return GroupOutcome(
            outcomes=self.outcomes,
            timer=self.timer.name,
            calls_s=self.timer.inside_ms / 1e3,
            readings=(before, look(self.job.device.type)),
            **{f"{phase}_s": spent for phase, spent in self.seconds.items()},
        )

    def _time(self, candidates: dict[int, Candidate]) -> None:
        for candidate in list(candidates.values()):
            self.say(candidate.label)
            warm_up(candidate, self.timer, self.job.timing)
        self.turns.pass_on(lambda: self.say(""))
        time_rounds(list(candidates.values()), self.timer, self.job.timing, self.say, self.turns)


def build_call(
    point: Point, inputs: Inputs, device_type: str, tell: Say = lambda word: None
) -> Call:
    """Prepare `point` and answer the call to be timed; `tell` what its backend chose.

    The call answers the output (fwd, decode), or output and gradients of query, key
    and value (bwd, fwd_bwd; bwd's output is of a forward made here, outside the call).
    """
    import torch

    _, backend = point.implementation()
    state = backend.prepare(point.shape, point.params, device_type)
    tell(backend.chose(state))
    q, k, v = inputs.query, inputs.key, inputs.value

    def forward_alone() -> "Tensor":
        with torch.no_grad():
            return backend.forward(q, k, v, state)

    if point.mode in (Mode.FWD, Mode.DECODE):
        return forward_alone
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    once = point.mode is Mode.FWD_BWD

    def backward(out: "Tensor") -> tuple["Tensor", ...]:
        grads = torch.autograd.grad(out, (q, k, v), inputs.grad_output, retain_graph=not once)
        return (out, *grads)

    if once:
        return lambda: backward(backend.forward(q, k, v, state))
    out = backend.forward(q, k, v, state)
    return lambda: backward(out)


def synchronize(device_type: str) -> None:
    """Wait until the device is idle."""
    if device_type == "cuda":
        import torch

        torch.cuda.synchronize()


def classify(error: Exception) -> tuple[Status, str]:
    """Status and note of a point that raised `error`.

    Raises:
        Exception: `error` itself, where it has broken the device for the process.
    """
    import torch

    text = " ".join(str(error).split())[:300]
    out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if out_of_memory or "can't allocate memory" in text or "not enough memory" in text:
        return Status.OOM, text or "out of memory"
    broken = getattr(torch, "AcceleratorError", None)
    if broken is not None and isinstance(error, broken):
        raise error
    return Status.ERROR, f"{type(error).__name__}: {text}"
