"""Runs a job in a child process, so that a crash, a hang or an OOM kill costs one job.

Children are forked from a server that has imported torch but never used it: a fresh
child costs milliseconds, and holds no memory or thread of an earlier one. The parent
itself never imports torch.
"""

import contextlib
import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

import msgspec

from attnbench import variants

# What jobs import beside torch stands in the server too, or it would be in `setup_ms`.
_HELPERS = [m.name for m in pkgutil.iter_modules(variants.__path__) if m.name.startswith("_")]
PRELOAD = ["torch", "attnbench.measure.worker", *(f"{variants.__name__}.{n}" for n in _HELPERS)]
_GRACE_S = 2.0
_STARTING = threading.Lock()  # threads may run jobs at once

Say = Callable[[str], None]
"""Tells the parent what the job is at; each word starts the time limit afresh."""

Job = Callable[[Any, Say], Any]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended: with a `result`, or with how it `failed` and what it was at.

    `failed` is "error", "timeout" or "crash"; `at` is the last word it said.
    """

    result: Any = None
    failed: str | None = None
    reason: str = ""
    at: str = ""


def preload(*modules: str) -> None:
    """Have the server import `modules` too, for jobs that all need them; before the first job."""
    PRELOAD.extend(module for module in modules if module not in PRELOAD)


def run_isolated(
    job: Job,
    payload: Any,
    *,
    time_limit_s: float | None = None,
    memory_limit_bytes: int | None = None,
    hear: Callable[[str], None] | None = None,
) -> Ended:
    """Run `job(payload, say)` in a child; `job` must be a module-level function.

    The child is killed where it says nothing for `time_limit_s`. With
    `memory_limit_bytes`, an allocation beyond that fails in the child. `hear` is given
    each word as it is said, and so keeps what a job that dies had said by then.
    """
    context = _context()
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(
        target=_serve, args=(job, payload, theirs, memory_limit_bytes), daemon=True
    )
    with _without_main():
        child.start()
    theirs.close()
    try:
        return _listen(child, mine, time_limit_s, hear)
    finally:
        mine.close()
        if child.is_alive():
            child.kill()
        child.join()
        child.close()


def _listen(
    child: Any,
    pipe: Connection,
    time_limit_s: float | None,
    hear: Callable[[str], None] | None,
) -> Ended:
    at = ""
    while True:
        if not wait([pipe, child.sentinel], timeout=time_limit_s):
            return Ended(failed="timeout", reason=f"silent for {time_limit_s:g} s", at=at)
        try:
            kind, content = pipe.recv()
        except EOFError:
            child.join(_GRACE_S)
            return Ended(failed="crash", reason=_death(child.exitcode), at=at)
        if kind == "done":
            child.join(_GRACE_S)
            return Ended(result=content, at=at)
        if kind == "error":
            return Ended(failed="error", reason=content, at=at)
        at = content
        if hear is not None:
            hear(at)


def _context() -> Any:
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(PRELOAD)
    return context


@contextlib.contextmanager
def _without_main() -> Any:
    """Keep multiprocessing from importing the caller's `__main__` in the child.

    Jobs are module-level functions of attnbench: what the user's main program is
    (pytest, a notebook, a script without a guard) does not matter to them.
    """
    with _STARTING:
        yield from _hidden_main()


def _hidden_main() -> Iterator[None]:
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


def _death(exit_code: int | None) -> str:
    if exit_code is None:
        return "the process vanished"
    if exit_code >= 0:
        return f"the process exited with code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"the process was ended by {name}{hint}"


def _serve(job: Job, payload: Any, pipe: Connection, memory_limit_bytes: int | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and kills
    os.dup2(2, 1)  # stdout carries the command's result, and nothing that a kernel prints
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if memory_limit_bytes is not None:
        _limit_memory(memory_limit_bytes)
    try:
        answer = ("done", job(payload, lambda word: pipe.send(("at", word))))
    except Exception as error:
        text = " ".join(str(error).split())
        answer = ("error", f"{type(error).__name__}: {text}"[:500])
    pipe.send(answer)
    pipe.close()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _limit_memory(limit_bytes: int) -> None:
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/status", encoding="ascii") as status:
        held = next((int(line.split()[1]) for line in status if line.startswith("VmData")), 0)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held * 1024 + limit_bytes
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
